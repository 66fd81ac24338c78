/*
 * The events of the ring as the fan-out sees them: decoded, checked, the notifier parsed. Apart from fanout.c because shm/event.h and
 * libevent both have a `struct event`, so that no source can include both. Pure.
 */
#ifndef OPALD_WORKER_FANOUT_RING_EVENT_H
#define OPALD_WORKER_FANOUT_RING_EVENT_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/identity.h"
#include "shm/common/text.h"
#include "shm/ring.h"

struct ring_event {
    uint64_t entered_ns;
    uint64_t ticket;
    uint32_t origin;
    uint32_t incarnation;
    uint32_t topic_count;
    struct slice topics; /* encoded: walk with ring_event_topic_next */
    struct slice data;
    bool has_notifier;        /* the notifier has the shape of a channel id; any other equals none */
    struct identity notifier; /* the channel to skip */
};

/* Views into the record; false when it makes no sense. */
bool ring_event_decode(const struct ring_record *record, struct ring_event *event);
/* Start with *offset = 0; false at the end. */
bool ring_event_topic_next(const struct ring_event *event, uint32_t *offset, struct slice *topic);

struct ring_refusal {
    uint64_t ticket;
    uint32_t origin;
    uint32_t incarnation;
    bool too_large;
    bool frozen;
};
bool ring_refusal_decode(const struct ring_record *record, struct ring_refusal *refusal);

struct ring_acknowledgement {
    uint64_t ticket;
    uint32_t origin;
    uint32_t incarnation;
    bool ok;
};
bool ring_acknowledgement_decode(
    const struct ring_record *record, struct ring_acknowledgement *acknowledgement);

struct ring_resync {
    uint64_t gap_ns;
    uint32_t closes_per_second;
};
bool ring_resync_decode(const struct ring_record *record, struct ring_resync *resync);

#endif
