/*
 * One worker process: it serves websocket and HTTP clients on the shared listening sockets and reads events
 * in place from the ring. The master forks and executes the program anew (`/proc/self/exe worker ...`) with
 * the descriptors below inherited, and the new process calls worker_main; nothing of the master's memory is
 * carried over (design.md, traps).
 */
#ifndef OPALD_WORKER_WORKER_H
#define OPALD_WORKER_WORKER_H

#include "shm/common/config.h"
#include "shm/link/policy_link.h"
#include "shm/segment.h"

#define WORKER_LISTENERS_MAX 8

struct worker_descriptors {
    struct segment_descriptors segment;
    unsigned slot;
    int listeners[WORKER_LISTENERS_MAX]; /* listening, shared by all workers; made non-blocking by whoever
                                            opened them */
    int listener_count;
    int tls_store; /* certificate and key (worker/net/tls_store.h); -1: plain */
    int lifeline;  /* read end of a pipe the master holds open; EOF = the master is gone: exit at once */
    int keys;      /* of auth_keys_give; 0: none, they are loaded from the configuration if it has any */
    int handoff_receive; /* SOCK_SEQPACKET: accepted connections given by other workers arrive here; -1: none
                          */
    int handoff_send[SEGMENT_SLOTS_MAX]; /* per slot: the send end of that slot's pair; -1 where there is none
                                          */
    unsigned slot_count;                 /* entries of handoff_send in use */
    char policy_address
        [POLICY_ADDRESS_MAX]; /* of the policy process (shm/link/policy_link.h); empty: there is none */
};

/*
 * Runs the worker until it is told to end; returns the process's exit code (0 after a graceful stop, 1 when
 * it could not start: one line is in the log). Takes ownership of all descriptors. `config` must live as long
 * as the process. Signals: HUP reads the certificate anew; TERM stops accepting, closes websockets with 1012 spread within the grace time,
 * finishes HTTP requests and ends; a second TERM, INT or QUIT end at once.
 */
int worker_main(const struct config *config, const struct worker_descriptors *descriptors);

#endif
