/* The last stage of a connection: the websocket, from the 101 to its end (what happens on it:
 * websocket_session.h). Worker's loop only. */
#ifndef OPALD_WORKER_CLIENT_WEBSOCKET_STAGE_H
#define OPALD_WORKER_CLIENT_WEBSOCKET_STAGE_H

#include <stddef.h>
#include <stdint.h>
#include <event2/event.h>
#include "shm/common/config.h"
#include "shm/link/publisher.h"
#include "worker/client/connections.h"
#include "worker/topics/subscriptions.h"

struct websocket_stage;

/* Pointers must outlive the stage. */
struct websocket_stage_settings {
    struct event_base *base;
    const struct config *config;
    struct worker_counters counters;
    struct memory_ledger *ledger;
    struct publisher *publisher;
    struct subscriptions *subscriptions;
    /* A websocket ends: it gets no more deliveries. Called once for each. */
    void (*ended)(void *context, struct connection *connection);
    void *context;
};

/* What the handshake said of the client. */
struct websocket_opening {
    struct slice query;
    /* a reference, taken over; NULL in open mode */
    struct token_claims *claims;
    /* of the client, when a proxy gave it; NULL: the peer's */
    const char *host;
    uint16_t port;
    /* what came behind the handshake; the bytes are changed */
    uint8_t *rest;
    size_t rest_length;
};

struct websocket_stage *websocket_stage_open(const struct websocket_stage_settings *settings);
/* When there are no more connections. NULL is allowed. */
void websocket_stage_close(struct websocket_stage *stage);
/* Open websockets. */
uint32_t websocket_stage_count(const struct websocket_stage *stage);

/* After the 101: the websocket is open. */
void websocket_session_start(
    struct websocket_stage *stage, struct connection *connection, const struct websocket_opening *opening);

#endif
