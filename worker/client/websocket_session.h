/* One websocket: frames in, calls answered, closing. For connections that websocket_stage.h has started.
 * Worker's loop only. */
#ifndef OPALD_WORKER_CLIENT_WEBSOCKET_SESSION_H
#define OPALD_WORKER_CLIENT_WEBSOCKET_SESSION_H

#include <stddef.h>
#include <stdint.h>
#include "worker/client/connection.h"

/* The application ends it: close frame, then up to ten seconds for the peer's. */
void websocket_session_close(struct connection *connection, uint16_t code, const char *reason);
/* The connection is failed (RFC 6455 7.1.7): close frame, then the end without waiting for theirs. */
void websocket_session_fail(struct connection *connection, uint16_t code, const char *reason);
/* The client does not read: what was not begun is dropped and counted (with `more` deliveries that were about
 * to be queued), then 1013. */
void websocket_session_too_slow(struct connection *connection, size_t more);

#endif
