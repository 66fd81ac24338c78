/*
 * The HTTP time of a connection: the session's operations on the connection, and the end of the session,
 * which is freed only from the loop and never from within its own callbacks. The stage before the websocket.
 * Worker's loop only.
 */
#ifndef OPALD_WORKER_CLIENT_CONNECTION_HTTP_H
#define OPALD_WORKER_CLIENT_CONNECTION_HTTP_H

#include "shm/common/error.h"
#include "shm/common/object.h"
#include "worker/client/connections.h"
#include "worker/client/websocket_stage.h"
#include "worker/http/http_services.h"

struct http_stage;

/* Pointers must outlive the stage. */
struct http_stage_settings {
    const struct http_services *services;
    struct worker_counters counters;
    struct memory_ledger *ledger;
    struct websocket_stage *next;
};

/* NULL with `err`: OPAL_FORWARDED_ALLOW_IPS is not a list of networks. */
MUST_CHECK struct http_stage *http_stage_open(const struct http_stage_settings *settings, struct error *err);
/* When there are no more connections. NULL is allowed. */
void http_stage_close(struct http_stage *stage);
/* The connection speaks HTTP from now on. */
void connection_http_begin(struct http_stage *stage, struct connection *connection);
/* Gives the allocator's memory back after a burst of connections. Each second or so. */
void http_stage_trim(struct http_stage *stage);

#endif
