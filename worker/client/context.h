/* What the parts of one worker share. Owned by worker_main; everything in it is used from the worker's loop only. */
#ifndef OPALD_WORKER_CLIENT_CONTEXT_H
#define OPALD_WORKER_CLIENT_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <event2/event.h>
#include "shm/common/network.h"
#include "shm/common/config.h"
#include "shm/segment.h"
#include "shm/worker_table.h"
#include "worker/client/connection.h"
#include "worker/net/deadline.h"
#include "worker/http/http_session.h"
#include "shm/link/publisher.h"
#include "worker/rpc/rpc_message.h"
#include "worker/rpc/rpc_topics.h"
#include "worker/topics/subscriptions.h"

#define WORKER_READ_BUFFER (64 * 1024)

struct acceptor;
struct peers;
struct auth;
struct paced_closing;
struct fanout;
struct inquiry;
struct refusal_pace;
struct network_list;
struct policy_client;
struct poller;
struct pool;
struct webhook_params;
struct tls_server;

struct worker {
    const struct config *config;
    struct segment *segment;
    unsigned slot;
    uint32_t incarnation;
    struct event_base *base;
    struct publisher *publisher;
    struct subscriptions *subscriptions;
    struct deadlines *deadlines;
    struct fanout *fanout;
    struct peers *peers;
    struct acceptor *acceptor;
    struct paced_closing *paced_closing;
    struct data_sources *data_sources;
    struct auth *auth;
    struct bundle_cache *bundles;
    struct policy_client *policy; /* that of `bundles` */
    struct refusal_pace *refusals;
    uint32_t refusals_held; /* connections that wait for theirs */
    struct webhook_params *webhook;
    struct http_services services;
    struct inquiry *inquiry;
    struct tls_server *tls; /* NULL: the listener is plain */
    int tls_store;          /* -1, or where the certificate comes from (worker/net/tls_store.h) */
    unsigned first_ping;    /* the place of the next client's first ping (worker/net/deadline.h) */
    uint64_t handshake_turn;
    unsigned handshakes;         /* of this turn */
    struct network_list proxies; /* who has to send a PROXY header */

    struct poller *poller;
    struct network_list *forwarders; /* whose X-Forwarded-* count; NULL: nobody's */
    struct pool *connection_pool;
    struct connection *connections; /* all of them, newest first */
    uint32_t connection_count;
    uint64_t held_bytes; /* memory that clients make this worker hold, see memory_budget.h */
    uint64_t held_bytes_max;
    uint32_t http_count; /* of them in HTTP, with a session of their own */
    uint32_t http_peak;  /* most of them since memory was last given back, see worker.c */
    struct connection *settle;
    struct event *settle_event;

    char *read_buffer;        /* WORKER_READ_BUFFER bytes, for one read at a time */
    struct rpc_message rpc;   /* reused from message to message */
    struct text reply;        /* likewise */
    struct text scratch;      /* decoded strings of one call */
    struct rpc_topics topics; /* the topics of one call */

    bool draining;
    int exit_code;

    struct log_limiter limit_protocol; /* one per reason to log */
    struct log_limiter limit_slow;
    struct log_limiter limit_memory;
    struct log_limiter limit_ping;
    struct log_limiter limit_handshake;
    struct log_limiter limit_forwarded;
    struct log_limiter limit_rejected;
    struct log_limiter limit_rpc;
    struct log_limiter limit_entrance;
};

static inline void worker_count(struct worker *worker, enum counter counter, uint64_t amount)
{
    counter_add(worker->segment, worker->slot, counter, amount);
}

#endif
