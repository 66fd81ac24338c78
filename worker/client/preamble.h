/*
 * What comes before the first byte of HTTP: the PROXY header of a trusted load balancer, then the TLS
 * handshake. Both together have OPAL_TLS_HANDSHAKE_TIMEOUT. The first stage of a connection (connection.h);
 * one that needs neither goes on to HTTP at once. Worker's loop only.
 */
#ifndef OPALD_WORKER_CLIENT_PREAMBLE_H
#define OPALD_WORKER_CLIENT_PREAMBLE_H

#include "shm/common/config.h"
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "worker/client/connection_http.h"
#include "worker/client/connections.h"
#include "worker/net/tls.h"

struct preamble_stage;

/* Pointers must outlive the stage. */
struct preamble_settings {
    const struct config *config;
    struct worker_counters counters;
    /* NULL: the listener is plain */
    struct tls_server *tls;
    struct http_stage *next;
};

/* NULL with `err`: OPAL_PROXY_PROTOCOL_FROM is not a list of networks. */
MUST_CHECK struct preamble_stage *preamble_stage_open(
    const struct preamble_settings *settings, struct error *err);
/* When there are no more connections. NULL is allowed. */
void preamble_stage_close(struct preamble_stage *stage);
/* A connection that was just accepted. */
void preamble_begin(struct preamble_stage *stage, struct connection *connection);

#endif
