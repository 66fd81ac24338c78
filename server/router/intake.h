/*
 * Takes the records out of the uplinks of all workers, round robin and with a budget for each turn of the
 * loop, so that one busy worker can't starve the others. Sleeps on the doorbell when there are none
 * (shm/uplink.h).
 *
 * A record that is not accepted (the ring is full) is kept and offered again by intake_run.
 *
 * Master, main thread.
 */
#ifndef OPALD_SERVER_ROUTER_INTAKE_H
#define OPALD_SERVER_ROUTER_INTAKE_H

#include <event2/event.h>
#include <stdbool.h>
#include "shm/segment.h"
#include "shm/uplink.h"

struct intake;

struct intake_hooks {
    /* True: the record is dealt with. False: there is no room for it; call intake_run once there is. */
    bool (*record)(void *context, unsigned slot, const struct uplink_record *record);
    /* The worker of `slot` wrote nonsense into its uplink. */
    void (*corrupt)(void *context, unsigned slot);
    /* after a batch of records */
    void (*batch_end)(void *context);
    void *context;
};

/* `segment` must outlive it. */
struct intake *intake_open(
    struct event_base *base, struct segment *segment, const struct intake_hooks *hooks);
void intake_close(struct intake *intake);
/* The uplink of `slot` is prepared: it is read from now on, for as long as the intake lives. */
void intake_attach(struct intake *intake, unsigned slot);
/* Takes a batch. What is left is taken in the next turns of the loop. */
void intake_run(struct intake *intake);
/* Takes all there is, at once; the `record` hook must have room for it. */
void intake_rest(struct intake *intake);

#endif
