/*
 * What a client may call over its websocket: _ping_, ping, _get_channel_id_, subscribe, unsubscribe, publish.
 * A text message comes in, a reply and a verdict come out; sending and closing is the caller's business.
 * Worker's loop only.
 */
#ifndef OPALD_WORKER_CLIENT_RPC_METHODS_H
#define OPALD_WORKER_CLIENT_RPC_METHODS_H

#include <stddef.h>
#include <stdint.h>
#include "shm/common/config.h"
#include "shm/common/object.h"
#include "shm/common/text.h"
#include "shm/link/publisher.h"
#include "worker/client/connection.h"
#include "worker/client/memory_ledger.h"
#include "worker/client/worker_counters.h"
#include "worker/topics/subscriptions.h"

struct rpc_methods;

/* Pointers must outlive it. */
struct rpc_methods_settings {
    const struct config *config;
    struct worker_counters counters;
    struct memory_ledger *ledger;
    struct publisher *publisher;
    struct subscriptions *subscriptions;
    /* From the loop: a publish that waited (RPC_WAIT) is decided. `reply` is what the call answers; `behind`
     * are the bytes of rpc_methods_hold, which may be changed. Both are valid during the call. */
    void (*answered)(struct connection *connection, struct slice reply, struct text *behind);
};

enum rpc_outcome {
    /* the reply has to be sent */
    RPC_REPLY,
    /* the connection has to be closed with 1000 */
    RPC_CLOSE,
    /* a synchronous publish waits for its place in the order (connection->pending): `answered` is called
     * later */
    RPC_WAIT,
    /* there is no answer */
    RPC_NOTHING,
};

struct rpc_methods *rpc_methods_open(const struct rpc_methods_settings *settings);
/* NULL is allowed. */
void rpc_methods_close(struct rpc_methods *methods);
/* One text message. `*reply` is valid until the next call. */
MUST_CHECK enum rpc_outcome rpc_methods_call(
    struct rpc_methods *methods, struct connection *connection, struct slice text, struct slice *reply);
/* While a synchronous publish waits: keeps the bytes that came behind it, which are processed when the
 * publish is done, so that replies keep the order of the requests. Reading stops meanwhile, so this is one
 * read buffer at most. */
void rpc_methods_hold(
    struct rpc_methods *methods, struct connection *connection, const uint8_t *bytes, size_t length);
/* Bytes of memory that these take; part of the memory ledger. */
size_t rpc_methods_held(const struct connection *connection);
/* The connection ends: forgets what is pending. */
void rpc_methods_cancel(struct rpc_methods *methods, struct connection *connection);

#endif
