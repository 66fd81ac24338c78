/* The table of all HTTP routes of the server: method, path, handler, and what each asks of its caller. */
#ifndef OPALD_WORKER_API_ROUTES_H
#define OPALD_WORKER_API_ROUTES_H

#include "worker/http/http_routes.h"

extern const struct http_route_table api_routes;

#endif
