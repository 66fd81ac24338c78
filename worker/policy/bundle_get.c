/* The query becomes a question for the bundle cache, the bundle a reply. */
#include "worker/policy/bundle_get.h"

#include <string.h>

#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/percent.h"
#include "shm/worker_table.h"
#include "worker/policy/bundle_cache.h"
#include "worker/policy/bundle_copy.h"
#include "worker/policy/policy_services.h"

/* What fits a message to the policy process; only a raised OPAL_HTTP_HEADER_MAX_BYTES lets more come here. */
#define QUESTION_BYTES_MAX (128 * 1024)

static void count(const struct http_exchange *exchange, enum counter counter)
{
    counter_add(exchange->services->segment, exchange->services->slot, counter, 1);
}

/* ---- the question ---- */

struct bundle_query {
    /* the last base_hash, with a NUL */
    struct text base;
    /* each with a NUL */
    struct text paths;
    size_t path_count;
    /* what limit it is over */
    bool too_long;
    bool too_many;
    bool too_large;
};

static void query_take(
    struct bundle_query *query, const struct config *config, struct slice name, struct slice value)
{
    if (value.length > config->bundle_path_max_bytes) {
        query->too_long = true;
    } else if (slice_equals_string(name, "base_hash")) {
        text_clear(&query->base);
        if (!memchr(value.data, '\0', value.length)) /* no commit has it in its name */
            text_append_slice(&query->base, value);
        text_append_char(&query->base, '\0');
    } else if (query->path_count++ == config->bundle_paths_max) {
        query->too_many = true;
    } else {
        /* a NUL is in no file's name: its place is taken by what is in none either */
        for (size_t i = 0; i < value.length; i++)
            text_append_char(&query->paths, value.data[i] ? value.data[i] : '/');
        if (memchr(value.data, '\0', value.length))
            text_append_string(&query->paths, "/..");
        text_append_char(&query->paths, '\0');
    }
}

static void query_read(struct bundle_query *query, const struct config *config, struct slice rest)
{
    struct text name = {0}, value = {0};
    text_append_char(&query->base, '\0');
    while (!query->too_long && !query->too_many && percent_next_pair(&rest, true, &name, &value)) {
        if (slice_equals_string(text_slice(&name), "path") ||
            slice_equals_string(text_slice(&name), "base_hash"))
            query_take(query, config, text_slice(&name), text_slice(&value));
    }
    query->too_large = query->base.length + query->paths.length > QUESTION_BYTES_MAX;
    text_free(&name);
    text_free(&value);
}

/* ---- the reply ---- */

/* If-None-Match against the tag of the JSON, whose gzip has the same one with a suffix; weak comparison. */
static bool has_it_already(const struct http_request *request, const char *tag)
{
    struct slice rest = http_request_header(request, "if-none-match");
    size_t length = strlen(tag);
    if (slice_equals_string(rest, "*"))
        return true;
    while (rest.length > 0) {
        const char *quote = memchr(rest.data, '"', rest.length);
        if (!quote)
            return false;
        rest = (struct slice){quote + 1, rest.length - (size_t)(quote + 1 - rest.data)};
        const char *end = rest.length ? memchr(rest.data, '"', rest.length) : NULL;
        if (!end)
            return false;
        struct slice value = {rest.data, (size_t)(end - rest.data)};
        rest = (struct slice){end + 1, rest.length - value.length - 1};
        if (value.length >= length && memcmp(value.data, tag, length) == 0 &&
            (value.length == length ||
                slice_equals_string((struct slice){value.data + length, value.length - length}, "-gzip")))
            return true;
    }
    return false;
}

static void reply_bundle(struct http_exchange *exchange, struct bundle_copy *copy)
{
    struct http_reply *reply = &exchange->reply;
    bool gzip = copy->gzip_bytes > 0 && http_request_header_has(exchange->request, "accept-encoding", "gzip");
    struct text tag = {0};
    text_append_format(&tag, "\"%s%s\"", copy->tag, gzip ? "-gzip" : "");
    if (has_it_already(exchange->request, copy->tag)) {
        http_reply_set(reply, 304, NULL, SLICE_LITERAL(""));
    } else {
        http_reply_set(reply, 200, HTTP_JSON, SLICE_LITERAL(""));
        reply->block = bundle_copy_block(copy, gzip);
        if (gzip)
            http_reply_header(&reply->after, "content-encoding", SLICE_LITERAL("gzip"));
    }
    http_reply_header(&reply->after, "etag", text_slice(&tag));
    http_reply_header(&reply->after, "vary", SLICE_LITERAL("Accept-Encoding"));
    text_free(&tag);
}

static void set_reply(struct http_exchange *exchange, const struct bundle_outcome *outcome)
{
    if (outcome->status == 200) {
        reply_bundle(exchange, outcome->copy);
        return;
    }
    http_reply_set(&exchange->reply, outcome->status, HTTP_JSON, SLICE_LITERAL("{\"detail\":"));
    text_append_json_utf8(&exchange->reply.body, outcome->detail);
    text_append_char(&exchange->reply.body, '}');
}

/* ---- the handler ---- */

static void on_arrived(void *context, const struct bundle_outcome *outcome)
{
    struct http_exchange *exchange = http_exchange_of(context);
    if (exchange->ticket == 0) { /* still within bundle_get */
        set_reply(exchange, outcome);
        return;
    }
    set_reply(exchange, outcome);
    exchange->finished(exchange);
}

static void cancel(struct http_exchange *exchange)
{
    bundle_cache_cancel(exchange->services->policy->bundles, exchange->ticket);
}

static enum http_answer ask(struct http_exchange *exchange, struct bundle_query *query)
{
    text_append_slice(&query->base, text_slice(&query->paths));
    const char *colon = strrchr(exchange->peer, ':');
    struct slice peer = {exchange->peer, colon ? (size_t)(colon - exchange->peer) : strlen(exchange->peer)};
    exchange->ticket = 0;
    exchange->ticket = bundle_cache_ask(
        exchange->services->policy->bundles, peer, text_slice(&query->base), on_arrived, exchange);
    if (exchange->ticket == 0)
        return HTTP_ANSWERED;
    exchange->cancel = cancel;
    return HTTP_PENDING;
}

static void refuse(struct http_exchange *exchange, const struct bundle_query *query)
{
    static struct log_limiter limiter;
    const struct config *config = exchange->services->config;
    count(exchange, COUNTER_HTTP_REFUSED);
    if (query->too_long)
        http_reply_detail(&exchange->reply, 422, "path or base_hash is longer than %zu bytes",
            config->bundle_path_max_bytes);
    else if (query->too_large)
        http_reply_detail(
            &exchange->reply, 422, "the paths are longer than %d bytes together", QUESTION_BYTES_MAX);
    else
        http_reply_detail(
            &exchange->reply, 422, "more than %zu paths are asked for", config->bundle_paths_max);
    log_write_limited(&limiter, LOG_WARNING, LOGGER_HTTP, "%s: a request for a bundle is refused: %s",
        exchange->peer, exchange->reply.body.data);
}

enum http_answer bundle_get(struct http_exchange *exchange)
{
    struct bundle_query query = {0};
    enum http_answer answer = HTTP_ANSWERED;
    count(exchange, COUNTER_BUNDLE_REQUESTS);
    query_read(&query, exchange->services->config, exchange->request->query);
    if (query.too_long || query.too_many || query.too_large) {
        refuse(exchange, &query);
    } else if (!exchange->services->policy->bundles) {
        http_reply_detail(&exchange->reply, 503, "policy repo was not found");
    } else {
        answer = ask(exchange, &query);
    }
    text_free(&query.base);
    text_free(&query.paths);
    return answer;
}
