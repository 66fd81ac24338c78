#include "worker/http/http_body.h"

#include <string.h>

#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/worker_table.h"
#include "worker/http/http_validation.h"

/*
 * "application/json", "application/anything+json", with parameters or not; no content type at all counts as
 * JSON.
 */
static bool is_json(struct slice type)
{
    if (type.length == 0)
        return true;
    const char *end = memchr(type.data, ';', type.length);
    type = slice_trim((struct slice){type.data, end ? (size_t)(end - type.data) : type.length}, TEXT_BLANKS);
    if (!slice_starts_ignoring_case(type, "application/"))
        return false;
    const size_t prefix = sizeof "application/" - 1, suffix = sizeof "+json" - 1;
    struct slice subtype = {type.data + prefix, type.length - prefix};
    if (subtype.length == 0 || memchr(subtype.data, '/', subtype.length))
        return false;
    if (slice_equals_ignoring_case(subtype, "json"))
        return true;
    return subtype.length >= suffix &&
           slice_starts_ignoring_case(
               (struct slice){subtype.data + subtype.length - suffix, suffix}, "+json");
}

static void reply_syntax(struct http_reply *reply, const struct json_document *document)
{
    http_reply_set(reply, 422, HTTP_JSON, SLICE_LITERAL(""));
    text_append_format(&reply->body,
        "{\"detail\":[{\"type\":\"json_invalid\",\"loc\":[\"body\",%zu],\"msg\":\"JSON decode error\","
        "\"input\":{},\"ctx\":{\"error\":",
        document->error_character);
    text_append_json_utf8(&reply->body, slice_from_string(document->message));
    text_append_string(&reply->body, "}}]}");
}

static void reply_over_limit(struct http_exchange *exchange, const char *what, long long limit)
{
    static struct log_limiter limiter;
    http_reply_detail(&exchange->reply, 422, "JSON body has %s (limit %lld)", what, limit);
    counter_add(exchange->services->segment, exchange->services->slot, COUNTER_HTTP_REFUSED, 1);
    log_write_limited(&limiter, LOG_WARNING, LOGGER_HTTP, "%s: JSON body refused: %s (limit %lld)",
        exchange->peer, what, limit);
}

static void reply_error(struct http_exchange *exchange, const char *message, const char *type)
{
    struct validation validation = {0};
    validation_enter(&validation, "body");
    validation_error(&validation, message, type, NULL);
    validation_reply(&validation, &exchange->reply);
    validation_free(&validation);
}

bool http_body_parse(struct http_exchange *exchange, struct json_document *document)
{
    const struct config *config = exchange->services->config;
    struct slice body = exchange->request->body;
    if (body.length == 0) {
        reply_error(exchange, "field required", "value_error.missing");
        return false;
    }
    if (!is_json(http_request_header(exchange->request, "content-type"))) {
        reply_error(exchange, "value is not a valid dict", "type_error.dict");
        return false;
    }
    if (body.length >= 3 &&
        memcmp(body.data, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark is no error here */
        body.data += 3;
        body.length -= 3;
    }
    switch (json_parse(
        document, body.data, body.length, config->limits.json_max_depth, config->limits.json_max_tokens)) {
    case JSON_OK:
        break;
    case JSON_SYNTAX:
        reply_syntax(&exchange->reply, document);
        return false;
    case JSON_BAD_UTF8:
        http_reply_detail(&exchange->reply, 400, "There was an error parsing the body");
        return false;
    case JSON_TOO_DEEP:
        reply_over_limit(exchange, "too many levels of nesting", (long long)config->limits.json_max_depth);
        return false;
    case JSON_TOO_MANY:
    case JSON_TOO_LONG:
        reply_over_limit(exchange, "too many values", (long long)config->limits.json_max_tokens);
        return false;
    }
    if (document->tokens[0].type == JSON_NULL) {
        reply_error(exchange, "field required", "value_error.missing");
        return false;
    }
    return true;
}
