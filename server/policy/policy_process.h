/*
 * The policy process: tracks the policy repository (or bundle server), publishes what changed, and gives bundles to the workers. One a
 * server, beside the workers, started by the master as they are (`--as-policy`); its loop never waits: git and downloads run as its
 * children.
 */
#ifndef OPALD_SERVER_POLICY_POLICY_PROCESS_H
#define OPALD_SERVER_POLICY_POLICY_PROCESS_H

#include "shm/common/config.h"
#include "shm/segment.h"

struct policy_descriptors {
    struct segment_descriptors segment;
    unsigned slot; /* its uplink and counters; the last one of the segment */
    int lifeline;  /* as the workers' */
    int listener;  /* for the workers' connections (policy_link.h) */
    int poke;      /* eventfd: the master writes it when an event on the webhook topic passes */
};

/* `argv` with --as-policy in it: its children of this program get the same arguments. Returns the exit code. Takes ownership of all descriptors. Ends on TERM, INT and QUIT, and with the master. */
int policy_process_main(
    const struct config *config, const struct policy_descriptors *descriptors, int argc, char **argv);

#endif
