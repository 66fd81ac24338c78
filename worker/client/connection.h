/*
 * One client connection, from accept to the end of its lingering. All connections of a worker: connections.h.
 *
 * A connection goes through stages: the preamble (PROXY header, TLS handshake), HTTP, the websocket. This
 * module moves bytes, queues what the socket refuses, keeps time and ends connections; what the bytes mean is
 * the stage's business, which is reached through its table of operations only. Each stage knows the next one.
 *
 * Many thousands of connections are idle at any time, so whatever an idle websocket does not need (HTTP
 * session, output queue, half a message, a publish that waits) lives in memory of its own that comes and
 * goes.
 *
 *   UP --------> FINISHING --------> LINGERING ---------> DEAD
 *   its stage    what is queued      shutdown(2) done,    freed by the
 *   has it       goes out            input is discarded   settle list
 *
 * A socket error leads from anywhere to DEAD. Nothing frees a connection on the spot: callers up the stack
 * may still hold it; they look at the state instead. Worker's loop only.
 */
#ifndef OPALD_WORKER_CLIENT_CONNECTION_H
#define OPALD_WORKER_CLIENT_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <event2/event.h>
#include "shm/common/error.h"
#include "shm/common/identity.h"
#include "shm/common/object.h"
#include "worker/client/memory_ledger.h"
#include "worker/client/worker_counters.h"
#include "worker/net/deadline.h"
#include "worker/net/output_queue.h"
#include "worker/net/transport.h"
#include "worker/topics/subscriptions.h"
#include "worker/websocket/websocket_frame.h"

#define CONNECTION_MAGIC       UINT32_C(0x0c011ec7)
#define CONNECTION_NO_DELIVERY UINT32_MAX

struct client_details;
struct connection;
struct connection_http;
struct connections;
struct network_address;
struct preamble;
struct rpc_pending;
struct token_claims;
struct token_timer;

/* ---- stages ---- */

/* A stage is one object per worker, whose first member is a struct connection_stage. Operations that are NULL
 * do nothing. */
struct connection_stage_operations {
    /* Called before anything is read: the stage reads from the transport by itself, and may hand the
     * connection to the next stage. True: go on and read for the stage it is in now. */
    bool (*ready)(struct connection *connection);
    /* Received bytes, which may be changed. */
    void (*input)(struct connection *connection, char *bytes, size_t length);
    void (*end_of_input)(struct connection *connection);
    /* NULL: always. */
    bool (*wants_input)(const struct connection *connection);
    /* A deadline passed. DEADLINE_STALL: nothing of what is queued could be sent in its time. */
    void (*deadline)(struct connection *connection, enum deadline_class which);
    /* From the loop after connection_settle_later, when no callback of the connection is on the stack. */
    void (*settle)(struct connection *connection);
    /* The connection leaves CONNECTION_UP. Called once. */
    void (*ended)(struct connection *connection);
    /* Bytes that the stage holds for this connection, as the memory ledger counts them. */
    size_t (*held)(const struct connection *connection);
    /* The worker holds too much: close it with the reason. NULL: it is killed. */
    void (*over_memory)(struct connection *connection);
    /* The connection was closed for its memory: give back what is held of its input. */
    void (*release)(struct connection *connection);
    /* The worker stops. */
    void (*drain)(struct connection *connection);
    /* The grace time of the stop is over. */
    void (*stop)(struct connection *connection);
    /* The last call: frees what the stage keeps for the connection. */
    void (*free)(struct connection *connection);
};

struct connection_stage {
    uint32_t magic;
    const struct connection_stage_operations *operations;
};

/* ---- one connection ---- */

enum connection_state {
    CONNECTION_UP,
    CONNECTION_FINISHING,
    CONNECTION_LINGERING,
    CONNECTION_DEAD,
};

/* Exists only while the socket refuses bytes. */
struct connection_backlog {
    struct output_queue queue;
    struct deadline stall;
    struct connection *connection;
    /* when the window of time began in which `drained` is counted */
    uint64_t window_ns;
    size_t drained;
    /* it drained too little in a window */
    bool slow;
};

/* In the order of use: a delivery touches the first cache line, a reply the second too, which comes with
 * it. */
struct connection {
    uint32_t magic;
    /* enum connection_state */
    uint8_t state;
    bool read_armed;
    bool write_armed;
    /* an open websocket: deliveries go to it */
    bool is_open : 1;
    /* the application closed the websocket: the log has its end already */
    bool refused : 1;
    /* the peer ended its side while our last bytes were going out */
    bool input_ended : 1;
    /* in the settle list */
    bool settling : 1;
    struct transport transport;
    /* NULL: nothing is queued */
    struct connection_backlog *backlog;
    /* this batch's deliveries, see fanout.c; CONNECTION_NO_DELIVERY outside a batch */
    uint32_t delivery_first;
    uint32_t delivery_last;
    /* of the websocket */
    struct identity channel;

    struct websocket_parser parser;
    struct subscription_set subscriptions;

    struct connections *owner;
    /* set by the stage that takes it over, which then calls connection_update_events */
    struct connection_stage *stage;
    /* a synchronous publish that waits; later requests wait behind it (rpc_methods.h) */
    struct rpc_pending *pending;
    struct deadline deadline;
    struct connection *next;
    struct connection *previous;
    struct connection *next_settle;
    /* in the preamble only */
    struct preamble *preamble;
    /* in HTTP only */
    struct connection_http *http;
    /* whom a PROXY header named; NULL: the socket's peer (peer_address.h) */
    struct network_address *proxied;
    /* NULL: there are none (client_details.h) */
    struct client_details *details;
    /* of the token that the websocket was opened with; NULL in open mode */
    struct token_claims *claims;
    /* NULL: the websocket does not end with a token */
    struct token_timer *token_timer;
    /* CLOCK_REALTIME, when it became a websocket */
    uint64_t opened_us;
    /* its place in a paced close (paced_closing.h); 0: it has none */
    uint32_t paced_index;
    uint8_t ping_payload[4];
    /* the peer's, for the log */
    uint16_t port;
};

_Static_assert(offsetof(struct connection, parser) == 64, "a delivery touches one cache line");

void connection_set_deadline(struct connection *connection, enum deadline_class which);
void connection_clear_deadline(struct connection *connection);

/* Sends now what the socket takes and queues the rest (head and tail are copied; a block reference is taken
 * over). Errors make the connection DEAD. */
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
/* Drops the frames of which no byte was sent; returns how many deliveries were among them, which are counted
 * as dropped. */
size_t connection_drop_unsent(struct connection *connection);
/* True when one more frame of this size would be more than the client may leave unread. A single frame is
 * always allowed. */
bool connection_over_limit(const struct connection *connection, size_t more);
/* For one with a backlog: true when much of it waits but it drains fast, or has not had the time to show. */
bool connection_deserves_breath(struct connection *connection, uint64_t now_ns);

/* Everything that was to be said is said: flush, shutdown, linger. */
void connection_finish(struct connection *connection);
/* The socket is broken or a limit passed: no more I/O. Freed soon, by the settle list. */
void connection_kill(struct connection *connection);
/* Has the stage's `settle` called from the loop. */
void connection_settle_later(struct connection *connection);
/* Arms reading and writing as state and stage demand. */
void connection_update_events(struct connection *connection);
/* What it makes the worker hold, in bytes. */
size_t connection_held(const struct connection *connection);
/* Closes it because the worker holds too much; what it held of its input is given back. */
void connection_close_over_memory(struct connection *connection);

#endif
