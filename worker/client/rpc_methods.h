/* What a client may call over its websocket: _ping_, ping, _get_channel_id_, subscribe, unsubscribe, publish. Worker's loop only. */
#ifndef OPALD_WORKER_CLIENT_RPC_METHODS_H
#define OPALD_WORKER_CLIENT_RPC_METHODS_H

#include <stddef.h>
#include <stdint.h>
#include "shm/common/text.h"
#include "worker/client/connection.h"

/* One text message. It may leave the connection in any state. */
void rpc_dispatch(struct connection *connection, struct slice text);
/* While a synchronous publish waits (connection->pending): keeps the bytes that came behind it; they are processed when the publish is done,
 * so that replies keep the order of the requests. Reading stops meanwhile, so this is one read buffer at most. */
void rpc_hold(struct connection *connection, const uint8_t *bytes, size_t length);
/* Bytes of memory that these take; part of the worker's held_bytes. */
size_t rpc_held(const struct connection *connection);
/* The connection ends: forgets what is pending. */
void rpc_cancel(struct connection *connection);

#endif
