/*
 * The HTTP side of one connection, without its socket: bytes in, reply bytes out, requests answered in order (pipelining),
 * keep-alive, chunked bodies, Expect: 100-continue, limits. Allocated when a connection is accepted and freed when it becomes a
 * websocket. Worker process only.
 */
#ifndef OPALD_WORKER_HTTP_HTTP_SESSION_H
#define OPALD_WORKER_HTTP_HTTP_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "worker/http/http_request.h"
#include "worker/http/http_services.h"

struct http_session;
struct output_block;

enum http_deadline {
    HTTP_DEADLINE_NONE,
    HTTP_DEADLINE_HEAD,
    HTTP_DEADLINE_BODY,
    HTTP_DEADLINE_IDLE,
    HTTP_DEADLINE_BACKBONE, /* a reply waits for the backbone's acknowledgement; ends in http_session_backbone_late */
};

/*
 * What the connection offers. All are called with the `connection` given to http_session_open. `upgrade` and `finish` are the last call a
 * session makes; both may come from within http_session_input, and also from the completion of a publish (a pipelined request behind
 * it). The session must not be freed inside either of them.
 */
struct http_connection_operations {
    /* Queue reply bytes; copied. */
    void (*send)(void *connection, const void *bytes, size_t length);
    /* The same with a body behind it that is not copied; the block reference is taken over. */
    void (*send_block)(void *connection, const void *bytes, size_t length, struct output_block *block);
    /* A websocket upgrade request came in, on any path: the connection answers it (101 or refusal) with ws_handshake and takes over. The session
     * must not be used afterwards except to be freed; `rest` are the bytes behind the head, already read. */
    void (*upgrade)(void *connection, const struct http_request *request, struct slice rest);
    /* Close once everything sent is out. */
    void (*finish)(void *connection);
    /* Which deadline applies from now on (the connection runs the timers; each call restarts it). */
    void (*deadline)(void *connection, enum http_deadline deadline);
    /* A request's head is in: what it says of whom it was forwarded for (worker/http/forwarded.h) holds for `peer` and `scheme` until the
     * next call. NULL: the request is done with. */
    void (*head)(void *connection, const struct http_request *request);
    /* "127.0.0.1:33210", for the access log; static buffer. Behind a trusted proxy, the client's address once its head is in. */
    const char *(*peer)(void *connection);
    /* "http" or "https"; what a trusted proxy says it was. */
    const char *(*scheme)(void *connection);
};

struct http_session *http_session_open(const struct http_services *services,
    const struct http_connection_operations *operations, void *connection);
/* Cancels pending publishes; no callbacks afterwards. */
/* Bytes held of a request that is not whole, and of what came behind it. */
size_t http_session_held(const struct http_session *session);
void http_session_free(struct http_session *session);
/* Feeds received bytes; all are consumed (or buffered within limits). Returns false when the session is over and must be freed by the caller
 * once sent bytes are out (error answered, connection: close, upgrade done). While a reply is pending (publish not yet ordered)
 * further pipelined requests are kept, bounded. */
bool http_session_input(struct http_session *session, const void *bytes, size_t length);
/* The peer closed its sending side / the deadline passed (answers 408 where a head had begun, else just finishes). */
void http_session_timeout(struct http_session *session);
/* HTTP_DEADLINE_BACKBONE passed: the pending reply is 504, and the session goes on. From the loop, not from within http_session_input. */
void http_session_backbone_late(struct http_session *session);
/* The grace time is over: a reply that waits for the backbone is 504, the last one of the session. From the loop as well. */
void http_session_stop(struct http_session *session);
/* False while the session does not want more input (a reply is pending): the connection stops reading. */
bool http_session_wants_input(const struct http_session *session);

#endif
