#include "worker/http/http_routes.h"

#include <stdint.h>

#include "worker/http/http_cors.h"

static http_handler not_found, wrong_method, redirect_slash, preflight, refused;
static const struct http_route route_not_found = {.handle = not_found};
static const struct http_route route_wrong_method = {.handle = wrong_method};
static const struct http_route route_redirect = {.handle = redirect_slash};
static const struct http_route route_preflight = {.handle = preflight};
static const struct http_route route_refused = {.handle = refused};

const char *http_route_path(const struct http_route *route, const struct config *config)
{
    if (route->path)
        return route->path;
    return *(const char *const *)((const char *)config + route->path_option);
}

/* The first route at or behind `from` with that path. */
static const struct http_route *next_with_path(
    const struct http_services *services, const struct http_route *from, struct slice path)
{
    const struct http_route *end = services->routes->routes + services->routes->count;
    for (const struct http_route *route = from; route < end; route++)
        if (slice_equals_string(path, http_route_path(route, services->config)))
            return route;
    return NULL;
}

static const struct http_route *first_with_path(const struct http_services *services, struct slice path)
{
    return next_with_path(services, services->routes->routes, path);
}

static bool accepts(const struct http_route *route, struct slice method)
{
    return slice_equals_string(method, route->method) ||
           ((route->flags & (HTTP_ROUTE_FILE | HTTP_ROUTE_PAGE)) && slice_equals_string(method, "HEAD"));
}

/* The path without the slashes at its end, or with one more: the other spelling that a redirect leads to. */
static struct slice other_spelling(struct slice path, struct text *scratch)
{
    size_t length = path.length;
    while (length && path.data[length - 1] == '/')
        length--;
    text_append(scratch, path.data, length);
    if (length == path.length)
        text_append_char(scratch, '/');
    return text_slice(scratch);
}

const struct http_route *http_routes_find(
    const struct http_services *services, const struct http_request *request)
{
    if (http_cors_is_preflight(request))
        return &route_preflight;

    const struct http_route *first = first_with_path(services, request->path);
    for (const struct http_route *route = first; route;
         route = next_with_path(services, route + 1, request->path))
        if (accepts(route, request->method))
            return route;
    if (first)
        return &route_wrong_method;

    struct text other = {0};
    bool redirects = request->path.length > 1 && request->path.data[0] == '/' &&
                     first_with_path(services, other_spelling(request->path, &other));
    text_free(&other);
    return redirects ? &route_redirect : &route_not_found;
}

const struct http_route *http_route_admit(const struct http_route *route, struct http_exchange *exchange)
{
    return http_gate_admit(exchange, route->need) ? route : &route_refused;
}

unsigned http_route_number(const struct http_route_table *table, const struct http_route *route)
{
    uintptr_t first = (uintptr_t)table->routes;
    uintptr_t end = (uintptr_t)(table->routes + table->count);
    uintptr_t place = (uintptr_t)route;
    return place >= first && place < end ? (unsigned)((place - first) / sizeof *route) : HTTP_ROUTE_NONE;
}

bool http_route_takes_body(const struct http_route *route)
{
    return route->flags & HTTP_ROUTE_TAKES_BODY;
}

enum http_answer http_route_answer(const struct http_route *route, struct http_exchange *exchange)
{
    if (route->handle)
        return route->handle(exchange);
    http_reply_set(&exchange->reply, 200, HTTP_JSON, slice_from_string(route->body));
    return HTTP_ANSWERED;
}

/* ---- the answers of what is no route ---- */

/* The gate has set the reply. */
static enum http_answer refused(struct http_exchange *exchange)
{
    (void)exchange;
    return HTTP_ANSWERED;
}

static enum http_answer not_found(struct http_exchange *exchange)
{
    http_reply_detail(&exchange->reply, 404, "Not Found");
    return HTTP_ANSWERED;
}

static enum http_answer wrong_method(struct http_exchange *exchange)
{
    const struct http_route *first = first_with_path(exchange->services, exchange->request->path);
    if (first && !(first->flags & HTTP_ROUTE_FILE))
        http_reply_header(&exchange->reply.before, "allow",
            first->flags & HTTP_ROUTE_PAGE ? SLICE_LITERAL("GET, HEAD") : slice_from_string(first->method));
    http_reply_detail(&exchange->reply, 405, "Method Not Allowed");
    return HTTP_ANSWERED;
}

static enum http_answer preflight(struct http_exchange *exchange)
{
    http_cors_preflight(exchange->services->config, exchange->request, &exchange->reply);
    return HTTP_ANSWERED;
}

static enum http_answer redirect_slash(struct http_exchange *exchange)
{
    const struct config *config = exchange->services->config;
    struct slice host = http_request_header(exchange->request, "host");
    struct text location = {0};
    struct text path = {0};
    text_append_format(&location, "%s://", exchange->scheme);
    if (host.length)
        text_append_slice(&location, host);
    else
        text_append_format(&location, "%s:%lld", config->host, (long long)config->port);
    if (exchange->request->under_root)
        text_append_string(&location, config->root_path);
    text_append_slice(&location, other_spelling(exchange->request->path, &path));
    if (exchange->request->query.length) {
        text_append_char(&location, '?');
        text_append_slice(&location, exchange->request->query);
    }
    http_reply_set(&exchange->reply, 307, NULL, SLICE_LITERAL(""));
    http_reply_header(&exchange->reply.after, "location", text_slice(&location));
    text_free(&path);
    text_free(&location);
    return HTTP_ANSWERED;
}
