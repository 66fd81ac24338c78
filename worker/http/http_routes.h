/*
 * Finds the route of a request in a table of routes. The table itself is given by http_services.routes
 * (worker/api/routes.h has the server's). What is no route has an answer too: 404, 405 with `allow`, 307 for
 * a superfluous or missing slash at the end, and the answer to a cross-origin preflight.
 */
#ifndef OPALD_WORKER_HTTP_HTTP_ROUTES_H
#define OPALD_WORKER_HTTP_HTTP_ROUTES_H

#include <stdbool.h>
#include <stddef.h>
#include "shm/figures.h"
#include "worker/http/http_exchange.h"
#include "worker/http/http_gate.h"

/* The handler wants the body; without the flag a body is thrown away, and the answer does not wait for it. */
#define HTTP_ROUTE_TAKES_BODY (1u << 0)
/* The reference serves it as a static file: HEAD works too, and a 405 has no `allow`. */
#define HTTP_ROUTE_FILE (1u << 1)
/* One of the reference's pages about itself: HEAD works too, and `allow` says so. */
#define HTTP_ROUTE_PAGE (1u << 2)

struct http_route {
    const char *method;
    /* A fixed path. NULL: `path_option` is the offset of a `const char *` in struct config. */
    const char *path;
    size_t path_option;
    /* A constant JSON body of a 200. NULL: `handle` answers. */
    const char *body;
    http_handler *handle;
    enum http_need need;
    /* HTTP_ROUTE_... */
    unsigned flags;
};

/* `allow` of a 405 names the method of the path's first route only, as the reference does. */
struct http_route_table {
    const struct http_route *routes;
    size_t count;
};

/* Numbers of routes in the metrics (shm/figures.h): a route's is its place in the table, and two more. */
enum {
    /* anything that is no route */
    HTTP_ROUTE_NONE = FIGURES_ROUTES - 2,
    /* the websocket's handshake */
    HTTP_ROUTE_WEBSOCKET = FIGURES_ROUTES - 1,
    HTTP_ROUTES_MAX = FIGURES_ROUTES - 2,
};

/* The route of a request whose head is in; never NULL. */
const struct http_route *http_routes_find(
    const struct http_services *services, const struct http_request *request);
/*
 * Whether the caller may use the route (its `need`, see http_gate.h). Returns the route, or one that answers
 * 401.
 */
const struct http_route *http_route_admit(const struct http_route *route, struct http_exchange *exchange);
bool http_route_takes_body(const struct http_route *route);
enum http_answer http_route_answer(const struct http_route *route, struct http_exchange *exchange);
/* The path as configured. */
const char *http_route_path(const struct http_route *route, const struct config *config);
/* For the metrics; HTTP_ROUTE_NONE for a route that is not in the table. */
unsigned http_route_number(const struct http_route_table *table, const struct http_route *route);

#endif
