/*
 * The policy process: tracks the policy repository (or bundle server), publishes what changed, and gives
 * bundles to the workers. There is one per server. The master starts it as it starts the workers
 * (`--as-policy`). Its loop never waits: git and downloads run as its children.
 */
#ifndef OPALD_SERVER_POLICY_POLICY_PROCESS_H
#define OPALD_SERVER_POLICY_POLICY_PROCESS_H

#include "shm/common/config.h"
#include "shm/segment.h"

struct policy_descriptors {
    struct segment_descriptors segment;
    /* Of its uplink and counters: the last one of the segment. */
    unsigned slot;
    /* Ends when the master ends, as the workers' lifelines. */
    int lifeline;
    /* For the workers' connections (policy_link.h). */
    int listener;
    /* An eventfd: the master writes it when an event on the webhook topic passes. */
    int poke;
};

/* Runs until TERM, INT or QUIT, or until the master ends. `argv` has --as-policy in it; the children of this
 * program get the other arguments. Takes ownership of all descriptors. Returns the exit code. */
int policy_process_main(
    const struct config *config, const struct policy_descriptors *descriptors, int argc, char **argv);

#endif
