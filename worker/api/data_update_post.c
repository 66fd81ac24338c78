/*
 * POST /data/config: 200 means that the update has its place in the order of events (it is on the ring); with
 * ?wait=backbone or X-Opald-Wait: backbone, that the backbone has acknowledged all its messages as well.
 * Without a backbone there is nothing to wait for.
 */
#include "worker/api/data_update_post.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/common/python.h"
#include "shm/worker_table.h"
#include "worker/api/data_update.h"
#include "worker/http/http_body.h"
#include "worker/http/http_gate.h"
#include "worker/http/http_publish.h"
#include "worker/http/publish_rules.h"

#define TOPICS_LOGGED_BYTES 4096

static void reply_too_large(struct http_exchange *exchange)
{
    http_reply_detail(&exchange->reply, 413,
        "the update is too large: an event may have at most %" PRIu64 " bytes, its envelope included",
        event_limit_read(exchange->services->segment));
}

static void reply_outcome(struct http_exchange *exchange, enum publish_outcome outcome)
{
    switch (outcome) {
    /* as the reference, which says nothing of it, unless an acknowledgement was asked for */
    case PUBLISH_FROZEN:
        if (exchange->late) {
            http_reply_detail(&exchange->reply, 504,
                "the update was dropped: the backbone is away, and publishes are frozen until it is back");
            break;
        }
        __attribute__((fallthrough));
    case PUBLISH_ORDERED:
    case PUBLISH_ACKNOWLEDGED:
        http_reply_set(&exchange->reply, 200, HTTP_JSON, SLICE_LITERAL("{\"status\":\"ok\"}"));
        break;
    case PUBLISH_TOO_LARGE:
        reply_too_large(exchange);
        break;
    case PUBLISH_TOO_WIDE:
        http_reply_detail(&exchange->reply, 413,
            "the update is too large for so many topics: the backbone gets a message for each, and one "
            "update may become "
            "%" PRIu64 " bytes there (OPAL_EVENT_BACKBONE_MAX_BYTES)",
            messages_limit_read(exchange->services->segment));
        break;
    case PUBLISH_BUSY:
        http_reply_header(&exchange->reply.before, "retry-after", SLICE_LITERAL("1"));
        http_reply_detail(&exchange->reply, 503, "too many events are waiting, retry shortly");
        break;
    case PUBLISH_REFUSED:
        http_reply_detail(&exchange->reply, 413, "the update was refused: the backbone can't carry it");
        break;
    case PUBLISH_UNACKNOWLEDGED:
        http_reply_detail(&exchange->reply, 504,
            "the backbone did not take the update: clients of this host have it, other servers don't get it");
        break;
    }
}

/*
 * The backbone did not acknowledge the update in time, or before this server stops; its publish was
 * cancelled.
 */
static void late(struct http_exchange *exchange, bool stopping)
{
    static struct log_limiter limiter;
    double seconds = exchange->services->config->publish_wait_seconds;
    counter_add(exchange->services->segment, exchange->services->slot, COUNTER_ACKNOWLEDGEMENTS_LATE, 1);
    if (stopping) {
        log_write_limited(&limiter, LOG_WARNING, LOGGER_HTTP,
            "%s: the backbone has not acknowledged a data update, and this server stops", exchange->peer);
        http_reply_detail(&exchange->reply, 504,
            "this server stops, and the backbone has not acknowledged the update yet: other servers may not "
            "get it");
        return;
    }
    log_write_limited(&limiter, LOG_WARNING, LOGGER_HTTP,
        "%s: the backbone has not acknowledged a data update within %g s", exchange->peer, seconds);
    http_reply_detail(&exchange->reply, 504,
        "the backbone has not acknowledged the update within %g s: clients of this host have it, other "
        "servers "
        "get it when the backbone takes it",
        seconds);
}

static void publish_decided(void *context, enum publish_outcome outcome)
{
    struct http_exchange *exchange = http_exchange_of(context);
    reply_outcome(exchange, outcome);
    exchange->finished(exchange);
}

/* As Python writes a set, cut after some KiB. */
static void append_topics(const struct topic_set *topics, struct text *out)
{
    size_t limit = out->length + TOPICS_LOGGED_BYTES;
    for (uint32_t i = 0; i < topics->count && out->length < limit; i++) {
        text_append_string(out, i ? ", " : "{");
        python_append_string(out, topic_set_item(topics, i));
    }
    text_append_string(out, topics->count ? "}" : "set()");
}

static void log_update(const struct data_update *update)
{
    struct slice urls = text_slice(&update->without_topics);
    const char *url = urls.data;
    const char *end = url + urls.length;
    for (; url < end; url += strlen(url) + 1)
        log_write(LOG_WARNING, LOGGER_HTTP, "[%d] No topics were provided for the entry with url: %s",
            (int)getpid(), url);
    if (!log_enabled(LOG_INFO))
        return;
    struct text topics = {0};
    append_topics(&update->topics, &topics);
    log_write(LOG_INFO, LOGGER_HTTP, "[%d] Publishing data update to topics: %s, reason: %s, entries: %s",
        (int)getpid(), topics.data, update->reason.data, update->entries.data);
    text_free(&topics);
}

static enum http_answer publish(struct http_exchange *exchange, const struct data_update *update)
{
    if (update->topics.count == 0) {
        reply_outcome(exchange, PUBLISH_ORDERED); /* nobody is meant, as in the reference */
        return HTTP_ANSWERED;
    }
    struct slice *topics = memory_allocate(update->topics.count * sizeof *topics);
    for (uint32_t i = 0; i < update->topics.count; i++)
        topics[i] = topic_set_item(&update->topics, i);
    struct publish_request request = {
        .topics = topics,
        .topic_count = update->topics.count,
        .data = text_slice(&update->data),
        .done = publish_decided,
        .context = exchange,
        .wants_acknowledgement = exchange->late != NULL,
        .server_side = true,
    };
    enum publish_outcome outcome = http_publish(exchange, &request);
    free(topics);
    if (outcome == PUBLISH_ORDERED)
        return HTTP_PENDING;
    reply_outcome(exchange, outcome);
    return HTTP_ANSWERED;
}

/* Refused here, before the publisher could count it. */
static void refuse(struct http_exchange *exchange, enum data_update_outcome outcome)
{
    static struct log_limiter limiter;
    const struct config *config = exchange->services->config;
    switch (outcome) {
    case DATA_UPDATE_TOO_MANY_TOPICS:
        http_reply_detail(&exchange->reply, 422,
            "the update names too many topics (limit %zu, ancestors included)", config->limits.topics_max);
        break;
    case DATA_UPDATE_TOPIC_TOO_LONG:
        http_reply_detail(&exchange->reply, 422, "the update has a topic that is too long (limit %zu bytes)",
            config->limits.topic_max_bytes);
        break;
    default:
        reply_too_large(exchange);
        break;
    }
    counter_add(exchange->services->segment, exchange->services->slot,
        outcome == DATA_UPDATE_TOO_LARGE ? COUNTER_EVENTS_REFUSED_SIZE : COUNTER_HTTP_REFUSED, 1);
    log_write_limited(&limiter, LOG_WARNING, LOGGER_HTTP, "%s: data update refused: %s", exchange->peer,
        exchange->reply.body.data);
}

/*
 * Whether the publisher asks for the backbone's acknowledgement. False, with the reply set, for a wish that
 * is not understood: who asked for an acknowledgement must not believe to have it.
 */
static bool read_wait(struct http_exchange *exchange)
{
    struct text query = {0};
    struct slice header = http_request_header(exchange->request, "x-opald-wait");
    bool has_query = http_request_query(exchange->request, "wait", &query);
    bool by_query = has_query && slice_equals_string(text_slice(&query), "backbone");
    bool by_header = slice_equals_string(header, "backbone");
    text_free(&query);
    exchange->late = by_query || by_header ? late : NULL;
    if ((!has_query || by_query) && (!header.data || by_header))
        return true;
    http_reply_detail(&exchange->reply, 422, "wait (and X-Opald-Wait) can only be 'backbone'");
    return false;
}

/* Topics that the token's permitted_topics do not name. */
static void refuse_topics(struct http_exchange *exchange, const struct topic_set *topics)
{
    struct text reason = {0};
    text_append_string(&reason, "Invalid 'topics' to publish ");
    append_topics(topics, &reason);
    http_gate_refuse(exchange, text_slice(&reason), true);
    text_free(&reason);
}

static bool names_reserved_topic(const struct config *config, const struct topic_set *topics)
{
    for (uint32_t i = 0; i < topics->count; i++)
        if (publish_rules_reserve(config, topic_set_item(topics, i)))
            return true;
    return false;
}

enum http_answer data_update_post(struct http_exchange *exchange)
{
    struct event_limits limits = exchange->services->config->limits;
    enum http_answer answer = HTTP_ANSWERED;
    struct json_document document = {0};
    struct data_update update = {.claims = exchange->claims};
    /* the backbone may have lowered it */
    limits.event_max_bytes = event_limit_read(exchange->services->segment);
    if (read_wait(exchange) && http_body_parse(exchange, &document)) {
        enum data_update_outcome outcome = data_update_convert(&update, &document, &limits);
        if (outcome == DATA_UPDATE_INVALID) {
            validation_reply(&update.validation, &exchange->reply);
        } else if (update.forbidden.count) {
            refuse_topics(exchange, &update.forbidden);
        } else if (names_reserved_topic(exchange->services->config, &update.topics)) {
            http_gate_refuse(exchange, SLICE_LITERAL("Invalid 'topics' to publish {'webhook'}"), true);
        } else if (outcome != DATA_UPDATE_OK) {
            refuse(exchange, outcome);
        } else {
            log_update(&update);
            answer = publish(exchange, &update);
        }
    }
    data_update_free(&update);
    json_free(&document);
    return answer;
}
