#include "worker/client/websocket_session.h"

#include <string.h>
#include "shm/common/clock.h"
#include "shm/common/identity.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "worker/client/client_details.h"
#include "worker/client/paced_closing.h"
#include "worker/client/context.h"
#include "worker/client/rpc_methods.h"
#include "worker/rpc/rpc_stock_reply.h"

/* The places go round with a step that is prime to their number, so that any few clients in a row are far apart. */
#define FIRST_PING_STEP 13

static void session_first_ping(struct connection *connection)
{
    struct worker *worker = connection->worker;
    if (worker->config->websocket_ping_interval <= 0) {
        deadline_clear(worker->deadlines, &connection->deadline);
        return;
    }
    worker->first_ping = (worker->first_ping + FIRST_PING_STEP) % DEADLINE_FIRST_PINGS;
    deadline_set(worker->deadlines, &connection->deadline,
        (enum deadline_class)(DEADLINE_FIRST_PING + worker->first_ping));
}

void websocket_session_start(struct connection *connection, uint8_t *rest, size_t length)
{
    struct worker *worker = connection->worker;
    if (connection->state != CONNECTION_HTTP)
        return;
    connection->state = CONNECTION_OPEN;
    connection->was_websocket = true;
    connection->channel = identity_make();
    connection->opened_us = clock_realtime_us();
    worker_count(worker, COUNTER_WEBSOCKETS_OPENED, 1);
    log_write(LOG_INFO, LOGGER_WORKER, "connection open");
    log_write(LOG_INFO, LOGGER_WORKER, "Client connected");
    session_first_ping(connection);
    if (worker->draining) {
        websocket_session_fail(connection, WEBSOCKET_CLOSE_SERVICE_RESTART, "");
        return;
    }
    connection_token_start(connection);
    if (worker->config->statistics.enabled)
        client_details_greet(connection);
    if (length > 0)
        websocket_session_input(connection, rest, length);
}

/* Takes away what makes it a subscriber; the first step of every end. */
static void session_detach(struct connection *connection)
{
    subscriptions_remove_all(connection->worker->subscriptions, &connection->subscriptions);
    rpc_cancel(connection);
    client_details_withdraw(connection);
    paced_closing_forget(connection->worker->paced_closing, connection);
}

static void session_log_end(const struct connection *connection, const char *how)
{
    char channel[IDENTITY_HEX + 1] = {0};
    identity_format(&connection->channel, channel);
    log_write(LOG_INFO, LOGGER_WORKER, "%s - %u :: %s", how, connection->port, channel);
}

void websocket_session_ended(struct connection *connection)
{
    if (connection->ended)
        return;
    connection->ended = true;
    session_detach(connection);
    worker_count(connection->worker, COUNTER_WEBSOCKETS_CLOSED, 1);
    if (!connection->refused)
        session_log_end(connection, "Client disconnected");
}

/* ---- output ---- */

static void session_send_frame(
    struct connection *connection, enum websocket_opcode opcode, const void *payload, size_t length)
{
    uint8_t header[WEBSOCKET_HEADER_MAX];
    size_t header_length = websocket_header_write(header, opcode, length);
    struct output_parts parts = {
        .head = {(const char *)header, header_length},
        .tail = {payload, length},
    };
    if (connection_over_limit(connection, header_length + length))
        websocket_session_too_slow(connection, 0);
    else
        connection_send(connection, &parts);
}

void websocket_session_send_text(struct connection *connection, struct slice text)
{
    session_send_frame(connection, WEBSOCKET_TEXT, text.data, text.length);
}

static void session_send_close(struct connection *connection, uint16_t code, const char *reason)
{
    uint8_t frame[WEBSOCKET_HEADER_MAX + WEBSOCKET_CONTROL_MAX];
    size_t length = websocket_close_write(frame, code, reason);
    connection_send(connection, &(struct output_parts){.head = {(const char *)frame, length}});
}

void websocket_session_close(struct connection *connection, uint16_t code, const char *reason)
{
    if (connection->state != CONNECTION_OPEN)
        return;
    connection->state = CONNECTION_CLOSING;
    connection->refused = true;
    session_log_end(connection, "Client connection failed");
    session_detach(connection);
    session_send_close(connection, code, reason);
    if (connection->state != CONNECTION_CLOSING)
        return; /* the socket was broken */
    deadline_set(connection->worker->deadlines, &connection->deadline, DEADLINE_CLOSE);
    connection_update_events(connection);
}

void websocket_session_fail(struct connection *connection, uint16_t code, const char *reason)
{
    if (connection->state == CONNECTION_OPEN)
        session_send_close(connection, code, reason);
    connection_finish(connection);
}

/* What was not begun is dropped. */
static size_t session_drop_output(struct connection *connection)
{
    size_t dropped = connection->backlog ? output_queue_drop_unsent(&connection->backlog->queue) : 0;
    worker_count(connection->worker, COUNTER_DELIVERIES_DROPPED, dropped);
    return dropped;
}

/* It gets a linger time to read the rest of its frame and the close frame, and no longer. */
static void session_fail_quickly(struct connection *connection, const char *reason)
{
    websocket_session_fail(connection, WEBSOCKET_CLOSE_TRY_AGAIN_LATER, reason);
    if (connection->state == CONNECTION_FINISHING)
        deadline_set(connection->worker->deadlines, &connection->deadline, DEADLINE_LINGER);
}

void websocket_session_over_memory(struct connection *connection)
{
    session_drop_output(connection);
    session_fail_quickly(connection, "server busy");
}

void websocket_session_too_slow(struct connection *connection, size_t more)
{
    struct worker *worker = connection->worker;
    if (connection->state == CONNECTION_CLOSING) { /* it does not even take our close frame */
        connection_kill(connection);
        return;
    }
    if (connection->state != CONNECTION_OPEN)
        return;
    size_t queued = connection_queued_bytes(connection);
    size_t dropped = more + session_drop_output(connection);
    worker_count(worker, COUNTER_CLIENTS_TOO_SLOW, 1);
    worker_count(worker, COUNTER_DELIVERIES_DROPPED, more);
    log_write_limited(&worker->limit_slow, LOG_WARNING, LOGGER_WORKER,
        "Client too slow: %s left %zu bytes unread, closing it with 1013; it will miss %zu deliveries "
        "and refetch",
        client_details_label(connection, (char[CLIENT_LABEL_TEXT]){0}), queued, dropped);
    session_fail_quickly(connection, "client too slow");
}

/* ---- input ---- */

static void session_on_ping(struct connection *connection, struct slice payload)
{
    session_send_frame(connection, WEBSOCKET_PONG, payload.data, payload.length);
}

static void session_on_pong(struct connection *connection, struct slice payload)
{
    if (connection->deadline.which != DEADLINE_PONG || payload.length != sizeof(connection->ping_payload) ||
        memcmp(payload.data, connection->ping_payload, payload.length) != 0)
        return; /* unsolicited, or the answer to an older one */
    deadline_set(connection->worker->deadlines, &connection->deadline, DEADLINE_PING);
}

static void session_on_close(struct connection *connection, struct slice payload)
{
    if (connection->state ==
        CONNECTION_OPEN) /* echoed as it came; after our own close frame nothing more is sent */
        session_send_frame(connection, WEBSOCKET_CLOSE, payload.data, payload.length);
    connection_finish(connection);
}

static void session_on_failure(struct connection *connection, const struct websocket_failure *failure)
{
    struct worker *worker = connection->worker;
    worker_count(worker, COUNTER_PROTOCOL_ERRORS, 1);
    log_write_limited(&worker->limit_protocol, LOG_WARNING, LOGGER_WORKER,
        "Websocket protocol error from %s: %u %s",
        client_details_label(connection, (char[CLIENT_LABEL_TEXT]){0}), failure->code, failure->reason);
    websocket_session_fail(connection, failure->code, failure->reason);
}

static void session_dispatch(struct connection *connection, enum websocket_result result,
    struct slice payload, const struct websocket_failure *failure)
{
    switch (result) {
    case WEBSOCKET_MORE:
        break;
    case WEBSOCKET_TEXT_MESSAGE:
        if (connection->state == CONNECTION_OPEN)
            rpc_dispatch(connection, payload);
        break;
    case WEBSOCKET_BINARY_MESSAGE:
        websocket_session_close(connection, WEBSOCKET_CLOSE_NORMAL, "");
        break;
    case WEBSOCKET_PING_FRAME:
        session_on_ping(connection, payload);
        break;
    case WEBSOCKET_PONG_FRAME:
        session_on_pong(connection, payload);
        break;
    case WEBSOCKET_CLOSE_FRAME:
        session_on_close(connection, payload);
        break;
    case WEBSOCKET_FAILED:
        session_on_failure(connection, failure);
        break;
    }
}

/* Bytes of stock replies at the start of the input: nothing is to be done for them in any state, and they are nearly all there is. */
static size_t session_skip_replies(const struct connection *connection, const uint8_t *bytes, size_t length)
{
    if (!websocket_parser_between_messages(&connection->parser) ||
        connection->worker->config->websocket_message_max_bytes < RPC_STOCK_REPLY_LENGTH)
        return 0;
    return rpc_stock_reply_skip(bytes, length);
}

void websocket_session_input(struct connection *connection, uint8_t *bytes, size_t length)
{
    size_t held = websocket_parser_held(&connection->parser);
    uint64_t message_max = connection->worker->config->websocket_message_max_bytes;
    while (length > 0 && (connection->state == CONNECTION_OPEN || connection->state == CONNECTION_CLOSING)) {
        if (connection->pending) {
            rpc_hold(connection, bytes, length);
            break;
        }
        size_t replies = session_skip_replies(connection, bytes, length);
        bytes += replies;
        length -= replies;
        if (length == 0)
            break;
        size_t consumed;
        struct slice payload = {0};
        struct websocket_failure failure;
        enum websocket_result result = websocket_parser_next(
            &connection->parser, bytes, length, message_max, &consumed, &payload, &failure);
        bytes += consumed;
        length -= consumed;
        session_dispatch(connection, result, payload, &failure);
    }
    websocket_parser_tidy(&connection->parser);
    connection->worker->held_bytes += websocket_parser_held(&connection->parser) - held;
}

/* ---- keep-alive ---- */

void websocket_session_deadline(struct connection *connection, enum deadline_class which)
{
    struct worker *worker = connection->worker;
    if (connection->state != CONNECTION_OPEN)
        return;
    if (which == DEADLINE_PONG) {
        worker_count(worker, COUNTER_CLIENTS_PING_TIMEOUT, 1);
        log_write_limited(&worker->limit_ping, LOG_INFO, LOGGER_WORKER,
            "Client on %s did not answer a ping: keepalive ping timeout",
            client_details_label(connection, (char[CLIENT_LABEL_TEXT]){0}));
        websocket_session_fail(connection, WEBSOCKET_CLOSE_INTERNAL_ERROR, "keepalive ping timeout");
        return;
    }
    struct identity random = identity_make_fast();
    memcpy(connection->ping_payload, random.bytes, sizeof(connection->ping_payload));
    deadline_set(worker->deadlines, &connection->deadline, DEADLINE_PONG);
    session_send_frame(
        connection, WEBSOCKET_PING, connection->ping_payload, sizeof(connection->ping_payload));
}
