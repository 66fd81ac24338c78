#include "worker/api/routes.h"

#include <assert.h>
#include <stddef.h>

#include "shm/common/clock.h"
#include "shm/worker_table.h"
#include "worker/api/callback_report.h"
#include "worker/api/data_sources.h"
#include "worker/api/data_update_post.h"
#include "worker/api/http_docs.h"
#include "worker/api/http_inquiry.h"
#include "worker/api/http_load_limit.h"
#include "worker/api/http_metrics.h"
#include "worker/api/token_post.h"
#include "worker/auth/auth.h"
#include "worker/policy/bundle_get.h"
#include "worker/policy/webhook_post.h"

#define OK_BODY       "{\"status\":\"ok\"}"
#define OPTION(field) offsetof(struct config, field)

static http_handler jwks_get, ready_get, health_get;

/* In the reference's order. */
static const struct http_route routes[] = {
    {.method = "GET", .path = "/openapi.json", .handle = docs_openapi_get, .flags = HTTP_ROUTE_PAGE},
    {.method = "GET", .path = "/docs", .handle = docs_page_get, .flags = HTTP_ROUTE_PAGE},
    {.method = "GET", .path = "/redoc", .handle = docs_page_get},
    {.method = "GET", .path = "/policy", .handle = bundle_get, .need = HTTP_NEEDS_TOKEN},
    {.method = "GET", .path_option = OPTION(all_data_route), .handle = data_all_get},
    {.method = "POST",
        .path_option = OPTION(data_callback_default_route),
        .handle = callback_report_post,
        .need = HTTP_NEEDS_TOKEN,
        .flags = HTTP_ROUTE_TAKES_BODY},
    {.method = "GET",
        .path_option = OPTION(data_config_route),
        .handle = data_sources_get,
        .need = HTTP_NEEDS_TOKEN},
    {.method = "POST",
        .path_option = OPTION(data_config_route),
        .handle = data_update_post,
        .need = HTTP_NEEDS_DATASOURCE,
        .flags = HTTP_ROUTE_TAKES_BODY},
    {.method = "POST", .path = "/webhook", .handle = webhook_post, .flags = HTTP_ROUTE_TAKES_BODY},
    {.method = "POST",
        .path = "/token",
        .handle = token_post,
        .need = HTTP_NEEDS_MASTER,
        .flags = HTTP_ROUTE_TAKES_BODY},
    {.method = "GET", .path = "/pubsub_client_info", .handle = client_info_get, .need = HTTP_NEEDS_TOKEN},
    {.method = "GET", .path = "/statistics", .handle = statistics_get, .need = HTTP_NEEDS_TOKEN},
    {.method = "GET", .path = "/stats", .handle = stats_get, .need = HTTP_NEEDS_TOKEN},
    {.method = "GET", .path = "/loadlimit", .handle = load_limit_get, .need = HTTP_NEEDS_TOKEN},
    {.method = "GET", .path_option = OPTION(auth_jwks_url), .handle = jwks_get, .flags = HTTP_ROUTE_FILE},
    {.method = "GET", .path = "/", .body = OK_BODY},
    {.method = "GET", .path = "/healthcheck", .handle = health_get},
    {.method = "GET", .path = "/livez", .body = OK_BODY},
    {.method = "GET", .path = "/readyz", .handle = ready_get},
    {.method = "GET", .path = "/metrics", .handle = metrics_get},
};

#define ROUTE_COUNT (sizeof routes / sizeof *routes)
static_assert(ROUTE_COUNT <= HTTP_ROUTES_MAX, "shm/figures.h has room for each route");

const struct http_route_table api_routes = {.routes = routes, .count = ROUTE_COUNT};

/* ---- small handlers ---- */

static enum http_answer jwks_get(struct http_exchange *exchange)
{
    http_reply_set(&exchange->reply, 200, HTTP_JSON, auth_jwks(exchange->services->auth));
    return HTTP_ANSWERED;
}

/* As the reference: a backbone that is being tried again is no fault, one that is given up is. */
static enum http_answer health_get(struct http_exchange *exchange)
{
    bool lost = backbone_state_read(exchange->services->segment) == BACKBONE_LOST;
    if (lost && exchange->services->config->broadcast.healthcheck_enabled)
        http_reply_set(&exchange->reply, 503, HTTP_JSON,
            SLICE_LITERAL("{\"status\":\"error\",\"broadcaster\":\"unhealthy\"}"));
    else
        http_reply_set(&exchange->reply, 200, HTTP_JSON, SLICE_LITERAL(OK_BODY));
    return HTTP_ANSWERED;
}

/* It is stopped or hangs: what workers publish is not ordered, and a worker that ends is not replaced. */
static bool master_is_silent(const struct http_services *services)
{
    uint64_t now = clock_monotonic_ns();
    uint64_t beat = master_heartbeat_read(services->segment);
    double limit = services->config->master_hang_seconds * (double)CLOCK_SECOND;
    return beat != 0 && now > beat && (double)(now - beat) > limit;
}

/* `word` as before there were reasons; the reason, where the backend names one. */
static void ready_refuse(struct http_exchange *exchange, const char *word)
{
    struct backbone_health health = backbone_health_read(exchange->services->segment);
    const char *reason = backbone_trouble_text(health.trouble);
    struct text body = {0};
    text_append_format(&body, "{\"status\":\"error\",\"broadcaster\":\"%s\"", word);
    if (*reason)
        text_append_format(&body, ",\"reason\":\"%s\"", reason);
    text_append_char(&body, '}');
    http_reply_set(&exchange->reply, 503, HTTP_JSON, text_slice(&body));
    text_free(&body);
}

static enum http_answer ready_get(struct http_exchange *exchange)
{
    enum backbone_state state = backbone_state_read(exchange->services->segment);
    if (master_is_silent(exchange->services))
        http_reply_set(&exchange->reply, 503, HTTP_JSON,
            SLICE_LITERAL("{\"status\":\"error\",\"master\":\"not responding\"}"));
    else if (state == BACKBONE_CONNECTING)
        ready_refuse(exchange, "connecting");
    else if (state == BACKBONE_GAP || state == BACKBONE_LOST)
        ready_refuse(exchange, "disconnected");
    else
        http_reply_set(&exchange->reply, 200, HTTP_JSON, SLICE_LITERAL(OK_BODY));
    return HTTP_ANSWERED;
}
