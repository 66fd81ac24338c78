/* The server's answer to a websocket upgrade request (RFC 6455 4.2), to the byte what the reference answers.
 * Pure. */
#ifndef OPALD_WORKER_WEBSOCKET_WEBSOCKET_HANDSHAKE_H
#define OPALD_WORKER_WEBSOCKET_WEBSOCKET_HANDSHAKE_H

#include "shm/common/object.h"
#include "shm/common/text.h"
#include "worker/http/http_request.h"

/* Appends the whole reply and returns its status: 101, 400, 403, 405 or 426. Anything but 101 ends the
 * connection. Compression is declined and subprotocols and origins are not looked at. */
MUST_CHECK unsigned websocket_handshake(const struct http_request *request, struct text *reply);
/* The refusal alone, for who may not come in. Returns 403. */
unsigned websocket_handshake_forbid(struct text *reply);
/* "Forbidden" */
const char *websocket_handshake_phrase(unsigned status);

#endif
