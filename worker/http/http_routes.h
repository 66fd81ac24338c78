/* The one table of routes: method, path, handler. */
#ifndef OPALD_WORKER_HTTP_HTTP_ROUTES_H
#define OPALD_WORKER_HTTP_HTTP_ROUTES_H

#include <stdbool.h>
#include "worker/http/http_exchange.h"

struct http_route;

/*
 * Looks a request up once its head is in. Never NULL: there are routes for what is not found (404), a wrong method (405 with `allow`),
 * a superfluous or missing slash at the end (307) and a cross-origin preflight.
 */
const struct http_route *http_routes_find(const struct config *config, const struct http_request *request);
/* Whether the caller may use the route, as its line in the table says (http_gate.h). Returns the route, or one that answers 401. */
const struct http_route *http_route_admit(const struct http_route *route, struct http_exchange *exchange);
/* The handler wants the body; without it a body is thrown away and the answer does not wait for it. */
bool http_route_takes_body(const struct http_route *route);
/* For figures: each route has a number; one stands for all that is no route, one for the websocket's handshake. */
struct http_route_name {
    const char *path;   /* as configured; "" for what is no route */
    const char *method; /* likewise */
};
unsigned http_route_count(void);
unsigned http_route_number(const struct http_route *route);
unsigned http_route_number_websocket(void);
struct http_route_name http_route_name(const struct config *config, unsigned number);
enum http_answer http_route_answer(const struct http_route *route, struct http_exchange *exchange);

#endif
