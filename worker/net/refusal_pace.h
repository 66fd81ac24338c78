/*
 * Which refused callers have to wait for their refusal: an opal-client with a bad token comes back at once, a
 * hundred times a second. The first few of an address in a while are told at once; from then on each waits
 * (the caller holds the reply back). A fixed table: two addresses may share a slot and then push each other
 * out of it, which only makes the pace gentler. Pure; the time is given.
 */
#ifndef OPALD_WORKER_NET_REFUSAL_PACE_H
#define OPALD_WORKER_NET_REFUSAL_PACE_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/object.h"
#include "shm/common/text.h"

#define REFUSAL_PACE_SLOTS 1024
#define REFUSAL_PACE_FREE  10                          /* refusals of an address that are told at once, */
#define REFUSAL_PACE_NS    (10 * UINT64_C(1000000000)) /* within this time */

struct refusal_slot {
    /* hash; 0: empty */
    uint64_t address;
    uint64_t since_ns;
    uint32_t count;
};

/* Zero-initialise. */
struct refusal_pace {
    struct refusal_slot slots[REFUSAL_PACE_SLOTS];
};

/* Notes one refusal; true when its answer should wait. `address` without the port. */
MUST_CHECK bool refusal_pace_note(struct refusal_pace *pace, struct slice address, uint64_t now_ns);

#endif
