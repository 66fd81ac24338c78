/*
 * What a route asks of who calls it: the one place where HTTP requests are let in or not, before their body
 * is looked at.
 */
#ifndef OPALD_WORKER_HTTP_HTTP_GATE_H
#define OPALD_WORKER_HTTP_HTTP_GATE_H

#include <stdbool.h>
#include "shm/common/object.h"
#include "worker/http/http_exchange.h"

enum http_need {
    HTTP_NEEDS_NOTHING,
    /* any peer with a good bearer token */
    HTTP_NEEDS_TOKEN,
    /* a good bearer token with peer_type datasource */
    HTTP_NEEDS_DATASOURCE,
    /* the master token */
    HTTP_NEEDS_MASTER,
};

/*
 * True: go on; exchange->claims is what the token says (NULL in open mode), until the exchange ends. False:
 * the reply is set (401), logged and counted. In open mode, and without keys, everybody passes
 * HTTP_NEEDS_TOKEN and HTTP_NEEDS_DATASOURCE. A handler whose need depends on its configuration calls it
 * itself.
 */
MUST_CHECK bool http_gate_admit(struct http_exchange *exchange, enum http_need need);
/* 401 with {"detail":{"error":reason}}, logged and counted, for what only a handler can find out. */
void http_gate_refuse(struct http_exchange *exchange, struct slice reason, bool bearer);

/*
 * The log line alone, for a handshake: `peer` is who, `how` "" or "websocket, ". At most one line in ten
 * seconds for each reason.
 */
void http_gate_log(struct slice reason, const char *how, const char *peer);

#endif
