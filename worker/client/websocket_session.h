/* One open websocket: frames in, keep-alive, closing. Worker's loop only. */
#ifndef OPALD_WORKER_CLIENT_WEBSOCKET_SESSION_H
#define OPALD_WORKER_CLIENT_WEBSOCKET_SESSION_H

#include <stddef.h>
#include <stdint.h>
#include "worker/client/connection.h"

/* After the 101: the connection becomes OPEN. `rest` are bytes that came behind the request; they are changed. */
void websocket_session_start(struct connection *connection, uint8_t *rest, size_t length);
/* Received bytes; they are changed. */
void websocket_session_input(struct connection *connection, uint8_t *bytes, size_t length);
/* Sends one text message. */
void websocket_session_send_text(struct connection *connection, struct slice text);
/* The application ends it: close frame, then up to ten seconds for the peer's. */
void websocket_session_close(struct connection *connection, uint16_t code, const char *reason);
/* The connection is failed (RFC 6455 7.1.7): close frame, then the end without waiting for theirs. */
void websocket_session_fail(struct connection *connection, uint16_t code, const char *reason);
/* The client does not read: what was not begun is dropped and counted (with `more` deliveries that were about to be queued), then 1013. */
void websocket_session_too_slow(struct connection *connection, size_t more);
/* The worker holds too much for its clients, and this one has most of it: what was not begun is dropped, then 1013. */
void websocket_session_over_memory(struct connection *connection);
/* DEADLINE_PING or DEADLINE_PONG passed. */
void websocket_session_deadline(struct connection *connection, enum deadline_class which);
/* The connection leaves the states OPEN and CLOSING for good: subscriptions and pending calls go, the log and counters say so.
 * Idempotent. */
void websocket_session_ended(struct connection *connection);

#endif
