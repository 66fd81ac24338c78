/* Taking connections: from the shared listening sockets and from other workers. Worker's loop only. */
#ifndef OPALD_WORKER_CLIENT_ACCEPTOR_H
#define OPALD_WORKER_CLIENT_ACCEPTOR_H

#include <stdbool.h>
#include "shm/link/handoff_message.h"
#include "worker/worker.h"

struct acceptor;
struct worker;

/* Takes over the listening sockets and the handoff descriptors and starts accepting. */
struct acceptor *acceptor_open(struct worker *worker, const struct worker_descriptors *descriptors);
/* Accepts no more, closes the listening sockets; connections already given to this worker are still taken. */
void acceptor_stop(struct acceptor *acceptor);
void acceptor_close(struct acceptor *acceptor);
/* A question or an answer to the worker of another slot, without waiting; `fd` (-1: none) stays the caller's. */
bool acceptor_send(
    const struct acceptor *acceptor, unsigned slot, const struct handoff_message *message, int fd);

#endif
