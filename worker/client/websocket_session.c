#include "worker/client/websocket_session_internal.h"

#include <string.h>
#include "shm/common/identity.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "worker/client/client_details.h"
#include "worker/client/rpc_methods.h"
#include "worker/rpc/rpc_stock_reply.h"

/* Our close frame is out, theirs is not here yet. */
static bool session_is_closing(const struct connection *connection)
{
    return connection->state == CONNECTION_UP && !connection->is_open;
}

void websocket_session_log_end(const struct connection *connection, const char *how)
{
    char channel[IDENTITY_HEX + 1] = {0};
    identity_format(&connection->channel, channel);
    log_write(LOG_INFO, LOGGER_WORKER, "%s - %u :: %s", how, connection->port, channel);
}

/* Takes away what makes it a subscriber; the first step of every end. */
void websocket_session_detach(struct connection *connection)
{
    struct websocket_stage *stage = websocket_stage_of(connection);
    const struct websocket_stage_settings *settings = &stage->settings;
    if (!connection->is_open)
        return;
    connection->is_open = false;
    stage->count--;
    subscriptions_remove_all(settings->subscriptions, &connection->subscriptions);
    rpc_methods_cancel(stage->methods, connection);
    client_details_withdraw(
        connection, settings->publisher, settings->config->statistics.remove_client_channel);
    settings->ended(settings->context, connection);
}

/* ---- output ---- */

void websocket_session_send(
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
    websocket_session_send(connection, WEBSOCKET_TEXT, text.data, text.length);
}

static void session_send_close(struct connection *connection, uint16_t code, const char *reason)
{
    uint8_t frame[WEBSOCKET_HEADER_MAX + WEBSOCKET_CONTROL_MAX];
    size_t length = websocket_close_write(frame, code, reason);
    connection_send(connection, &(struct output_parts){.head = {(const char *)frame, length}});
}

void websocket_session_close(struct connection *connection, uint16_t code, const char *reason)
{
    if (!connection->is_open)
        return;
    connection->refused = true;
    websocket_session_log_end(connection, "Client connection failed");
    websocket_session_detach(connection);
    session_send_close(connection, code, reason);
    if (!session_is_closing(connection))
        return; /* the socket was broken */
    connection_set_deadline(connection, DEADLINE_CLOSE);
    connection_update_events(connection);
}

void websocket_session_fail(struct connection *connection, uint16_t code, const char *reason)
{
    if (connection->is_open)
        session_send_close(connection, code, reason);
    connection_finish(connection);
}

/* It gets a linger time to read the rest of its frame and the close frame, and no longer. */
void websocket_session_fail_quickly(struct connection *connection, const char *reason)
{
    websocket_session_fail(connection, WEBSOCKET_CLOSE_TRY_AGAIN_LATER, reason);
    if (connection->state == CONNECTION_FINISHING)
        connection_set_deadline(connection, DEADLINE_LINGER);
}

void websocket_session_too_slow(struct connection *connection, size_t more)
{
    struct websocket_stage *stage = websocket_stage_of(connection);
    if (session_is_closing(connection)) { /* it does not even take our close frame */
        connection_kill(connection);
        return;
    }
    if (!connection->is_open)
        return;
    size_t queued = connection_queued_bytes(connection);
    size_t dropped = more + connection_drop_unsent(connection);
    worker_count(&stage->settings.counters, COUNTER_CLIENTS_TOO_SLOW, 1);
    worker_count(&stage->settings.counters, COUNTER_DELIVERIES_DROPPED, more);
    log_write_limited(&stage->limit_slow, LOG_WARNING, LOGGER_WORKER,
        "Client too slow: %s left %zu bytes unread, closing it with 1013; it will miss %zu deliveries "
        "and refetch",
        client_details_label(connection, (char[CLIENT_LABEL_TEXT]){0}), queued, dropped);
    websocket_session_fail_quickly(connection, "client too slow");
}

/* ---- input ---- */

static void session_on_ping(struct connection *connection, struct slice payload)
{
    websocket_session_send(connection, WEBSOCKET_PONG, payload.data, payload.length);
}

static void session_on_pong(struct connection *connection, struct slice payload)
{
    if (connection->deadline.which != DEADLINE_PONG || payload.length != sizeof connection->ping_payload ||
        memcmp(payload.data, connection->ping_payload, payload.length) != 0)
        return; /* unsolicited, or the answer to an older one */
    connection_set_deadline(connection, DEADLINE_PING);
}

static void session_on_close(struct connection *connection, struct slice payload)
{
    if (connection->is_open) /* echoed as it came; after our own close frame nothing more is sent */
        websocket_session_send(connection, WEBSOCKET_CLOSE, payload.data, payload.length);
    connection_finish(connection);
}

static void session_on_failure(struct connection *connection, const struct websocket_failure *failure)
{
    struct websocket_stage *stage = websocket_stage_of(connection);
    worker_count(&stage->settings.counters, COUNTER_PROTOCOL_ERRORS, 1);
    log_write_limited(&stage->limit_protocol, LOG_WARNING, LOGGER_WORKER,
        "Websocket protocol error from %s: %u %s",
        client_details_label(connection, (char[CLIENT_LABEL_TEXT]){0}), failure->code, failure->reason);
    websocket_session_fail(connection, failure->code, failure->reason);
}

static void session_on_message(struct connection *connection, struct slice text)
{
    struct slice reply;
    if (!connection->is_open)
        return;
    switch (rpc_methods_call(websocket_stage_of(connection)->methods, connection, text, &reply)) {
    case RPC_REPLY:
        websocket_session_send_text(connection, reply);
        break;
    case RPC_CLOSE:
        websocket_session_close(connection, WEBSOCKET_CLOSE_NORMAL, "");
        break;
    case RPC_WAIT:
    case RPC_NOTHING:
        break;
    }
}

static void session_dispatch(struct connection *connection, enum websocket_result result,
    struct slice payload, const struct websocket_failure *failure)
{
    switch (result) {
    case WEBSOCKET_MORE:
        break;
    case WEBSOCKET_TEXT_MESSAGE:
        session_on_message(connection, payload);
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

/* Bytes of stock replies at the start of the input: nothing is to be done for them in any state, and they are
 * nearly all there is. */
static size_t session_skip_replies(
    const struct connection *connection, uint64_t message_max, const uint8_t *bytes, size_t length)
{
    if (!websocket_parser_between_messages(&connection->parser) || message_max < RPC_STOCK_REPLY_LENGTH)
        return 0;
    return rpc_stock_reply_skip(bytes, length);
}

void websocket_session_input(struct connection *connection, char *received, size_t length)
{
    struct websocket_stage *stage = websocket_stage_of(connection);
    uint8_t *bytes = (uint8_t *)received;
    size_t held = websocket_parser_held(&connection->parser);
    uint64_t message_max = stage->settings.config->websocket_message_max_bytes;
    while (length > 0 && connection->state == CONNECTION_UP) {
        if (connection->pending) {
            rpc_methods_hold(stage->methods, connection, bytes, length);
            break;
        }
        size_t replies = session_skip_replies(connection, message_max, bytes, length);
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
    stage->settings.ledger->held += websocket_parser_held(&connection->parser) - held;
}
