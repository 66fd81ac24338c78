/* What a worker process inherits from the master: descriptors, and which slot of the shared memory it has. */
#ifndef OPALD_WORKER_WORKER_DESCRIPTORS_H
#define OPALD_WORKER_WORKER_DESCRIPTORS_H

#include "shm/link/policy_link.h"
#include "shm/segment.h"

#define WORKER_LISTENERS_MAX 8

struct worker_descriptors {
    struct segment_descriptors segment;
    unsigned slot;
    /* listening, shared by all workers; non-blocking */
    int listeners[WORKER_LISTENERS_MAX];
    int listener_count;
    /* certificate and key (worker/net/tls_store.h); -1: the listeners are plain */
    int tls_store;
    /* read end of a pipe that the master holds open; its end: the master is gone, and the worker exits at
     * once */
    int lifeline;
    /* of auth_keys_give; 0: none, they are loaded from the configuration if it has any */
    int keys;
    /* the receive end of this worker's SOCK_SEQPACKET pair (worker/client/peers.h); -1: none */
    int handoff_receive;
    /* per slot: the send end of that slot's pair; -1 where there is none */
    int handoff_send[SEGMENT_SLOTS_MAX];
    /* entries of handoff_send in use */
    unsigned slot_count;
    /* of the policy process (shm/link/policy_link.h); empty: there is none */
    char policy_address[POLICY_ADDRESS_MAX];
};

#endif
