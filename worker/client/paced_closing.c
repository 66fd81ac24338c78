#include "worker/client/paced_closing.h"

#include <stdlib.h>
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"
#include "worker/client/context.h"
#include "worker/client/websocket_session.h"

#define PACED_CLOSING_TICK_MS  50
#define PACED_CLOSING_LOG_EACH (5 * CLOCK_SECOND)

struct paced_closing {
    struct worker *worker;
    struct event *timer;
    struct connection **order; /* shuffled; NULL where one ended by itself */
    uint32_t count;
    uint32_t next;
    uint32_t closed;
    double per_second;
    uint64_t started_ns;
    uint64_t due; /* closes due since started_ns that were made or had become needless */
    uint64_t next_log_ns;
    bool counted;
    const char *why;
};

static void paced_closing_tick(evutil_socket_t fd, short what, void *argument);

struct paced_closing *paced_closing_open(struct worker *worker)
{
    struct paced_closing *closing = memory_allocate(sizeof(*closing));
    closing->worker = worker;
    closing->timer = event_new(worker->base, -1, EV_PERSIST, paced_closing_tick, closing);
    if (!closing->timer)
        abort(); /* only out of memory */
    return closing;
}

static void paced_closing_reset(struct paced_closing *closing)
{
    for (uint32_t i = closing->next; i < closing->count; i++)
        if (closing->order[i])
            closing->order[i]->paced_index = PACED_CLOSING_NONE;
    free(closing->order);
    closing->order = NULL;
    closing->count = closing->next = closing->closed = 0;
    event_del(closing->timer);
}

void paced_closing_close(struct paced_closing *closing)
{
    paced_closing_reset(closing);
    event_free(closing->timer);
    free(closing);
}

static void paced_closing_collect(struct paced_closing *closing)
{
    closing->order = memory_allocate((closing->worker->connection_count + 1) * sizeof(struct connection *));
    for (struct connection *at = closing->worker->connections; at; at = at->next)
        if (at->state == CONNECTION_OPEN)
            closing->order[closing->count++] = at;
    for (uint32_t i = closing->count; i > 1; i--) { /* Fisher and Yates */
        uint32_t j = arc4random_uniform(i);
        struct connection *swap = closing->order[i - 1];
        closing->order[i - 1] = closing->order[j];
        closing->order[j] = swap;
    }
    for (uint32_t i = 0; i < closing->count; i++)
        closing->order[i]->paced_index = i;
}

void paced_closing_start(struct paced_closing *closing, double per_second, bool counted, const char *why)
{
    struct timeval tick = {.tv_usec = PACED_CLOSING_TICK_MS * 1000};
    paced_closing_reset(closing);
    paced_closing_collect(closing);
    closing->per_second = per_second;
    closing->counted = counted;
    closing->why = why;
    closing->started_ns = clock_monotonic_ns();
    closing->next_log_ns = closing->started_ns + PACED_CLOSING_LOG_EACH;
    closing->due = 0;
    if (closing->count == 0)
        return;
    log_write(LOG_INFO, LOGGER_WORKER,
        "%s: closing %u client connection(s) to trigger client-side reconciliation, %.0f a second", why,
        closing->count, per_second);
    event_add(closing->timer, &tick);
    paced_closing_tick(-1, EV_TIMEOUT, closing);
}

static void paced_closing_tick(evutil_socket_t fd, short what, void *argument)
{
    struct paced_closing *closing = argument;
    uint64_t now = clock_monotonic_ns();
    (void)fd;
    (void)what;
    double seconds =
        (double)(now - closing->started_ns) / (double)CLOCK_SECOND + PACED_CLOSING_TICK_MS / 1000.0;
    uint64_t due = (uint64_t)(seconds * closing->per_second);
    if (due == 0)
        due = closing->due; /* a slow pace: not in each tick */
    while (closing->next < closing->count && closing->due < due) {
        struct connection *connection = closing->order[closing->next++];
        if (!connection)
            continue;
        closing->due++;
        closing->closed++;
        connection->paced_index = PACED_CLOSING_NONE;
        if (closing->counted)
            worker_count(closing->worker, COUNTER_RESYNC_CLOSES, 1);
        websocket_session_fail(connection, WEBSOCKET_CLOSE_SERVICE_RESTART, "");
    }
    if (closing->next == closing->count) {
        log_write(
            LOG_INFO, LOGGER_WORKER, "%s: closed %u client connection(s)", closing->why, closing->closed);
        paced_closing_reset(closing);
    } else if (now >= closing->next_log_ns) {
        closing->next_log_ns = now + PACED_CLOSING_LOG_EACH;
        log_write(LOG_INFO, LOGGER_WORKER, "%s: closed %u of %u client connection(s)", closing->why,
            closing->closed, closing->count);
    }
}

void paced_closing_forget(struct paced_closing *closing, struct connection *connection)
{
    if (connection->paced_index == PACED_CLOSING_NONE)
        return;
    closing->order[connection->paced_index] = NULL;
    connection->paced_index = PACED_CLOSING_NONE;
}
