/* All connections of a worker: what they share, and what is done to all of them. Worker's loop only. */
#ifndef OPALD_WORKER_CLIENT_CONNECTIONS_H
#define OPALD_WORKER_CLIENT_CONNECTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <event2/event.h>
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "worker/client/connection.h"
#include "worker/client/memory_ledger.h"
#include "worker/client/worker_counters.h"
#include "worker/net/deadline.h"

struct connections;

/* Pointers must outlive the set. */
struct connections_settings {
    struct event_base *base;
    /* The worker's slot shows how many connections there are. */
    struct worker_counters counters;
    struct memory_ledger *ledger;
    /* what one client may leave unread, in bytes */
    uint64_t queue_max_bytes;
    /* Called when a connection's queue has run empty. */
    void (*drained)(void *context);
    void *context;
};

/* NULL with `err`. */
MUST_CHECK struct connections *connections_open(
    const struct connections_settings *settings, struct error *err);
/* Kills and frees all of them. NULL is allowed. */
void connections_close(struct connections *connections);
/* For the durations of the classes. */
struct deadlines *connections_deadlines(struct connections *connections);
/* Takes over an accepted, non-blocking socket. The caller puts the connection into its first stage. */
struct connection *connections_add(struct connections *connections, int fd);
/* The newest one; walk with `next`. NULL: there is none. */
struct connection *connections_first(const struct connections *connections);
uint32_t connections_count(const struct connections *connections);
/* Counts the loop's rounds of readiness. */
uint64_t connections_turn(const struct connections *connections);
/* The worker stops: idle connections end now, busy ones when they are done. */
void connections_drain(struct connections *connections);
bool connections_are_draining(const struct connections *connections);
/* The grace time is over. */
void connections_stop(struct connections *connections);

#endif
