/*
 * One client connection, from accept to the end of its lingering: first HTTP, then perhaps a websocket. Many thousands of these are
 * idle at any time, so whatever an idle websocket does not need (HTTP session, output queue, half a message, a publish
 * that waits) lives in memory of its own that comes and goes.
 *
 * State machine:
 *
 *   HTTP ----> OPEN ----> CLOSING ----> FINISHING ----> LINGERING ----> DEAD
 *     |          |  our close frame is    what is queued    shutdown(2) done,  freed by the worker's
 *     |          |  out, theirs not yet   goes out          input is discarded  settle list
 *     '----------'------------------------^
 *
 * A socket error leads from anywhere to DEAD. Nothing frees a connection on the spot: callers up the stack may still hold
 * it; they look at the state instead. Worker's loop only.
 */
#ifndef OPALD_WORKER_CLIENT_CONNECTION_H
#define OPALD_WORKER_CLIENT_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <event2/event.h>
#include "shm/common/identity.h"
#include "worker/net/deadline.h"
#include "worker/net/output_queue.h"
#include "worker/net/transport.h"
#include "worker/topics/subscriptions.h"
#include "worker/websocket/websocket_frame.h"

#define CONNECTION_MAGIC 0x0c011ec7u

struct worker;
struct token_claims;
struct connection_entrance; /* worker/client/connection_entrance.c */
struct network_address;
struct connection_http; /* worker/client/connection_http.c */
struct rpc_pending;     /* worker/client/rpc_methods.c */
struct client_details;  /* worker/client/client_details.c */

enum connection_state {
    CONNECTION_HTTP,
    CONNECTION_OPEN,
    CONNECTION_CLOSING,
    CONNECTION_FINISHING,
    CONNECTION_LINGERING,
    CONNECTION_DEAD,
};

/* Exists only while the socket refuses bytes. */
struct connection_backlog {
    struct output_queue queue;
    struct deadline stall;
    struct connection *connection;
    uint64_t window_ns; /* when the window of time began in which `drained` is counted */
    size_t drained;
    bool slow; /* it drained too little in a window */
};

/* In the order of use: a delivery touches the first cache line, a reply the second too, which comes with it. */
struct connection {
    uint32_t magic;
    /* enum connection_state */
    uint8_t state;
    bool read_armed;
    bool write_armed;
    /* the peer ended its side while our last bytes were going out */
    bool input_ended : 1;
    bool was_websocket : 1;
    /* websocket_session_ended was called */
    bool ended : 1;
    /* the application closed it: the log has its end already */
    bool refused : 1;
    /* in the settle list */
    bool settling : 1;
    struct transport transport;
    /* NULL: nothing is queued */
    struct connection_backlog *backlog;
    /* this batch's deliveries, see fanout.c; FANOUT_NONE outside a batch */
    uint32_t delivery_first;
    uint32_t delivery_last;
    /* of the websocket */
    struct identity channel;

    struct websocket_parser parser;
    struct subscription_set subscriptions;

    struct worker *worker;
    /* a synchronous publish that waits; later requests wait behind it */
    struct rpc_pending *pending;
    struct connection_http *http;    /* while in state HTTP */
    struct network_address *proxied; /* whom a PROXY header named; NULL: the socket's peer */
    struct connection_entrance
        *entrance; /* before the first byte of HTTP: PROXY header and TLS handshake; NULL else */
    struct connection *next;
    struct connection *previous;
    struct connection *next_settle;
    struct deadline deadline;
    uint64_t opened_us;             /* CLOCK_REALTIME, when it became a websocket */
    struct client_details *details; /* NULL: there are none (client_details.h) */
    struct token_claims *claims;    /* of the token it came with; NULL in open mode */
    struct event *token_end;        /* NULL: the connection does not end with a token */
    uint32_t paced_index; /* its place in a paced close, see paced_closing.c; PACED_CLOSING_NONE otherwise */
    uint8_t ping_payload[4];
    uint16_t port; /* the peer's, for the log */
};

_Static_assert(offsetof(struct connection, parser) == 64, "a delivery touches one cache line");

/* Takes over an accepted, non-blocking socket. */
void connection_open(struct worker *worker, int fd);

/* Sends now what the socket takes and queues the rest (head and tail are copied; a block reference is taken over). Errors make the
 * connection DEAD. */
void connection_send(struct connection *connection, const struct output_parts *parts);
/* The transport has taken bytes that the socket has not: a backlog waits with them. */
void connection_hold(struct connection *connection);
/* As transport_send; only while there is no backlog. */
MUST_CHECK static inline ssize_t connection_write(
    struct connection *connection, const struct iovec *vector, size_t count, uint64_t *calls)
{
    ssize_t sent = transport_send(&connection->transport, vector, count, calls);
    if (__builtin_expect(connection->transport.holding, false))
        connection_hold(connection);
    return sent;
}
/* Queues behind what is queued already. */
void connection_queue(struct connection *connection, const struct output_parts *parts);
size_t connection_queued_bytes(const struct connection *connection);
/* True when one more frame of this size would be more than the client may leave unread. A single frame is always allowed. */
bool connection_over_limit(const struct connection *connection, size_t more);
/* For one with a backlog: true when much of it waits but it drains fast, or has not had the time to show. */
bool connection_deserves_breath(struct connection *connection, uint64_t now_ns);

/* Everything that was to be said is said: flush, shutdown, linger. The subscriptions are gone at once. */
void connection_finish(struct connection *connection);
/* The socket is broken or a limit passed: no more I/O. Freed soon, by the settle list. */
void connection_kill(struct connection *connection);
/* Has connection_settle called from the loop, when no callback of it is on the stack. */
void connection_settle_later(struct connection *connection);
/* The settle list's work: frees what is dead, ends an HTTP session that is over. */
void connection_settle_all(struct worker *worker);
/* For the worker's poller. */
void connection_ready(void *connection, bool readable, bool writable);
/* Arms reading and writing as the state demands. */
void connection_update_events(struct connection *connection);
/* For the worker's deadlines. */
void connection_deadline_expired(void *worker, enum deadline_class which, struct deadline *deadline);

/* ---- worker/client/connection_token.c ---- */
/* A websocket that was opened with a token that expires (connection->claims) is closed with 1008 then. */
void connection_token_start(struct connection *connection);
void connection_token_end(struct connection *connection);

/* ---- worker/client/connection_entrance.c ---- */
void connection_entrance_open(struct connection *connection);
void connection_entrance_free(struct connection *connection);
/* Goes on with it; true when it is over and HTTP may be read. Only while connection->entrance. */
bool connection_enter(struct connection *connection);
void connection_entrance_late(struct connection *connection);

/* ---- worker/client/connection_http.c ---- */
/* The peer's address as text, in `out` (at least 46 bytes); empty when there is none. */
const char *connection_host(const struct connection *connection, char *out, size_t size);
const struct network_address *connection_http_address(const struct connection *connection);
/* Who the client is, when that is not who the socket is connected with. */
void connection_http_set_address(struct connection *connection, const struct network_address *address);
const char *connection_http_peer(const struct connection *connection); /* "127.0.0.1:33210" */
void connection_http_open(struct connection *connection);
void connection_http_input(struct connection *connection, char *bytes, size_t length);
void connection_http_end_of_input(struct connection *connection);
void connection_http_timeout(struct connection *connection);
/* The held refusal's time has come. */
void connection_http_refuse(struct connection *connection);
void connection_http_backbone_late(struct connection *connection);
/* The grace time is over. */
void connection_http_stop(struct connection *connection);
/* Bytes of a request that is not whole, as far as worker->held_bytes has them. */
size_t connection_http_held(const struct connection *connection);
bool connection_http_wants_input(const struct connection *connection);
/* Frees session and all; `settle` first ends it when it is over. */
void connection_http_settle(struct connection *connection);
void connection_http_free(struct connection *connection);
/* The worker is stopping: idle ones end now, busy ones after their reply. */
void connection_http_drain(struct connection *connection);

#endif
