/* For the unit tests of server/policy/source: a struct policy on a real segment and a real loop; the test is
 * the master. */
#ifndef OPALD_TESTS_UNIT_SERVER_POLICY_SOURCE_SOURCE_HARNESS_H
#define OPALD_TESTS_UNIT_SERVER_POLICY_SOURCE_SOURCE_HARNESS_H

#include <stdbool.h>
#include "shm/link/publisher.h"
#include "shm/uplink.h"
#include "server/policy/source/policy_context.h"

#define SOURCE_EVENTS_MAX 16

struct source_harness {
    struct policy policy;
    /* What the policy's own one points to; the test may change it. */
    struct config config;
    /* A folder of the test's own; the clones go to "clones" in it. */
    char folder[64];
    char clones[96];
    struct segment *master;
    struct uplink *uplink;
    /* How often policy_set_head was called. */
    unsigned heads;
    /* Called then; may be NULL. */
    void (*on_head)(struct source_harness *harness);
    /* The data of the events that were published, oldest first. */
    char *events[SOURCE_EVENTS_MAX];
    size_t event_count;
};

/* `queue_max`: of the publisher, in bytes. */
void source_harness_open(struct source_harness *harness, size_t queue_max);
void source_harness_close(struct source_harness *harness);
/* Runs the loop until `*flag`, at most ten seconds; false: it did not become true. */
bool source_harness_run(struct source_harness *harness, const bool *flag);
/* The same for so many milliseconds. */
void source_harness_run_for(struct source_harness *harness, unsigned milliseconds);
/* Takes what was published into `events`. */
void source_harness_take_events(struct source_harness *harness);
/* The hash of a reference in a repository ("refs/heads/master"); "" when there is none. Valid until the next
 * call. */
const char *source_harness_reference(const char *repository, const char *name);

#endif
