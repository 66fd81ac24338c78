/* Taking connections: from the shared listening sockets and from other workers. Worker's loop only. */
#ifndef OPALD_WORKER_CLIENT_ACCEPTOR_H
#define OPALD_WORKER_CLIENT_ACCEPTOR_H

#include <stdint.h>
#include <event2/event.h>
#include "shm/segment.h"
#include "worker/client/peers.h"

struct acceptor;

/* All pointers must outlive the acceptor. */
struct acceptor_settings {
    struct event_base *base;
    struct segment *segment;
    unsigned slot;
    unsigned slot_count;
    /* Taken over. */
    const int *listeners;
    int listener_count;
    struct peers *peers;
    /* of all workers together; above it connections are closed at once, counted and logged */
    uint64_t connections_max;
    /* A connection that this worker serves: a non-blocking socket, taken over. */
    void (*accepted)(void *context, int fd);
    void *context;
};

/* Starts accepting. */
struct acceptor *acceptor_open(const struct acceptor_settings *settings);
/* Accepts no more, closes the listening sockets; connections already given to this worker are still taken. */
void acceptor_stop(struct acceptor *acceptor);
void acceptor_close(struct acceptor *acceptor);

#endif
