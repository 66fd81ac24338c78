#include "worker/http/http_routes.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "shm/common/log.h"
#include "shm/figures.h"
#include "shm/worker_table.h"
#include "worker/auth/auth.h"
#include "worker/http/http_body.h"
#include "worker/http/http_cors.h"
#include "worker/http/http_gate.h"

#define OK_BODY "{\"status\":\"ok\"}"

struct http_route {
    const char *method;
    const char *path;   /* fixed, or */
    size_t path_option; /* offset of a `const char *` in struct config */
    unsigned status;    /* of a constant answer, or */
    const char *body;
    http_handler *handle;
    enum http_need need;
    bool takes_body;
    bool file; /* the reference serves it as a static file: HEAD works too and a 405 has no `allow` */
    bool page; /* one of the reference's pages about itself: HEAD works too, and `allow` says so */
};

#define OPTION(field) offsetof(struct config, field)

static http_handler jwks_get, ready_get, health_get;

/* In the reference's order: `allow` of a 405 names the first route of a path only. */
static const struct http_route routes[] = {
    {"GET", "/openapi.json", 0, 0, NULL, docs_openapi_get, HTTP_NEEDS_NOTHING, false, false, true},
    {"GET", "/docs", 0, 0, NULL, docs_page_get, HTTP_NEEDS_NOTHING, false, false, true},
    {"GET", "/redoc", 0, 0, NULL, docs_page_get, HTTP_NEEDS_NOTHING, false, false, false},
    {"GET", "/policy", 0, 0, NULL, bundle_get, HTTP_NEEDS_TOKEN, false, false, false},
    {"GET", NULL, OPTION(all_data_route), 0, NULL, data_all_get, HTTP_NEEDS_NOTHING, false, false, false},
    {"POST", NULL, OPTION(data_callback_default_route), 0, NULL, callback_report_post, HTTP_NEEDS_TOKEN, true,
        false, false},
    {"GET", NULL, OPTION(data_config_route), 0, NULL, data_sources_get, HTTP_NEEDS_TOKEN, false, false,
        false},
    {"POST", NULL, OPTION(data_config_route), 0, NULL, data_update_post, HTTP_NEEDS_DATASOURCE, true, false,
        false},
    {"POST", "/webhook", 0, 0, NULL, webhook_post, HTTP_NEEDS_NOTHING, true, false, false},
    {"POST", "/token", 0, 0, NULL, token_post, HTTP_NEEDS_MASTER, true, false, false},
    {"GET", "/pubsub_client_info", 0, 0, NULL, client_info_get, HTTP_NEEDS_TOKEN, false, false, false},
    {"GET", "/statistics", 0, 0, NULL, statistics_get, HTTP_NEEDS_TOKEN, false, false, false},
    {"GET", "/stats", 0, 0, NULL, stats_get, HTTP_NEEDS_TOKEN, false, false, false},
    {"GET", "/loadlimit", 0, 0, NULL, load_limit_get, HTTP_NEEDS_TOKEN, false, false, false},
    {"GET", NULL, OPTION(auth_jwks_url), 0, NULL, jwks_get, HTTP_NEEDS_NOTHING, false, true, false},
    {"GET", "/", 0, 200, OK_BODY, NULL, HTTP_NEEDS_NOTHING, false, false, false},
    {"GET", "/healthcheck", 0, 0, NULL, health_get, HTTP_NEEDS_NOTHING, false, false, false},
    {"GET", "/livez", 0, 200, OK_BODY, NULL, HTTP_NEEDS_NOTHING, false, false, false},
    {"GET", "/readyz", 0, 0, NULL, ready_get, HTTP_NEEDS_NOTHING, false, false, false},
    {"GET", "/metrics", 0, 0, NULL, metrics_get, HTTP_NEEDS_NOTHING, false, false, false},
};

static http_handler not_found, wrong_method, redirect_slash, preflight, refused;
static const struct http_route route_not_found = {.handle = not_found};
static const struct http_route route_wrong_method = {.handle = wrong_method};
static const struct http_route route_redirect = {.handle = redirect_slash};
static const struct http_route route_preflight = {.handle = preflight};
static const struct http_route route_refused = {.handle = refused};

#define ROUTE_COUNT (sizeof routes / sizeof *routes)

static const char *route_path(const struct http_route *route, const struct config *config)
{
    if (route->path)
        return route->path;
    return *(const char *const *)((const char *)config + route->path_option);
}

static const struct http_route *first_with_path(const struct config *config, struct slice path)
{
    for (size_t i = 0; i < ROUTE_COUNT; i++)
        if (slice_equals_string(path, route_path(&routes[i], config)))
            return &routes[i];
    return NULL;
}

static bool accepts(const struct http_route *route, struct slice method)
{
    return slice_equals_string(method, route->method) ||
           ((route->file || route->page) && slice_equals_string(method, "HEAD"));
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

const struct http_route *http_routes_find(const struct config *config, const struct http_request *request)
{
    if (http_cors_is_preflight(request))
        return &route_preflight;

    const struct http_route *first = first_with_path(config, request->path);
    for (const struct http_route *route = first; route && route < routes + ROUTE_COUNT; route++)
        if (slice_equals_string(request->path, route_path(route, config)) && accepts(route, request->method))
            return route;
    if (first)
        return &route_wrong_method;

    struct text other = {0};
    bool redirects = request->path.length > 1 && request->path.data[0] == '/' &&
                     first_with_path(config, other_spelling(request->path, &other));
    text_free(&other);
    return redirects ? &route_redirect : &route_not_found;
}

const struct http_route *http_route_admit(const struct http_route *route, struct http_exchange *exchange)
{
    return http_gate_admit(exchange, route->need) ? route : &route_refused;
}

/* ---- for figures ---- */

#define NUMBER_NONE      ((unsigned)ROUTE_COUNT)
#define NUMBER_WEBSOCKET ((unsigned)ROUTE_COUNT + 1)
static_assert(ROUTE_COUNT + 2 <= FIGURES_ROUTES, "shm/figures.h has room for each route");

unsigned http_route_count(void)
{
    return NUMBER_WEBSOCKET + 1;
}

unsigned http_route_number(const struct http_route *route)
{
    uintptr_t first = (uintptr_t)&routes[0], end = (uintptr_t)(routes + ROUTE_COUNT), this = (uintptr_t)route;
    return this >= first && this < end ? (unsigned)((this - first) / sizeof *routes) : NUMBER_NONE;
}

unsigned http_route_number_websocket(void)
{
    return NUMBER_WEBSOCKET;
}

struct http_route_name http_route_name(const struct config *config, unsigned number)
{
    if (number < ROUTE_COUNT)
        return (struct http_route_name){route_path(&routes[number], config), routes[number].method};
    return number == NUMBER_WEBSOCKET ? (struct http_route_name){"/ws", "GET"}
                                      : (struct http_route_name){"", ""};
}

bool http_route_takes_body(const struct http_route *route)
{
    return route->takes_body;
}

enum http_answer http_route_answer(const struct http_route *route, struct http_exchange *exchange)
{
    if (route->handle)
        return route->handle(exchange);
    http_reply_set(&exchange->reply, route->status, HTTP_JSON, slice_from_string(route->body));
    return HTTP_ANSWERED;
}

/* ---- small handlers ---- */

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
    const struct http_route *first = first_with_path(exchange->services->config, exchange->request->path);
    if (first && !first->file)
        http_reply_header(&exchange->reply.before, "allow",
            first->page ? SLICE_LITERAL("GET, HEAD") : slice_from_string(first->method));
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

static enum http_answer jwks_get(struct http_exchange *exchange)
{
    http_reply_set(&exchange->reply, 200, HTTP_JSON, auth_jwks(exchange->services->auth));
    return HTTP_ANSWERED;
}

/* As the reference: a backbone that is being tried again is no fault, one that nobody reads any more is. */
static enum http_answer health_get(struct http_exchange *exchange)
{
    bool lost = backbone_state_read(exchange->services->segment) == BACKBONE_LOST;
    if (lost && exchange->services->config->broadcast_healthcheck_enabled)
        http_reply_set(&exchange->reply, 503, HTTP_JSON,
            SLICE_LITERAL("{\"status\":\"error\",\"broadcaster\":\"unhealthy\"}"));
    else
        http_reply_set(&exchange->reply, 200, HTTP_JSON, SLICE_LITERAL(OK_BODY));
    return HTTP_ANSWERED;
}

static enum http_answer ready_get(struct http_exchange *exchange)
{
    enum backbone_state state = backbone_state_read(exchange->services->segment);
    if (state == BACKBONE_CONNECTING || state == BACKBONE_GAP || state == BACKBONE_LOST)
        http_reply_set(&exchange->reply, 503, HTTP_JSON,
            state != BACKBONE_CONNECTING
                ? SLICE_LITERAL("{\"status\":\"error\",\"broadcaster\":\"disconnected\"}")
                : SLICE_LITERAL("{\"status\":\"error\",\"broadcaster\":\"connecting\"}"));
    else
        http_reply_set(&exchange->reply, 200, HTTP_JSON, SLICE_LITERAL(OK_BODY));
    return HTTP_ANSWERED;
}
