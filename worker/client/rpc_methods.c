#include "worker/client/rpc_methods.h"

#include <stdlib.h>
#include <string.h>
#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"
#include "worker/jose/token.h"
#include "worker/client/client_details.h"
#include "worker/client/context.h"
#include "worker/rpc/rpc_message.h"
#include "worker/rpc/rpc_stock_reply.h"
#include "worker/rpc/rpc_topics.h"
#include "worker/client/websocket_session.h"

#define NOT_PERMITTED "a topic that the token does not permit"

struct rpc_pending {
    struct connection *connection;
    uint64_t ticket;
    struct text call_id;
    bool has_call_id;
    struct text held; /* what came behind the publish */
};

enum rpc_argument {
    ARGUMENT_TOPICS,
    ARGUMENT_DATA,
    ARGUMENT_SYNC,
    ARGUMENT_NOTIFIER,
    ARGUMENT_COUNT,
};

static const char *const argument_names[ARGUMENT_COUNT] = {"topics", "data", "sync", "notifier_id"};

typedef void rpc_method(struct connection *connection, const uint32_t arguments[ARGUMENT_COUNT]);

static void rpc_reply(struct connection *connection, const char *result, const char *type)
{
    struct worker *worker = connection->worker;
    text_clear(&worker->reply);
    rpc_reply_write(&worker->reply, result, type, worker->rpc.has_call_id, text_slice(&worker->rpc.call_id));
    websocket_session_send_text(connection, text_slice(&worker->reply));
}

static void rpc_reply_bool(struct connection *connection, bool result)
{
    rpc_reply(connection, result ? "true" : "false", "bool");
}

static void rpc_violation(struct connection *connection)
{
    worker_count(connection->worker, COUNTER_RPC_REFUSED, 1);
    websocket_session_close(connection, WEBSOCKET_CLOSE_NORMAL, "");
}

static void rpc_refuse(struct connection *connection, const char *method, const char *reason)
{
    struct worker *worker = connection->worker;
    worker_count(worker, COUNTER_RPC_REFUSED, 1);
    log_write_limited(&worker->limit_rpc, LOG_WARNING, LOGGER_WORKER, "%s of the client on %s refused: %s",
        method, client_details_label(connection, (char[CLIENT_LABEL_TEXT]){0}), reason);
    rpc_reply_bool(connection, false);
}

/* ---- methods ---- */

static void rpc_ping(struct connection *connection, const uint32_t arguments[ARGUMENT_COUNT])
{
    (void)arguments;
    rpc_reply(connection, "\"pong\"", "str");
}

static void rpc_get_channel_id(struct connection *connection, const uint32_t arguments[ARGUMENT_COUNT])
{
    char result[IDENTITY_HEX + 3] = {'"'};
    (void)arguments;
    identity_format(&connection->channel, result + 1);
    result[IDENTITY_HEX + 1] = '"';
    rpc_reply(connection, result, "str");
}

static enum rpc_topics_verdict rpc_read_topics(struct worker *worker, uint32_t token, enum rpc_topics_use use)
{
    return rpc_topics_read(&worker->topics, &worker->rpc.document, token, use, &worker->config->limits);
}

/* Whether the token permits all topics of the call. */
static bool rpc_is_permitted(const struct connection *connection)
{
    const struct rpc_topics *topics = &connection->worker->topics;
    for (size_t i = 0; connection->claims && i < topics->count; i++)
        if (!token_permits_topic(connection->claims, topics->items[i]))
            return false;
    return true;
}

static void rpc_subscribe(struct connection *connection, const uint32_t arguments[ARGUMENT_COUNT])
{
    struct worker *worker = connection->worker;
    const struct rpc_topics *topics = &worker->topics;
    switch (rpc_read_topics(worker, arguments[ARGUMENT_TOPICS], RPC_TOPICS_SUBSCRIBE)) {
    case RPC_TOPICS_VIOLATION:
        rpc_violation(connection);
        return;
    case RPC_TOPICS_REFUSED:
        rpc_refuse(connection, "subscribe", topics->reason);
        return;
    case RPC_TOPICS_GOOD:
        break;
    }
    if (!rpc_is_permitted(connection)) {
        rpc_refuse(connection, "subscribe", NOT_PERMITTED);
        return;
    }
    if (connection->subscriptions.count + topics->count > worker->config->subscriptions_max) {
        rpc_refuse(connection, "subscribe", "too many subscriptions");
        return;
    }
    for (size_t i = 0; i < topics->count; i++)
        subscriptions_add(worker->subscriptions, &connection->subscriptions, connection, topics->items[i]);
    rpc_reply_bool(connection, true);
}

static void rpc_unsubscribe(struct connection *connection, const uint32_t arguments[ARGUMENT_COUNT])
{
    struct worker *worker = connection->worker;
    const struct rpc_topics *topics = &worker->topics;
    switch (rpc_read_topics(worker, arguments[ARGUMENT_TOPICS], RPC_TOPICS_UNSUBSCRIBE)) {
    case RPC_TOPICS_VIOLATION:
        rpc_violation(connection);
        return;
    case RPC_TOPICS_REFUSED:
        rpc_refuse(connection, "unsubscribe", topics->reason);
        return;
    case RPC_TOPICS_GOOD:
        break;
    }
    for (size_t i = 0; i < topics->count; i++)
        subscriptions_remove(worker->subscriptions, &connection->subscriptions, topics->items[i]);
    rpc_reply_bool(connection, true);
}

/* Python's bool() of a JSON value. */
static bool rpc_truthy(const struct json_document *document, uint32_t token)
{
    const struct json_token *value = &document->tokens[token];
    switch (value->type) {
    case JSON_NULL:
    case JSON_FALSE:
        return false;
    case JSON_STRING:
        return value->end - value->start > 2;
    case JSON_ARRAY:
    case JSON_OBJECT:
        return value->size > 0;
    case JSON_NUMBER: {
        struct slice raw = json_raw(document, token);
        for (size_t i = 0; i < raw.length; i++) {
            if (raw.data[i] == 'e' || raw.data[i] == 'E')
                return false; /* only zeros before the exponent */
            if (raw.data[i] != '0' && raw.data[i] != '.' && raw.data[i] != '-')
                return true;
        }
        return false;
    }
    default:
        return true;
    }
}

static void rpc_publish_done(void *context, enum publish_outcome outcome)
{
    struct rpc_pending *pending = context;
    struct connection *connection = pending->connection;
    struct worker *worker = connection->worker;
    connection->pending = NULL;
    text_clear(&worker->reply);
    rpc_reply_write(&worker->reply, outcome == PUBLISH_ORDERED ? "true" : "false", "bool",
        pending->has_call_id, text_slice(&pending->call_id));
    websocket_session_send_text(connection, text_slice(&worker->reply));
    struct text held = pending->held;
    worker->held_bytes -= held.capacity;
    text_free(&pending->call_id);
    free(pending);
    if (held.length > 0)
        websocket_session_input(connection, (uint8_t *)held.data, held.length);
    text_free(&held);
    connection_update_events(connection);
}

static const char *rpc_outcome_reason(enum publish_outcome outcome)
{
    switch (outcome) {
    case PUBLISH_TOO_LARGE:
        return "the event is too large";
    case PUBLISH_BUSY:
        return "too many events wait already";
    default:
        return "refused";
    }
}

/* The topics of the call hold the one of clients that announce themselves to statistics. */
static bool rpc_announces(const struct worker *worker)
{
    for (size_t i = 0; i < worker->topics.count; i++)
        if (slice_equals_string(worker->topics.items[i], worker->config->statistics.add_client_channel))
            return true;
    return false;
}

static void rpc_publish(struct connection *connection, const uint32_t arguments[ARGUMENT_COUNT])
{
    struct worker *worker = connection->worker;
    const struct json_document *document = &worker->rpc.document;
    const struct rpc_topics *topics = &worker->topics;
    bool sync = arguments[ARGUMENT_SYNC] == JSON_ABSENT || rpc_truthy(document, arguments[ARGUMENT_SYNC]);
    switch (rpc_read_topics(worker, arguments[ARGUMENT_TOPICS], RPC_TOPICS_PUBLISH)) {
    case RPC_TOPICS_VIOLATION:
        if (sync)
            rpc_violation(connection);
        else /* the reference fails later, in the background, where nobody hears of it */
            rpc_reply_bool(connection, true);
        return;
    case RPC_TOPICS_REFUSED:
        rpc_refuse(connection, "publish", topics->reason);
        return;
    case RPC_TOPICS_GOOD:
        break;
    }
    if (!rpc_is_permitted(connection)) {
        rpc_refuse(connection, "publish", NOT_PERMITTED);
        return;
    }
    if (topics->count == 0) {
        rpc_reply_bool(connection, true);
        return;
    }
    if (worker->config->statistics.enabled && rpc_announces(worker) &&
        !client_details_announce(connection, document, arguments[ARGUMENT_DATA])) {
        rpc_refuse(
            connection, "publish", "more announcements than OPAL_MAX_CHANNELS_PER_CLIENT on one connection");
        return;
    }
    char channel[IDENTITY_HEX];
    struct publish_request request = {
        .topics = topics->items,
        .topic_count = (uint32_t)topics->count,
        .data = SLICE_LITERAL("null"),
    };
    if (arguments[ARGUMENT_DATA] != JSON_ABSENT)
        request.data = json_raw(document, arguments[ARGUMENT_DATA]);
    uint32_t notifier = arguments[ARGUMENT_NOTIFIER];
    if (notifier == JSON_ABSENT || document->tokens[notifier].type == JSON_NULL) {
        identity_format(&connection->channel, channel);
        request.notifier = (struct slice){channel, sizeof(channel)};
    } else if (document->tokens[notifier].type == JSON_STRING) {
        request.notifier = json_string_view(document, notifier, &worker->scratch);
    } /* anything else equals no channel id */
    struct rpc_pending *pending = NULL;
    if (sync) {
        pending = memory_allocate(sizeof(*pending));
        pending->connection = connection;
        pending->has_call_id = worker->rpc.has_call_id;
        text_append_slice(&pending->call_id, text_slice(&worker->rpc.call_id));
        request.done = rpc_publish_done;
        request.context = pending;
    }
    enum publish_outcome outcome =
        publisher_publish(worker->publisher, &request, pending ? &pending->ticket : NULL);
    if (outcome != PUBLISH_ORDERED) {
        if (pending) {
            text_free(&pending->call_id);
            free(pending);
        }
        rpc_refuse(connection, "publish", rpc_outcome_reason(outcome));
        return;
    }
    connection->pending = pending;
    if (!pending)
        rpc_reply_bool(connection, true);
}

/* ---- dispatch ---- */

static const struct rpc_method_entry {
    const char *name;
    rpc_method *call;
    unsigned allowed; /* bits of enum rpc_argument */
} methods[] = {
    {"_ping_", rpc_ping, 0},
    {"ping", rpc_ping, 0},
    {"_get_channel_id_", rpc_get_channel_id, 0},
    {"subscribe", rpc_subscribe, 1u << ARGUMENT_TOPICS},
    {"unsubscribe", rpc_unsubscribe, 1u << ARGUMENT_TOPICS},
    {"publish", rpc_publish,
        1u << ARGUMENT_TOPICS | 1u << ARGUMENT_DATA | 1u << ARGUMENT_SYNC | 1u << ARGUMENT_NOTIFIER},
};

/* Attributes of the reference's object that are no methods, and everything private, are passed over in silence. */
static bool method_is_silent(struct slice name)
{
    static const char *const attributes[] = {"channel", "logger", "event_notifier"};
    if (name.length > 0 && name.data[0] == '_')
        return true;
    for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++)
        if (slice_equals_string(name, attributes[i]))
            return true;
    return false;
}

/* False: an argument that the method does not have. */
static bool rpc_read_arguments(
    const struct rpc_message *message, unsigned allowed, uint32_t arguments[ARGUMENT_COUNT])
{
    const struct json_document *document = &message->document;
    uint32_t cursor = 0, key, value;
    for (size_t i = 0; i < ARGUMENT_COUNT; i++)
        arguments[i] = JSON_ABSENT;
    if (message->arguments == JSON_ABSENT)
        return true;
    if (document->tokens[message->arguments].type == JSON_NULL)
        return false;
    while (rpc_mapping_next(document, message->arguments, &cursor, &key, &value)) {
        if (key == JSON_ABSENT || document->tokens[key].type != JSON_STRING)
            return false;
        size_t i = 0;
        while (i < ARGUMENT_COUNT && !((allowed & 1u << i) && json_string_equals(document, key,
                                                                  slice_from_string(argument_names[i]))))
            i++;
        if (i == ARGUMENT_COUNT)
            return false;
        arguments[i] = value;
    }
    return true;
}

void rpc_dispatch(struct connection *connection, struct slice text)
{
    struct worker *worker = connection->worker;
    uint32_t arguments[ARGUMENT_COUNT];
    if (rpc_is_stock_reply(text))
        return;
    switch (rpc_message_parse(
        &worker->rpc, text, worker->config->limits.json_max_depth, worker->config->limits.json_max_tokens)) {
    case RPC_IGNORED:
        return;
    case RPC_VIOLATION:
        rpc_violation(connection);
        return;
    case RPC_REQUEST:
        break;
    }
    struct slice name = text_slice(&worker->rpc.method);
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (!slice_equals_string(name, methods[i].name))
            continue;
        if (rpc_read_arguments(&worker->rpc, methods[i].allowed, arguments))
            methods[i].call(connection, arguments);
        else
            rpc_violation(connection);
        return;
    }
    if (!method_is_silent(name))
        rpc_violation(connection);
}

void rpc_hold(struct connection *connection, const uint8_t *bytes, size_t length)
{
    struct text *held = &connection->pending->held;
    size_t before = held->capacity;
    text_append(held, bytes, length);
    connection->worker->held_bytes += held->capacity - before;
}

size_t rpc_held(const struct connection *connection)
{
    return connection->pending ? connection->pending->held.capacity : 0;
}

void rpc_cancel(struct connection *connection)
{
    struct rpc_pending *pending = connection->pending;
    if (!pending)
        return;
    connection->pending = NULL;
    publisher_cancel(connection->worker->publisher, pending->ticket);
    connection->worker->held_bytes -= pending->held.capacity;
    text_free(&pending->call_id);
    text_free(&pending->held);
    free(pending);
}
