#include "worker/client/connection_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include "shm/common/clock.h"
#include "shm/common/memory.h"
#include "shm/worker_table.h"

/* Who drains less than this in that time is slow: 8 MB/s. The kernel's buffer alone may take more than a
 * megabyte at once. */
#define CONNECTION_WINDOW_NS    (200 * CLOCK_MILLISECOND)
#define CONNECTION_WINDOW_BYTES 1600000

static void count_deliveries_dropped(const struct connection *connection, size_t lost)
{
    if (lost > 0)
        worker_count(&connection->owner->settings.counters, COUNTER_DELIVERIES_DROPPED, lost);
}

void connection_set_deadline(struct connection *connection, enum deadline_class which)
{
    deadline_set(connection->owner->deadlines, &connection->deadline, which);
}

void connection_clear_deadline(struct connection *connection)
{
    deadline_clear(connection->owner->deadlines, &connection->deadline);
}

/* ---- its end ---- */

static void connection_drop_backlog(struct connection *connection)
{
    struct connection_backlog *backlog = connection->backlog;
    if (!backlog)
        return;
    count_deliveries_dropped(connection, output_queue_clear(&backlog->queue));
    deadline_clear(connection->owner->deadlines, &backlog->stall);
    free(backlog);
    connection->backlog = NULL;
}

static void connection_rearm(struct connection *connection, bool read, bool write)
{
    const struct poller_wants was = {.read = connection->read_armed, .write = connection->write_armed};
    const struct poller_wants wants = {.read = read, .write = write};
    connection->read_armed = read;
    connection->write_armed = write;
    poller_change(connection->owner->poller, connection->transport.fd, connection, was, wants);
}

static inline void connection_wait_for(struct connection *connection, bool read, bool write)
{
    if (connection->read_armed != read || connection->write_armed != write)
        connection_rearm(connection, read, write);
}

/* Its stage has it no longer. */
static void connection_leave(struct connection *connection, enum connection_state state)
{
    if (connection->state == CONNECTION_UP && operations_of(connection)->ended)
        operations_of(connection)->ended(connection);
    connection_clear_deadline(connection);
    connection->state = (uint8_t)state;
}

void connection_kill(struct connection *connection)
{
    if (connection->state == CONNECTION_DEAD)
        return;
    connection_leave(connection, CONNECTION_DEAD);
    connection_wait_for(connection, false, false);
    connection_drop_backlog(connection);
    transport_forget_held(&connection->transport);
    connection_settle_later(connection);
}

static void connection_shutdown(struct connection *connection)
{
    connection->state = CONNECTION_LINGERING;
    transport_end(&connection->transport);
    /* close(2) with unread input would send a reset, which may overtake our last bytes: end our side, then
     * wait for theirs */
    if (shutdown(connection->transport.fd, SHUT_WR) < 0 || connection->input_ended) {
        connection_kill(connection);
        return;
    }
    connection_set_deadline(connection, DEADLINE_LINGER);
    connection_update_events(connection);
}

void connection_finish(struct connection *connection)
{
    if (connection->state != CONNECTION_UP)
        return;
    connection_leave(connection, CONNECTION_FINISHING);
    if (!connection->backlog)
        connection_shutdown(connection);
    else
        connection_update_events(connection);
}

size_t connection_held(const struct connection *connection)
{
    if (connection->state == CONNECTION_DEAD)
        return 0;
    size_t held = operations_of(connection)->held ? operations_of(connection)->held(connection) : 0;
    return held + connection_queued_bytes(connection) + transport_held_bytes(&connection->transport);
}

void connection_close_over_memory(struct connection *connection)
{
    const struct connection_stage_operations *operations = operations_of(connection);
    if (connection->state == CONNECTION_UP && operations->over_memory)
        operations->over_memory(connection);
    else
        connection_kill(connection);
    /* Nothing of it is being read now, and nothing will be: without this its memory would still count, and
     * the next would go for it. */
    if (operations->release)
        operations->release(connection);
}

/* ---- events ---- */

void connection_settle_later(struct connection *connection)
{
    struct connections *owner = connection->owner;
    if (connection->settling)
        return;
    connection->settling = true;
    connection->next_settle = owner->settle;
    owner->settle = connection;
    event_active(owner->settle_event, EV_TIMEOUT, 0);
}

static bool connection_wants_input(const struct connection *connection)
{
    if (connection->state != CONNECTION_UP)
        return !connection->input_ended;
    return !operations_of(connection)->wants_input || operations_of(connection)->wants_input(connection);
}

void connection_update_events(struct connection *connection)
{
    if (connection->state == CONNECTION_DEAD)
        return;
    bool read = connection_wants_input(connection);
    if (read && connection->transport.has_input)
        connection_settle_later(connection);
    connection_wait_for(connection, read, connection->backlog || connection->transport.wants_write);
}

/* ---- output ---- */

size_t connection_queued_bytes(const struct connection *connection)
{
    return connection->backlog ? connection->backlog->queue.bytes : 0;
}

size_t connection_drop_unsent(struct connection *connection)
{
    size_t dropped = connection->backlog ? output_queue_drop_unsent(&connection->backlog->queue) : 0;
    count_deliveries_dropped(connection, dropped);
    return dropped;
}

bool connection_over_limit(const struct connection *connection, size_t more)
{
    size_t queued = connection_queued_bytes(connection);
    return queued > 0 && queued + more > connection->owner->settings.queue_max_bytes;
}

bool connection_deserves_breath(struct connection *connection, uint64_t now_ns)
{
    struct connection_backlog *backlog = connection->backlog;
    if (backlog->slow || backlog->queue.bytes < connection->owner->settings.queue_max_bytes / 4)
        return false;
    if (now_ns - backlog->window_ns < CONNECTION_WINDOW_NS)
        return true;
    backlog->slow = backlog->drained < CONNECTION_WINDOW_BYTES;
    backlog->window_ns = now_ns;
    backlog->drained = 0;
    return !backlog->slow;
}

static struct connection_backlog *connection_need_backlog(struct connection *connection)
{
    struct connection_backlog *backlog = connection->backlog;
    if (!backlog) {
        backlog = connection->backlog = memory_allocate(sizeof *backlog);
        backlog->connection = connection;
        backlog->window_ns = clock_monotonic_ns();
        backlog->queue.ledger = &connection->owner->settings.ledger->held;
        deadline_set(connection->owner->deadlines, &backlog->stall, DEADLINE_STALL);
    }
    return backlog;
}

void connection_hold(struct connection *connection)
{
    connection_need_backlog(connection);
    connection_update_events(connection);
}

void connection_queue(struct connection *connection, const struct output_parts *parts)
{
    if (connection->state == CONNECTION_DEAD) {
        output_block_drop(parts->block);
        return;
    }
    output_queue_append(&connection_need_backlog(connection)->queue, parts);
    connection_update_events(connection);
}

void connection_send(struct connection *connection, const struct output_parts *parts)
{
    if (connection->state == CONNECTION_DEAD || connection->backlog) {
        connection_queue(connection, parts);
        return;
    }
    struct slice block = parts->block ? output_block_bytes(parts->block) : (struct slice){0};
    const struct slice pieces[] = {parts->head, block, parts->tail};
    struct iovec vector[3];
    size_t count = 0;
    uint64_t calls = 0;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        if (pieces[i].length > 0)
            vector[count++] = (struct iovec){(void *)(uintptr_t)pieces[i].data, pieces[i].length};
    ssize_t sent = connection_write(connection, vector, count, &calls);
    worker_count(&connection->owner->settings.counters, COUNTER_SEND_CALLS, calls);
    if (sent < 0 && !transport_would_block(errno)) {
        output_block_drop(parts->block);
        connection_kill(connection);
        return;
    }
    struct output_parts rest = *parts;
    rest.sent = sent > 0 ? (size_t)sent : 0;
    if (rest.sent < parts->head.length + block.length + parts->tail.length)
        connection_queue(connection, &rest);
    else
        output_block_drop(parts->block);
}

static void connection_flush(struct connection *connection)
{
    const struct connections_settings *settings = &connection->owner->settings;
    struct connection_backlog *backlog = connection->backlog;
    size_t sent;
    uint64_t calls = 0;
    enum output_result result = output_queue_flush(&backlog->queue, &connection->transport, &sent, &calls);
    worker_count(&settings->counters, COUNTER_SEND_CALLS, calls);
    backlog->drained += sent;
    if (result == OUTPUT_ERROR) {
        connection_kill(connection);
        return;
    }
    if (result == OUTPUT_AGAIN) {
        if (sent > 0)
            deadline_set(connection->owner->deadlines, &backlog->stall, DEADLINE_STALL);
        return;
    }
    connection_drop_backlog(connection);
    settings->drained(settings->context);
    if (connection->state == CONNECTION_FINISHING)
        connection_shutdown(connection);
    else
        connection_update_events(connection);
}

/* ---- input ---- */

static void connection_end_of_input(struct connection *connection)
{
    if (connection->state == CONNECTION_UP) {
        operations_of(connection)->end_of_input(connection);
    } else if (connection->state == CONNECTION_FINISHING) {
        /* It may only have ended its own side, as `nc -N` does: it gets its last bytes; the stall limit
         * runs. */
        connection->input_ended = true;
        connection_update_events(connection);
    } else {
        connection_kill(connection);
    }
}

/* One read for a wake-up: it empties the socket of nearly every client, and one that sends without end gives
 * way to the others. */
void connection_read(struct connection *connection)
{
    struct connections *owner = connection->owner;
    bool up = connection->state == CONNECTION_UP;
    if (!connection->read_armed ||
        (up && operations_of(connection)->ready && !operations_of(connection)->ready(connection)))
        return;
    ssize_t length = transport_receive(&connection->transport, owner->read_buffer, sizeof owner->read_buffer);
    if (length < 0) {
        if (!transport_would_block(errno))
            connection_kill(connection);
        return;
    }
    if (length == 0) {
        connection_end_of_input(connection);
        return;
    }
    if (up) /* else it is discarded */
        operations_of(connection)->input(connection, owner->read_buffer, (size_t)length);
    memory_ledger_check(owner->settings.ledger);
    connection_update_events(connection);
}

void connection_ready(void *argument, bool readable, bool writable)
{
    struct connection *connection = object_cast(struct connection, CONNECTION_MAGIC, argument);
    if (writable && connection->backlog)
        connection_flush(connection);
    if (readable || (connection->state == CONNECTION_UP && operations_of(connection)->ready))
        connection_read(connection);
}

/* ---- time ---- */

static struct connection *deadline_owner(enum deadline_class which, struct deadline *deadline)
{
    char *at = (char *)deadline;
    if (which == DEADLINE_STALL)
        return ((struct connection_backlog *)(void *)(at - offsetof(struct connection_backlog, stall)))
            ->connection;
    return (struct connection *)(void *)(at - offsetof(struct connection, deadline));
}

void connection_deadline_expired(void *context, enum deadline_class which, struct deadline *deadline)
{
    struct connection *connection =
        object_cast(struct connection, CONNECTION_MAGIC, deadline_owner(which, deadline));
    (void)context;
    if (connection->state == CONNECTION_UP)
        operations_of(connection)->deadline(connection, which);
    else
        connection_kill(connection);
}

/* ---- for connections.c ---- */

void connection_free(struct connection *connection)
{
    struct connections *owner = connection->owner;
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        owner->first = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    if (operations_of(connection)->free)
        operations_of(connection)->free(connection);
    free(connection->proxied);
    transport_close(&connection->transport);
    worker_table_set_connections(
        owner->settings.counters.segment, owner->settings.counters.slot, --owner->count);
    connection->magic = 0;
    pool_free(owner->pool, connection);
}
