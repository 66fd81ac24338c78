#include "worker/client/connection.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include "shm/common/clock.h"
#include "shm/common/memory.h"
#include "worker/client/client_details.h"
#include "worker/client/paced_closing.h"
#include "worker/client/context.h"
#include "worker/fanout/fanout.h"
#include "worker/client/memory_budget.h"
#include "worker/net/poller.h"
#include "worker/net/pool.h"
#include "worker/client/websocket_session.h"

/* Who drains less than this in that time is slow: 8 MB/s. The kernel's buffer alone may take more than a megabyte at once. */
#define CONNECTION_WINDOW_NS    (200 * CLOCK_MILLISECOND)
#define CONNECTION_WINDOW_BYTES 1600000

void connection_open(struct worker *worker, int fd)
{
    struct connection *connection = pool_allocate(worker->connection_pool);
    connection->magic = CONNECTION_MAGIC;
    transport_open(&connection->transport, fd);
    connection->worker = worker;
    connection->state = CONNECTION_HTTP;
    connection->delivery_first = connection->delivery_last = FANOUT_NONE;
    connection->paced_index = PACED_CLOSING_NONE;
    connection->next = worker->connections;
    if (worker->connections)
        worker->connections->previous = connection;
    worker->connections = connection;
    worker_table_set_connections(worker->segment, worker->slot, ++worker->connection_count);
    connection_http_open(connection);
    connection_entrance_open(connection);
    connection_update_events(connection);
}

static void connection_drop_backlog(struct connection *connection)
{
    struct connection_backlog *backlog = connection->backlog;
    if (!backlog)
        return;
    size_t lost = output_queue_clear(&backlog->queue);
    if (lost > 0)
        worker_count(connection->worker, COUNTER_DELIVERIES_DROPPED, lost);
    deadline_clear(connection->worker->deadlines, &backlog->stall);
    free(backlog);
    connection->backlog = NULL;
}

static void connection_free(struct connection *connection)
{
    struct worker *worker = connection->worker;
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        worker->connections = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    connection_http_free(connection);
    worker->held_bytes -= websocket_parser_held(&connection->parser);
    client_details_free(connection);
    websocket_parser_free(&connection->parser);
    connection_token_end(connection);
    connection_entrance_free(connection);
    free(connection->proxied);
    transport_close(&connection->transport);
    worker_table_set_connections(worker->segment, worker->slot, --worker->connection_count);
    connection->magic = 0;
    pool_free(worker->connection_pool, connection);
}

static void connection_wait_for(struct connection *connection, bool read, bool write)
{
    if (connection->read_armed == read && connection->write_armed == write)
        return;
    const struct poller_wants was = {.read = connection->read_armed, .write = connection->write_armed};
    const struct poller_wants wants = {.read = read, .write = write};
    connection->read_armed = read;
    connection->write_armed = write;
    poller_change(connection->worker->poller, connection->transport.fd, connection, was, wants);
}

void connection_kill(struct connection *connection)
{
    if (connection->state == CONNECTION_DEAD)
        return;
    if (connection->was_websocket)
        websocket_session_ended(connection);
    connection->state = CONNECTION_DEAD;
    connection_wait_for(connection, false, false);
    deadline_clear(connection->worker->deadlines, &connection->deadline);
    connection_drop_backlog(connection);
    transport_forget_held(&connection->transport);
    connection_settle_later(connection);
}

void connection_settle_later(struct connection *connection)
{
    struct worker *worker = connection->worker;
    if (connection->settling)
        return;
    connection->settling = true;
    connection->next_settle = worker->settle;
    worker->settle = connection;
    event_active(worker->settle_event, EV_TIMEOUT, 0);
}

static void connection_read(struct connection *connection);

void connection_settle_all(struct worker *worker)
{
    struct connection *list = worker->settle;
    worker->settle = NULL; /* what comes while it is worked through has its turn in the loop's next round */
    while (list) {
        struct connection *connection = list;
        list = connection->next_settle;
        connection->settling = false;
        if (connection->state == CONNECTION_HTTP)
            connection_http_settle(connection);
        if (connection->read_armed && connection->transport.has_input)
            connection_read(connection);
        if (connection->state == CONNECTION_DEAD && !connection->settling)
            connection_free(connection);
    }
}

static bool connection_wants_input(const struct connection *connection)
{
    switch (connection->state) {
    case CONNECTION_HTTP:
        return connection_http_wants_input(connection);
    case CONNECTION_OPEN:
        return connection->pending == NULL;
    case CONNECTION_DEAD:
        return false;
    default:
        return !connection->input_ended;
    }
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

bool connection_over_limit(const struct connection *connection, size_t more)
{
    size_t queued = connection_queued_bytes(connection);
    return queued > 0 && queued + more > connection->worker->config->client_queue_max_bytes;
}

bool connection_deserves_breath(struct connection *connection, uint64_t now_ns)
{
    struct connection_backlog *backlog = connection->backlog;
    if (backlog->slow || backlog->queue.bytes < connection->worker->config->client_queue_max_bytes / 4)
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
        backlog = connection->backlog = memory_allocate(sizeof(*backlog));
        backlog->connection = connection;
        backlog->window_ns = clock_monotonic_ns();
        backlog->queue.ledger = &connection->worker->held_bytes;
        deadline_set(connection->worker->deadlines, &backlog->stall, DEADLINE_STALL);
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
    worker_count(connection->worker, COUNTER_SEND_CALLS, calls);
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

static void connection_shutdown(struct connection *connection)
{
    connection->state = CONNECTION_LINGERING;
    transport_end(&connection->transport);
    /* close(2) with unread input would send a reset, which may overtake our last bytes: end our side, then wait for theirs */
    if (shutdown(connection->transport.fd, SHUT_WR) < 0 || connection->input_ended) {
        connection_kill(connection);
        return;
    }
    deadline_set(connection->worker->deadlines, &connection->deadline, DEADLINE_LINGER);
    connection_update_events(connection);
}

void connection_finish(struct connection *connection)
{
    if (connection->state >= CONNECTION_FINISHING)
        return;
    if (connection->was_websocket)
        websocket_session_ended(connection);
    deadline_clear(connection->worker->deadlines, &connection->deadline);
    connection->state = CONNECTION_FINISHING;
    if (!connection->backlog)
        connection_shutdown(connection);
    else
        connection_update_events(connection);
}

static void connection_flush(struct connection *connection)
{
    struct connection_backlog *backlog = connection->backlog;
    size_t sent;
    uint64_t calls = 0;
    enum output_result result = output_queue_flush(&backlog->queue, &connection->transport, &sent, &calls);
    worker_count(connection->worker, COUNTER_SEND_CALLS, calls);
    backlog->drained += sent;
    if (result == OUTPUT_ERROR) {
        connection_kill(connection);
        return;
    }
    if (result == OUTPUT_AGAIN) {
        if (sent > 0)
            deadline_set(connection->worker->deadlines, &backlog->stall, DEADLINE_STALL);
        return;
    }
    connection_drop_backlog(connection);
    fanout_client_caught_up(connection->worker->fanout);
    if (connection->state == CONNECTION_FINISHING)
        connection_shutdown(connection);
    else
        connection_update_events(connection);
}

/* ---- input ---- */

static void connection_end_of_input(struct connection *connection)
{
    if (connection->state == CONNECTION_HTTP) {
        connection_http_end_of_input(connection);
    } else if (connection->state == CONNECTION_FINISHING) {
        /* It may only have ended its own side, as `nc -N` does: it gets its last bytes; the stall limit runs. */
        connection->input_ended = true;
        connection_update_events(connection);
    } else {
        connection_kill(connection);
    }
}

/* One read for a wake-up: it empties the socket of nearly every client, and one that sends without end gives way to the others. */
static void connection_read(struct connection *connection)
{
    char *buffer = connection->worker->read_buffer;
    if (!connection->read_armed)
        return;
    if (connection->entrance && !connection_enter(connection))
        return;
    ssize_t length = transport_receive(&connection->transport, buffer, WORKER_READ_BUFFER);
    if (length < 0) {
        if (!transport_would_block(errno))
            connection_kill(connection);
        return;
    }
    if (length == 0) {
        connection_end_of_input(connection);
        return;
    }
    switch (connection->state) {
    case CONNECTION_HTTP:
        connection_http_input(connection, buffer, (size_t)length);
        break;
    case CONNECTION_OPEN:
    case CONNECTION_CLOSING:
        websocket_session_input(connection, (uint8_t *)buffer, (size_t)length);
        break;
    default:
        break; /* lingering: discarded */
    }
    memory_budget_check(connection->worker);
    connection_update_events(connection);
}

void connection_ready(void *argument, bool readable, bool writable)
{
    struct connection *connection = argument;
    if (connection->magic != CONNECTION_MAGIC)
        abort();
    if (writable && connection->backlog)
        connection_flush(connection);
    if (readable || (writable && connection->entrance))
        connection_read(connection);
}

/* ---- time ---- */

static struct connection *deadline_owner(enum deadline_class which, struct deadline *deadline)
{
    if (which == DEADLINE_STALL) {
        char *backlog = (char *)deadline - offsetof(struct connection_backlog, stall);
        return ((struct connection_backlog *)(void *)backlog)->connection;
    }
    char *connection = (char *)deadline - offsetof(struct connection, deadline);
    return (struct connection *)(void *)connection;
}

void connection_deadline_expired(void *worker, enum deadline_class which, struct deadline *deadline)
{
    struct connection *connection = deadline_owner(which, deadline);
    (void)worker;
    if (connection->magic != CONNECTION_MAGIC)
        abort();
    switch (which) {
    case DEADLINE_ENTRANCE:
        connection_entrance_late(connection);
        break;
    case DEADLINE_HTTP_HEAD:
    case DEADLINE_HTTP_BODY:
    case DEADLINE_HTTP_IDLE:
        connection_http_timeout(connection);
        break;
    case DEADLINE_REFUSAL:
        connection_http_refuse(connection);
        break;
    case DEADLINE_BACKBONE:
        connection_http_backbone_late(connection);
        break;
    case DEADLINE_PING:
    case DEADLINE_PONG:
        websocket_session_deadline(connection, which);
        break;
    case DEADLINE_STALL:
        if (connection->state == CONNECTION_OPEN)
            websocket_session_too_slow(connection, 0);
        else
            connection_kill(connection);
        break;
    case DEADLINE_CLOSE:
        connection_finish(connection);
        break;
    default:
        if (which >= DEADLINE_FIRST_PING)
            websocket_session_deadline(connection, DEADLINE_PING);
        else
            connection_kill(connection);
        break;
    }
}
