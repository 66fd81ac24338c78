/*
 * What crosses processes: an event (the body of a RING_EVENT record and of an uplink record of that type) and
 * the bodies of the other records of the ring. Native byte order, one host.
 *
 *   0          8        16      20           24     28           32             36           40              
 *     56
 *   |entered_ns|ticket  |origin |incarnation |flags |topic_count |topics_length |data_length |notifier       
 *     |
 *    u64        u64      u32     u32          u32    u32          u32            u32          16 bytes
 *   then topics_length bytes of topics (each: u32 length, bytes, zeros up to a multiple of 4), zeros up to a
 *   multiple of 8, the data's bytes (JSON text). Nothing behind.
 *
 * The struct of the head is in ring_event.c; use the functions.
 */
#ifndef OPALD_SHM_RING_EVENT_H
#define OPALD_SHM_RING_EVENT_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/identity.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

/* `origin` of an event that no worker published: it came from the backbone, or the master made it. */
#define RING_EVENT_NO_WORKER UINT32_MAX

enum ring_event_flag {
    /* not to be sent to the backbone */
    RING_EVENT_LOCAL_ONLY = 1u << 0,
    /* a RING_ACKNOWLEDGED record has to follow, which says whether the backbone got all messages of the
     * event */
    RING_EVENT_WANTS_ACKNOWLEDGEMENT = 1u << 1,
    /* published over HTTP: dropped in a gap of the backbone when freezing is on */
    RING_EVENT_SERVER_SIDE = 1u << 2,
    /* a webhook of which the policy process was told already */
    RING_EVENT_POLICY_KNOWS = 1u << 3,
    /* the subscriber whose channel is `notifier` does not get it */
    RING_EVENT_HAS_NOTIFIER = 1u << 4,
};

struct ring_event {
    /* CLOCK_MONOTONIC when it entered this host */
    uint64_t entered_ns;
    /* the origin worker's number for it; 0 when nobody waits */
    uint64_t ticket;
    /* worker slot, or RING_EVENT_NO_WORKER */
    uint32_t origin;
    /* of the origin worker */
    uint32_t incarnation;
    /* bits of enum ring_event_flag */
    uint32_t flags;
    uint32_t topic_count;
    /* channel id; counts when the flag is set */
    struct identity notifier;
    /* encoded; walk with ring_event_topic_next */
    struct slice topics;
    /* JSON text */
    struct slice data;
};

/* Bytes of an encoded event with these parts. UINT32_MAX when it can't be encoded (4 GiB). */
uint32_t ring_event_encoded_size(const struct slice *topics, uint32_t topic_count, struct slice data);
/* Writes exactly ring_event_encoded_size bytes. `event->topics` is ignored, the array given instead. */
void ring_event_encode(void *out, const struct ring_event *event, const struct slice *topics);
/* Views into `body`; false when the lengths don't add up (never trusts the writer). */
MUST_CHECK bool ring_event_decode(const void *body, uint32_t length, struct ring_event *event);
/* Walks the topics: start with *offset = 0; false at the end. */
MUST_CHECK bool ring_event_topic_next(const struct ring_event *event, uint32_t *offset, struct slice *topic);

/* ---- the bodies of the other records ---- */

enum ring_refusal_reason {
    RING_REFUSED_TOO_LARGE = 1,
    RING_REFUSED_BACKBONE = 2,
    /* dropped in a gap of the backbone, as OPAL_BROADCAST_FREEZE_ON_DISCONNECT asks for */
    RING_REFUSED_FROZEN = 3,
};
struct ring_refusal {
    uint64_t ticket;
    uint32_t origin;
    uint32_t incarnation;
    /* enum ring_refusal_reason */
    uint32_t reason;
    uint32_t reserved;
};

struct ring_acknowledgement {
    uint64_t ticket;
    uint32_t origin;
    uint32_t incarnation;
    /* 1: the backbone has every message of the event; 0: at least one never gets there */
    uint32_t ok;
    uint32_t reserved;
};

struct ring_resync {
    /* how long the backbone was away */
    uint64_t gap_ns;
    /* for the whole host */
    uint32_t closes_per_second;
    uint32_t reserved;
};

#endif
