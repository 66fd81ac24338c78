/*
 * An event as it crosses processes: the body of a RING_EVENT record, and of every uplink record. Native byte order, one host.
 *
 *   0          8        16      20           24     28           32             36               40           44        48
 *   |entered_ns|ticket  |origin |incarnation |flags |topic_count |topics_length |notifier_length |data_length |reserved |
 *    u64        u64      u32     u32          u32    u32          u32            u32              u32          u32
 *   then topics_length bytes of topics (each: u32 length, bytes, zeros up to a multiple of 4), the notifier's bytes
 *   (notifier_length UINT32_MAX: there is none), zeros up to a multiple of 8, the data's bytes (JSON text). Nothing behind.
 *
 * The struct is in event.c; use the functions.
 */
#ifndef OPALD_SHM_EVENT_H
#define OPALD_SHM_EVENT_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/text.h"

#define EVENT_ORIGIN_BACKBONE UINT32_MAX

enum event_flag {
    EVENT_LOCAL_ONLY = 1, /* not to be sent to the backbone */
    EVENT_WANTS_ACKNOWLEDGEMENT =
        2, /* a RING_ACKNOWLEDGED has to follow: the backbone has all its messages, or gets them not */
    EVENT_POLICY_KNOWS = 8, /* a webhook of which the policy process was told already */
    EVENT_SERVER_SIDE = 4,  /* published over HTTP: held back in a gap when freezing is on */
};

struct event {
    uint64_t entered_ns;  /* CLOCK_MONOTONIC when it entered this host */
    uint64_t ticket;      /* the origin worker's number for it; 0 when nobody waits */
    uint32_t origin;      /* worker slot, or EVENT_ORIGIN_BACKBONE */
    uint32_t incarnation; /* of the origin worker */
    uint32_t flags;
    uint32_t topic_count;
    struct slice topics; /* encoded; walk with event_topic_next */
    struct slice
        notifier; /* a subscriber with this channel id is skipped; absent (data == NULL) when there is none */
    struct slice data; /* JSON text */
};

/* Bytes of an encoded event with these parts. UINT32_MAX when it can't be encoded (4 GiB). */
uint32_t event_encoded_size(
    const struct slice *topics, uint32_t topic_count, struct slice notifier, struct slice data);
/* Writes exactly event_encoded_size bytes. `event->topics` is ignored, the array given instead. */
void event_encode(void *out, const struct event *event, const struct slice *topics);
/* Views into `body`; false when the lengths don't add up (never trusts the writer). */
bool event_decode(const void *body, uint32_t length, struct event *event);
/* Walks the topics: start with *offset = 0; false at the end. */
bool event_topic_next(const struct event *event, uint32_t *offset, struct slice *topic);

/* Bodies of the other ring records. */
struct event_refusal {
    uint64_t ticket;
    uint32_t origin;
    uint32_t incarnation;
    uint32_t reason; /* enum event_refusal_reason */
    uint32_t reserved;
};
enum event_refusal_reason {
    EVENT_REFUSED_TOO_LARGE = 1,
    EVENT_REFUSED_BACKBONE = 2,
    EVENT_REFUSED_FROZEN =
        3, /* dropped in a gap of the backbone, as OPAL_BROADCAST_FREEZE_ON_DISCONNECT asks for */
};
struct event_acknowledgement {
    uint64_t ticket;
    uint32_t origin;
    uint32_t incarnation;
    uint32_t ok; /* 1: the backbone has every message of the event; 0: at least one never gets there */
    uint32_t reserved;
};
struct event_resync {
    uint64_t gap_ns;            /* how long the backbone was away */
    uint32_t closes_per_second; /* for the whole host */
    uint32_t reserved;
};

#endif
