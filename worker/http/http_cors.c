#include "worker/http/http_cors.h"

#include <string.h>

static const char *const methods[] = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"};

static bool allows_any(const struct config *config)
{
    for (size_t i = 0; i < config->allowed_origins.count; i++)
        if (strcmp(config->allowed_origins.items[i], "*") == 0)
            return true;
    return false;
}

static bool allows(const struct config *config, struct slice origin)
{
    if (allows_any(config))
        return true;
    for (size_t i = 0; i < config->allowed_origins.count; i++)
        if (slice_equals_string(origin, config->allowed_origins.items[i]))
            return true;
    return false;
}

bool http_cors_is_preflight(const struct http_request *request)
{
    return slice_equals_string(request->method, "OPTIONS") && http_request_header(request, "origin").data &&
           http_request_header(request, "access-control-request-method").data;
}

void http_cors_preflight(
    const struct config *config, const struct http_request *request, struct http_reply *reply)
{
    struct slice origin = http_request_header(request, "origin");
    struct slice method = http_request_header(request, "access-control-request-method");
    struct slice headers = http_request_header(request, "access-control-request-headers");

    bool known_method = false;
    struct text all = {0};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        text_append_format(&all, "%s%s", i ? ", " : "", methods[i]);
        known_method |= slice_equals_string(method, methods[i]);
    }
    bool known_origin = allows(config, origin);

    http_reply_header(&reply->before, "vary", SLICE_LITERAL("Origin"));
    http_reply_header(&reply->before, "access-control-allow-methods", text_slice(&all));
    http_reply_header(&reply->before, "access-control-max-age", SLICE_LITERAL("600"));
    http_reply_header(&reply->before, "access-control-allow-credentials", SLICE_LITERAL("true"));
    if (known_origin)
        http_reply_header(&reply->before, "access-control-allow-origin", origin);
    if (headers.data)
        http_reply_header(&reply->before, "access-control-allow-headers", headers);
    text_free(&all);

    if (known_origin && known_method)
        http_reply_set(reply, 200, HTTP_TEXT, SLICE_LITERAL("OK"));
    else if (known_origin)
        http_reply_set(reply, 400, HTTP_TEXT, SLICE_LITERAL("Disallowed CORS method"));
    else if (known_method)
        http_reply_set(reply, 400, HTTP_TEXT, SLICE_LITERAL("Disallowed CORS origin"));
    else
        http_reply_set(reply, 400, HTTP_TEXT, SLICE_LITERAL("Disallowed CORS origin, method"));
}

void http_cors_decorate(
    const struct config *config, const struct http_request *request, struct http_reply *reply)
{
    struct slice origin = http_request_header(request, "origin");
    if (!origin.data || http_cors_is_preflight(request))
        return;
    if (allows_any(config)) {
        bool credentials = http_request_header(request, "cookie").data != NULL;
        http_reply_header(
            &reply->after, "access-control-allow-origin", credentials ? origin : SLICE_LITERAL("*"));
        http_reply_header(&reply->after, "access-control-allow-credentials", SLICE_LITERAL("true"));
        if (credentials)
            http_reply_header(&reply->after, "vary", SLICE_LITERAL("Origin"));
        return;
    }
    http_reply_header(&reply->after, "access-control-allow-credentials", SLICE_LITERAL("true"));
    if (allows(config, origin)) {
        http_reply_header(&reply->after, "access-control-allow-origin", origin);
        http_reply_header(&reply->after, "vary", SLICE_LITERAL("Origin"));
    }
}
