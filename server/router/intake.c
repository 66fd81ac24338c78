/*
 * uplink_master_sleep looks at every uplink again after announcing the sleep, so that no record stays
 * behind. While the ring is full there is no sleep on the doorbell: intake_run is called when it has room
 * again.
 */
#include "server/router/intake.h"

#include <stdint.h>
#include <stdlib.h>

#include "shm/common/memory.h"
#include "shm/common/object.h"

#define INTAKE_MAGIC 0x696e746bu
/* records in one turn of the loop */
#define INTAKE_BUDGET 512

struct intake_uplink {
    /* NULL until the slot is first used */
    struct uplink *uplink;
    /* taken from the uplink, not accepted yet */
    struct uplink_record held;
    bool holds;
};

struct intake {
    uint32_t magic;
    unsigned slots;
    /* round robin */
    unsigned next_slot;
    struct segment *segment;
    struct event *doorbell;
    /* more to do in the next turn of the loop */
    struct event *again;
    struct intake_hooks hooks;
    struct intake_uplink uplinks[SEGMENT_SLOTS_MAX];
};

enum intake_took { INTAKE_TOOK, INTAKE_NOTHING, INTAKE_NO_ROOM };

static enum intake_took intake_take_record(struct intake *intake, unsigned slot)
{
    struct intake_uplink *from = &intake->uplinks[slot];
    bool corrupt = false;
    if (!from->holds && !uplink_next(from->uplink, &from->held, &corrupt)) {
        if (corrupt)
            intake->hooks.corrupt(intake->hooks.context, slot);
        return INTAKE_NOTHING;
    }
    from->holds = !intake->hooks.record(intake->hooks.context, slot, &from->held);
    if (from->holds)
        return INTAKE_NO_ROOM;
    uplink_release(from->uplink);
    return INTAKE_TOOK;
}

/* Most slots are never used, and a look at all of them is a part of every event. */
static inline enum intake_took intake_take_one(struct intake *intake, unsigned slot)
{
    return intake->uplinks[slot].uplink ? intake_take_record(intake, slot) : INTAKE_NOTHING;
}

void intake_run(struct intake *intake)
{
    unsigned budget = INTAKE_BUDGET;
    unsigned idle = 0; /* slots in a row that had nothing */
    enum intake_took took = INTAKE_NOTHING;
    while (budget && idle < intake->slots && took != INTAKE_NO_ROOM) {
        unsigned slot = intake->next_slot;
        intake->next_slot = (slot + 1) % intake->slots;
        took = intake_take_one(intake, slot);
        if (took == INTAKE_TOOK) {
            idle = 0;
            budget--;
        } else {
            idle++;
        }
    }
    intake->hooks.batch_end(intake->hooks.context);
    if (took == INTAKE_NO_ROOM)
        return;
    if (!budget || !uplink_master_sleep(intake->segment))
        event_active(intake->again, EV_TIMEOUT, 0);
}

void intake_rest(struct intake *intake)
{
    bool took = true;
    while (took) {
        took = false;
        for (unsigned slot = 0; slot < intake->slots; slot++)
            took |= intake_take_one(intake, slot) == INTAKE_TOOK;
    }
}

static void intake_on_doorbell(evutil_socket_t descriptor, short what, void *context)
{
    struct intake *intake = object_cast(struct intake, INTAKE_MAGIC, context);
    (void)descriptor;
    (void)what;
    uplink_master_awake(intake->segment);
    intake_run(intake);
}

static void intake_on_again(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    intake_run(object_cast(struct intake, INTAKE_MAGIC, context));
}

struct intake *intake_open(struct event_base *base, struct segment *segment, const struct intake_hooks *hooks)
{
    struct intake *intake = memory_allocate(sizeof *intake);
    intake->magic = INTAKE_MAGIC;
    intake->slots = segment_slot_count(segment);
    intake->segment = segment;
    intake->hooks = *hooks;
    intake->doorbell =
        event_new(base, segment_own_eventfd(segment), EV_READ | EV_PERSIST, intake_on_doorbell, intake);
    intake->again = event_new(base, -1, 0, intake_on_again, intake);
    event_add(intake->doorbell, NULL);
    (void)!uplink_master_sleep(segment); /* no worker lives yet: nothing to read */
    return intake;
}

void intake_close(struct intake *intake)
{
    for (unsigned slot = 0; slot < intake->slots; slot++)
        if (intake->uplinks[slot].uplink)
            uplink_close(intake->uplinks[slot].uplink);
    event_free(intake->doorbell);
    event_free(intake->again);
    intake->magic = 0;
    free(intake);
}

void intake_attach(struct intake *intake, unsigned slot)
{
    if (!intake->uplinks[slot].uplink)
        intake->uplinks[slot].uplink = uplink_open(intake->segment, slot);
}
