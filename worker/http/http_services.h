/* What the HTTP side of a worker is given when the worker opens; one per worker, read-only afterwards. */
#ifndef OPALD_WORKER_HTTP_HTTP_SERVICES_H
#define OPALD_WORKER_HTTP_HTTP_SERVICES_H

#include <stdint.h>
#include "shm/common/config.h"
#include "shm/segment.h"

struct api_services;
struct auth;
struct http_route_table;
struct policy_services;
struct publisher;

struct http_services {
    const struct config *config;
    /* for counters and for the state of the backbone */
    struct segment *segment;
    uint32_t slot;
    const struct http_route_table *routes;
    /* NULL: open mode */
    struct auth *auth;
    struct publisher *publisher;
    /*
     * For the handlers of the routes: worker/api/api_services.h, worker/policy/policy_services.h. Opaque
     * here.
     */
    const struct api_services *api;
    const struct policy_services *policy;
};

#endif
