/*
 * The HTTP side of one connection, without its socket: bytes in, reply bytes out. Requests are answered in
 * order (pipelining), with keep-alive, chunked bodies, Expect: 100-continue and limits. Allocated when a
 * connection is accepted and freed when it becomes a websocket. Worker's loop only.
 */
#ifndef OPALD_WORKER_HTTP_HTTP_SESSION_H
#define OPALD_WORKER_HTTP_HTTP_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include "shm/common/object.h"
#include "worker/http/http_request.h"
#include "worker/http/http_services.h"

struct http_session;
struct output_block;

enum http_deadline {
    HTTP_DEADLINE_NONE,
    HTTP_DEADLINE_HEAD,
    HTTP_DEADLINE_BODY,
    HTTP_DEADLINE_IDLE,
    /* a reply waits for the backbone's acknowledgement; at its end: http_session_backbone_late */
    HTTP_DEADLINE_BACKBONE,
};

/*
 * What the connection offers. All are called with the `connection` given to http_session_open. `upgrade` and
 * `finish` are the last call that a session makes. Both may come from within http_session_input, and also
 * when a pending reply is finished (a request behind it). The session must not be freed inside either of
 * them.
 */
struct http_connection_operations {
    /* Queue reply bytes; copied. */
    void (*send)(void *connection, const void *bytes, size_t length);
    /* The same with a body behind it that is not copied; the block reference is taken over. */
    void (*send_block)(void *connection, const void *bytes, size_t length, struct output_block *block);
    /*
     * A websocket upgrade request came in, on any path. The connection answers it (websocket_handshake: 101
     * or a refusal) and takes over; the session must then only be freed. `rest` are the bytes behind the head
     * that were already read.
     */
    void (*upgrade)(void *connection, const struct http_request *request, struct slice rest);
    /* Close once everything sent is out. */
    void (*finish)(void *connection);
    /* Which deadline applies from now on. The connection runs the timers; each call restarts it. */
    void (*deadline)(void *connection, enum http_deadline deadline);
    /*
     * A request's head is in: what it says about the client that it was forwarded for
     * (worker/http/forwarded.h) applies to `peer` and `scheme` until the next call. NULL: the request is
     * done.
     */
    void (*head)(void *connection, const struct http_request *request);
    /*
     * "127.0.0.1:33210", for the log; static buffer. Behind a trusted proxy, the client's address once its
     * head is in.
     */
    const char *(*peer)(void *connection);
    /* "http" or "https", or what a trusted proxy says it was. */
    const char *(*scheme)(void *connection);
};

/* `services` and `operations` must outlive it. */
struct http_session *http_session_open(const struct http_services *services,
    const struct http_connection_operations *operations, void *connection);
/* Cancels what a pending reply waits for; no callbacks afterwards. NULL is fine. */
void http_session_free(struct http_session *session);
/* Bytes held: of a request that is not whole, and of what came behind it. */
size_t http_session_held(const struct http_session *session);
/*
 * Takes all of the bytes. False: the session is over (error answered, connection: close, upgrade done), and
 * the caller frees it once the sent bytes are out. While a reply is pending, further requests are kept, up to
 * a limit.
 */
MUST_CHECK bool http_session_input(struct http_session *session, const void *bytes, size_t length);
/*
 * The deadline passed, or the peer closed its sending side: 408 if a request had begun; else the session just
 * finishes.
 */
void http_session_timeout(struct http_session *session);
/*
 * HTTP_DEADLINE_BACKBONE passed: the pending reply is 504, and the session goes on. Not from within
 * http_session_input.
 */
void http_session_backbone_late(struct http_session *session);
/*
 * The grace time is over: a reply that waits for the backbone is 504, the session's last one. Not from within
 * it either.
 */
void http_session_stop(struct http_session *session);
/* False while the session does not want more input (a reply is pending): the connection stops reading. */
bool http_session_wants_input(const struct http_session *session);

#endif
