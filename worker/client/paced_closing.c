#include "worker/client/paced_closing.h"

#include <stdlib.h>
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "worker/client/websocket_session.h"

#define PACED_CLOSING_MAGIC    UINT32_C(0x9aced105)
#define PACED_CLOSING_TICK_MS  50
#define PACED_CLOSING_LOG_EACH (5 * CLOCK_SECOND)

struct paced_closing {
    uint32_t magic;
    struct paced_closing_settings settings;
    struct event *timer;
    /* shuffled; NULL where one ended by itself. connection->paced_index is one more than its place here. */
    struct connection **order;
    uint32_t count;
    uint32_t next;
    uint32_t closed;
    double per_second;
    uint64_t started_ns;
    /* closes due since started_ns that were made or had become needless */
    uint64_t due;
    uint64_t next_log_ns;
    bool counted;
    const char *why;
};

static void paced_reset(struct paced_closing *paced)
{
    for (uint32_t i = paced->next; i < paced->count; i++)
        if (paced->order[i])
            paced->order[i]->paced_index = 0;
    free(paced->order);
    paced->order = NULL;
    paced->count = paced->next = paced->closed = 0;
    event_del(paced->timer);
}

static void paced_collect(struct paced_closing *paced)
{
    struct connections *connections = paced->settings.connections;
    paced->order = memory_allocate((connections_count(connections) + 1) * sizeof(struct connection *));
    for (struct connection *at = connections_first(connections); at; at = at->next)
        if (at->is_open)
            paced->order[paced->count++] = at;
    for (uint32_t i = paced->count; i > 1; i--) { /* Fisher and Yates */
        uint32_t j = arc4random_uniform(i);
        struct connection *swap = paced->order[i - 1];
        paced->order[i - 1] = paced->order[j];
        paced->order[j] = swap;
    }
    for (uint32_t i = 0; i < paced->count; i++)
        paced->order[i]->paced_index = i + 1;
}

/* Closes those that are due `now`. */
static void paced_close_due(struct paced_closing *paced, uint64_t now)
{
    double seconds =
        (double)(now - paced->started_ns) / (double)CLOCK_SECOND + PACED_CLOSING_TICK_MS / 1000.0;
    uint64_t due = (uint64_t)(seconds * paced->per_second);
    while (paced->next < paced->count && paced->due < due) {
        struct connection *connection = paced->order[paced->next++];
        if (!connection)
            continue;
        paced->due++;
        paced->closed++;
        connection->paced_index = 0;
        if (paced->counted)
            worker_count(&paced->settings.counters, COUNTER_RESYNC_CLOSES, 1);
        websocket_session_fail(connection, WEBSOCKET_CLOSE_SERVICE_RESTART, "");
    }
}

static void paced_tick(evutil_socket_t fd, short what, void *argument)
{
    struct paced_closing *paced = object_cast(struct paced_closing, PACED_CLOSING_MAGIC, argument);
    uint64_t now = clock_monotonic_ns();
    (void)fd;
    (void)what;
    paced_close_due(paced, now);
    if (paced->next == paced->count) {
        log_write(LOG_INFO, LOGGER_WORKER, "%s: closed %u client connection(s)", paced->why, paced->closed);
        paced_reset(paced);
    } else if (now >= paced->next_log_ns) {
        paced->next_log_ns = now + PACED_CLOSING_LOG_EACH;
        log_write(LOG_INFO, LOGGER_WORKER, "%s: closed %u of %u client connection(s)", paced->why,
            paced->closed, paced->count);
    }
}

void paced_closing_start(struct paced_closing *paced, double per_second, bool counted, const char *why)
{
    const struct timeval tick = {.tv_usec = PACED_CLOSING_TICK_MS * 1000};
    paced_reset(paced);
    paced_collect(paced);
    paced->per_second = per_second;
    paced->counted = counted;
    paced->why = why;
    paced->started_ns = clock_monotonic_ns();
    paced->next_log_ns = paced->started_ns + PACED_CLOSING_LOG_EACH;
    paced->due = 0;
    if (paced->count == 0)
        return;
    log_write(LOG_INFO, LOGGER_WORKER,
        "%s: closing %u client connection(s) to trigger client-side reconciliation, %.0f a second", why,
        paced->count, per_second);
    event_add(paced->timer, &tick);
    paced_tick(-1, EV_TIMEOUT, paced);
}

void paced_closing_forget(struct paced_closing *paced, struct connection *connection)
{
    if (connection->paced_index == 0)
        return;
    paced->order[connection->paced_index - 1] = NULL;
    connection->paced_index = 0;
}

struct paced_closing *paced_closing_open(const struct paced_closing_settings *settings)
{
    struct paced_closing *paced = memory_allocate(sizeof *paced);
    paced->magic = PACED_CLOSING_MAGIC;
    paced->settings = *settings;
    paced->timer = event_new(settings->base, -1, EV_PERSIST, paced_tick, paced);
    if (!paced->timer)
        abort(); /* only out of memory */
    return paced;
}

void paced_closing_close(struct paced_closing *paced)
{
    if (!paced)
        return;
    paced_reset(paced);
    event_free(paced->timer);
    paced->magic = 0;
    free(paced);
}
