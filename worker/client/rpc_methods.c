#include "worker/client/rpc_methods.h"

#include <stdlib.h>
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/common/python.h"
#include "worker/client/client_details.h"
#include "worker/http/publish_rules.h"
#include "worker/jose/token.h"
#include "worker/rpc/rpc_arguments.h"
#include "worker/rpc/rpc_message.h"
#include "worker/rpc/rpc_stock_reply.h"
#include "worker/rpc/rpc_topics.h"

#define RPC_PENDING_MAGIC UINT32_C(0x29c9e4d6)
#define NOT_PERMITTED     "a topic that the token does not permit"
/* of one publish */
#define TOPICS_LOGGED_BYTES 1024

struct rpc_methods {
    struct rpc_methods_settings settings;
    /* All below are reused from call to call. */
    struct rpc_message message;
    struct rpc_topics topics;
    struct text reply;
    /* decoded strings */
    struct text scratch;
    struct log_limiter limit_refused;
};

struct rpc_pending {
    uint32_t magic;
    struct rpc_methods *methods;
    struct connection *connection;
    uint64_t ticket;
    struct text call_id;
    bool has_call_id;
    /* what came behind the publish */
    struct text behind;
};

struct rpc_call {
    struct rpc_methods *methods;
    struct connection *connection;
    struct rpc_arguments arguments;
};

typedef enum rpc_outcome rpc_method(const struct rpc_call *call);

/* ---- outcomes ---- */

static enum rpc_outcome rpc_reply(struct rpc_methods *methods, const char *result, const char *type)
{
    text_clear(&methods->reply);
    rpc_reply_write(
        &methods->reply, result, type, methods->message.has_call_id, text_slice(&methods->message.call_id));
    return RPC_REPLY;
}

static enum rpc_outcome rpc_reply_bool(struct rpc_methods *methods, bool result)
{
    return rpc_reply(methods, result ? "true" : "false", "bool");
}

static enum rpc_outcome rpc_violation(const struct rpc_methods *methods)
{
    worker_count(&methods->settings.counters, COUNTER_RPC_REFUSED, 1);
    return RPC_CLOSE;
}

static enum rpc_outcome rpc_refuse(const struct rpc_call *call, const char *method, const char *reason)
{
    struct rpc_methods *methods = call->methods;
    worker_count(&methods->settings.counters, COUNTER_RPC_REFUSED, 1);
    log_write_limited(&methods->limit_refused, LOG_WARNING, LOGGER_WORKER,
        "%s of the client on %s refused: %s", method,
        client_details_label(call->connection, (char[CLIENT_LABEL_TEXT]){0}), reason);
    return rpc_reply_bool(methods, false);
}

/* ---- methods ---- */

static enum rpc_outcome rpc_ping(const struct rpc_call *call)
{
    return rpc_reply(call->methods, "\"pong\"", "str");
}

static enum rpc_outcome rpc_get_channel_id(const struct rpc_call *call)
{
    char result[IDENTITY_HEX + 3] = {'"'};
    identity_format(&call->connection->channel, result + 1);
    result[IDENTITY_HEX + 1] = '"';
    return rpc_reply(call->methods, result, "str");
}

static enum rpc_topics_verdict rpc_read_topics(const struct rpc_call *call, enum rpc_topics_use use)
{
    struct rpc_methods *methods = call->methods;
    return rpc_topics_read(&methods->topics, &methods->message.document,
        call->arguments.tokens[RPC_ARGUMENT_TOPICS], use, &methods->settings.config->limits);
}

/* Whether the token permits all topics of the call. */
static bool rpc_is_permitted(const struct rpc_call *call)
{
    const struct rpc_topics *topics = &call->methods->topics;
    const struct token_claims *claims = call->connection->claims;
    for (size_t i = 0; claims && i < topics->count; i++)
        if (!token_permits_topic(claims, topics->items[i]))
            return false;
    return true;
}

static enum rpc_outcome rpc_subscribe(const struct rpc_call *call)
{
    struct rpc_methods *methods = call->methods;
    struct connection *connection = call->connection;
    const struct rpc_topics *topics = &methods->topics;
    switch (rpc_read_topics(call, RPC_TOPICS_SUBSCRIBE)) {
    case RPC_TOPICS_VIOLATION:
        return rpc_violation(methods);
    case RPC_TOPICS_REFUSED:
        return rpc_refuse(call, "subscribe", topics->reason);
    case RPC_TOPICS_GOOD:
        break;
    }
    if (!rpc_is_permitted(call))
        return rpc_refuse(call, "subscribe", NOT_PERMITTED);
    uint64_t most = methods->settings.config->subscriptions_max;
    if (connection->subscriptions.count + topics->count > most)
        return rpc_refuse(call, "subscribe", "too many subscriptions");
    for (size_t i = 0; i < topics->count; i++)
        subscriptions_add(
            methods->settings.subscriptions, &connection->subscriptions, connection, topics->items[i]);
    return rpc_reply_bool(methods, true);
}

static enum rpc_outcome rpc_unsubscribe(const struct rpc_call *call)
{
    struct rpc_methods *methods = call->methods;
    const struct rpc_topics *topics = &methods->topics;
    switch (rpc_read_topics(call, RPC_TOPICS_UNSUBSCRIBE)) {
    case RPC_TOPICS_VIOLATION:
        return rpc_violation(methods);
    case RPC_TOPICS_REFUSED:
        return rpc_refuse(call, "unsubscribe", topics->reason);
    case RPC_TOPICS_GOOD:
        break;
    }
    for (size_t i = 0; i < topics->count; i++)
        subscriptions_remove(
            methods->settings.subscriptions, &call->connection->subscriptions, topics->items[i]);
    return rpc_reply_bool(methods, true);
}

/* ---- publish ---- */

static struct rpc_pending *pending_make(const struct rpc_call *call)
{
    const struct rpc_message *message = &call->methods->message;
    struct rpc_pending *pending = memory_allocate(sizeof *pending);
    pending->magic = RPC_PENDING_MAGIC;
    pending->methods = call->methods;
    pending->connection = call->connection;
    pending->has_call_id = message->has_call_id;
    text_append_slice(&pending->call_id, text_slice(&message->call_id));
    return pending;
}

static void pending_free(struct rpc_pending *pending)
{
    if (!pending)
        return;
    pending->methods->settings.ledger->held -= pending->behind.capacity;
    text_free(&pending->call_id);
    text_free(&pending->behind);
    pending->magic = 0;
    free(pending);
}

static void rpc_publish_done(void *context, enum publish_outcome outcome)
{
    struct rpc_pending *pending = object_cast(struct rpc_pending, RPC_PENDING_MAGIC, context);
    struct rpc_methods *methods = pending->methods;
    struct connection *connection = pending->connection;
    connection->pending = NULL;
    text_clear(&methods->reply);
    rpc_reply_write(&methods->reply, outcome == PUBLISH_ORDERED ? "true" : "false", "bool",
        pending->has_call_id, text_slice(&pending->call_id));
    methods->settings.answered(connection, text_slice(&methods->reply), &pending->behind);
    pending_free(pending);
}

static const char *outcome_reason(enum publish_outcome outcome)
{
    switch (outcome) {
    case PUBLISH_TOO_LARGE:
        return "the event is too large";
    case PUBLISH_TOO_WIDE:
        return "the event is too large for so many topics";
    case PUBLISH_BUSY:
        return "too many events wait already";
    default:
        return "refused";
    }
}

/* The topics of the call hold the one of clients that announce themselves to statistics. */
static bool rpc_announces(const struct rpc_methods *methods)
{
    const struct config *config = methods->settings.config;
    for (size_t i = 0; config->statistics.enabled && i < methods->topics.count; i++)
        if (slice_equals_string(methods->topics.items[i], config->statistics.add_client_channel))
            return true;
    return false;
}

/* The channel that the event is not sent back to; NULL for none. `given` has room for one that the caller
 * names. */
static const struct identity *publish_notifier(const struct rpc_call *call, struct identity *given)
{
    const struct json_document *document = &call->methods->message.document;
    uint32_t notifier = call->arguments.tokens[RPC_ARGUMENT_NOTIFIER];
    if (notifier == JSON_ABSENT || document->tokens[notifier].type == JSON_NULL)
        return &call->connection->channel;
    if (document->tokens[notifier].type == JSON_STRING &&
        identity_parse(json_string_view(document, notifier, &call->methods->scratch), given))
        return given;
    return NULL; /* anything else equals no channel id */
}

/*
 * Why the rules of OPAL_PUBLISH_PEER_TYPES refuse the call; NULL: they don't. Clients announce themselves to
 * statistics.
 */
static const char *publish_problem(const struct rpc_call *call)
{
    const struct config *config = call->methods->settings.config;
    const struct rpc_topics *topics = &call->methods->topics;
    for (size_t i = 0; i < topics->count; i++)
        if (publish_rules_reserve(config, topics->items[i]))
            return "the topic webhook is reserved (OPAL_PUBLISH_PEER_TYPES is set)";
    bool announces = topics->count == 1 && rpc_announces(call->methods);
    if (announces || publish_rules_admit(config, call->connection->claims))
        return NULL;
    return "peers of its type may not publish (OPAL_PUBLISH_PEER_TYPES)";
}

/* One line for each publish, so that it can be found out who sent an update. */
static void publish_log(const struct rpc_call *call)
{
    const struct rpc_topics *topics = &call->methods->topics;
    struct text shown = {0};
    if (!log_enabled(LOG_INFO))
        return;
    for (size_t i = 0; i < topics->count && shown.length < TOPICS_LOGGED_BYTES; i++) {
        text_append_string(&shown, i ? ", " : "");
        python_append_string(&shown, topics->items[i]);
    }
    log_write(LOG_INFO, LOGGER_WORKER, "publish of the client on %s to topics: {%s}",
        client_details_label(call->connection, (char[CLIENT_LABEL_TEXT]){0}), shown.data ? shown.data : "");
    text_free(&shown);
}

static enum rpc_outcome publish_send(const struct rpc_call *call, bool sync)
{
    struct rpc_methods *methods = call->methods;
    uint32_t data = call->arguments.tokens[RPC_ARGUMENT_DATA];
    struct identity notifier;
    struct publish_request request = {
        .topics = methods->topics.items,
        .topic_count = (uint32_t)methods->topics.count,
        .data = data == JSON_ABSENT ? SLICE_LITERAL("null") : json_raw(&methods->message.document, data),
        .notifier = publish_notifier(call, &notifier),
    };
    struct rpc_pending *pending = sync ? pending_make(call) : NULL;
    if (pending) {
        request.done = rpc_publish_done;
        request.context = pending;
    }
    enum publish_outcome outcome =
        publisher_publish(methods->settings.publisher, &request, pending ? &pending->ticket : NULL);
    if (outcome != PUBLISH_ORDERED) {
        pending_free(pending);
        return rpc_refuse(call, "publish", outcome_reason(outcome));
    }
    publish_log(call);
    call->connection->pending = pending;
    return pending ? RPC_WAIT : rpc_reply_bool(methods, true);
}

static enum rpc_outcome rpc_publish(const struct rpc_call *call)
{
    struct rpc_methods *methods = call->methods;
    const struct json_document *document = &methods->message.document;
    const uint32_t *tokens = call->arguments.tokens;
    bool sync = tokens[RPC_ARGUMENT_SYNC] == JSON_ABSENT || rpc_truthy(document, tokens[RPC_ARGUMENT_SYNC]);
    switch (rpc_read_topics(call, RPC_TOPICS_PUBLISH)) {
    case RPC_TOPICS_VIOLATION: /* the reference fails later when it is not to wait, in the background */
        return sync ? rpc_violation(methods) : rpc_reply_bool(methods, true);
    case RPC_TOPICS_REFUSED:
        return rpc_refuse(call, "publish", methods->topics.reason);
    case RPC_TOPICS_GOOD:
        break;
    }
    if (!rpc_is_permitted(call))
        return rpc_refuse(call, "publish", NOT_PERMITTED);
    const char *problem = publish_problem(call);
    if (problem)
        return rpc_refuse(call, "publish", problem);
    if (methods->topics.count == 0)
        return rpc_reply_bool(methods, true);
    if (rpc_announces(methods) &&
        !client_details_announce(call->connection, document, tokens[RPC_ARGUMENT_DATA],
            methods->settings.config->statistics.max_channels))
        return rpc_refuse(
            call, "publish", "more announcements than OPAL_MAX_CHANNELS_PER_CLIENT on one connection");
    return publish_send(call, sync);
}

/* ---- dispatch ---- */

static const struct rpc_method_entry {
    const char *name;
    rpc_method *call;
    /* bits of enum rpc_argument */
    unsigned allowed;
} rpc_methods_table[] = {
    {.name = "_ping_", .call = rpc_ping},
    {.name = "ping", .call = rpc_ping},
    {.name = "_get_channel_id_", .call = rpc_get_channel_id},
    {.name = "subscribe", .call = rpc_subscribe, .allowed = 1u << RPC_ARGUMENT_TOPICS},
    {.name = "unsubscribe", .call = rpc_unsubscribe, .allowed = 1u << RPC_ARGUMENT_TOPICS},
    {.name = "publish",
        .call = rpc_publish,
        .allowed = 1u << RPC_ARGUMENT_TOPICS | 1u << RPC_ARGUMENT_DATA | 1u << RPC_ARGUMENT_SYNC |
                   1u << RPC_ARGUMENT_NOTIFIER},
};

/*
 * Attributes of the reference's object that are no methods, and everything private, are passed over in
 * silence.
 */
static bool method_is_silent(struct slice name)
{
    static const char *const attributes[] = {"channel", "logger", "event_notifier"};
    if (name.length > 0 && name.data[0] == '_')
        return true;
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++)
        if (slice_equals_string(name, attributes[i]))
            return true;
    return false;
}

static enum rpc_outcome rpc_call_method(struct rpc_methods *methods, struct connection *connection)
{
    struct rpc_call call = {.methods = methods, .connection = connection};
    struct slice name = text_slice(&methods->message.method);
    for (size_t i = 0; i < sizeof rpc_methods_table / sizeof *rpc_methods_table; i++) {
        const struct rpc_method_entry *entry = &rpc_methods_table[i];
        if (!slice_equals_string(name, entry->name))
            continue;
        if (!rpc_arguments_read(&call.arguments, &methods->message, entry->allowed))
            return rpc_violation(methods);
        return entry->call(&call);
    }
    return method_is_silent(name) ? RPC_NOTHING : rpc_violation(methods);
}

enum rpc_outcome rpc_methods_call(
    struct rpc_methods *methods, struct connection *connection, struct slice text, struct slice *reply)
{
    const struct event_limits *limits = &methods->settings.config->limits;
    enum rpc_outcome outcome = RPC_NOTHING;
    if (rpc_is_stock_reply(text))
        return RPC_NOTHING;
    switch (rpc_message_parse(&methods->message, text, limits->json_max_depth, limits->json_max_tokens)) {
    case RPC_IGNORED:
        break;
    case RPC_VIOLATION:
        outcome = rpc_violation(methods);
        break;
    case RPC_REQUEST:
        outcome = rpc_call_method(methods, connection);
        break;
    }
    *reply = text_slice(&methods->reply);
    return outcome;
}

/* ---- a publish that waits ---- */

void rpc_methods_hold(
    struct rpc_methods *methods, struct connection *connection, const uint8_t *bytes, size_t length)
{
    struct text *behind = &connection->pending->behind;
    size_t before = behind->capacity;
    text_append(behind, bytes, length);
    methods->settings.ledger->held += behind->capacity - before;
}

size_t rpc_methods_held(const struct connection *connection)
{
    return connection->pending ? connection->pending->behind.capacity : 0;
}

void rpc_methods_cancel(struct rpc_methods *methods, struct connection *connection)
{
    struct rpc_pending *pending = connection->pending;
    if (!pending)
        return;
    connection->pending = NULL;
    publisher_cancel(methods->settings.publisher, pending->ticket);
    pending_free(pending);
}

/* ---- life ---- */

struct rpc_methods *rpc_methods_open(const struct rpc_methods_settings *settings)
{
    struct rpc_methods *methods = memory_allocate(sizeof *methods);
    methods->settings = *settings;
    return methods;
}

void rpc_methods_close(struct rpc_methods *methods)
{
    if (!methods)
        return;
    rpc_message_free(&methods->message);
    rpc_topics_free(&methods->topics);
    text_free(&methods->reply);
    text_free(&methods->scratch);
    free(methods);
}
