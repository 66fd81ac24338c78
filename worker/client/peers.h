/*
 * Messages between the processes of the host. Each worker has a SOCK_SEQPACKET pair: it holds the receive
 * end, and every process of the host holds the send end. Whoever wants messages of a kind registers for it.
 * Worker's loop only.
 */
#ifndef OPALD_WORKER_CLIENT_PEERS_H
#define OPALD_WORKER_CLIENT_PEERS_H

#include <stdbool.h>
#include <stdint.h>
#include <event2/event.h>
#include "shm/common/object.h"
#include "shm/link/handoff_message.h"

struct peers;

/* A message came in, with the descriptor `fd` (-1: without), which the receiver owns from now on. */
typedef void peers_receiver(void *context, const struct handoff_message *message, int fd);

/* Takes over the descriptors: `receive` is this worker's receive end, or -1; `send` has a send end per slot,
 * -1 where there is none. */
struct peers *peers_open(struct event_base *base, int receive, const int *send, unsigned slot_count);
void peers_close(struct peers *peers);
/* One receiver per kind. Messages of a kind without a receiver are dropped. */
void peers_register(struct peers *peers, enum handoff_kind kind, peers_receiver *receiver, void *context);

bool peers_has(const struct peers *peers, unsigned slot);
/* Without waiting; `fd` (-1: none) stays the caller's. False: there is no such worker, or its buffer is
 * full. */
MUST_CHECK bool peers_send(
    const struct peers *peers, unsigned slot, const struct handoff_message *message, int fd);
/* How many messages with a descriptor are on their way to the slot, whoever has sent them: all workers send
 * through the same socket, whose buffer tells. 0 where the kernel does not say. */
uint32_t peers_on_the_way(const struct peers *peers, unsigned slot);

#endif
