/* The inside of server/router/router.h; only router.c and router_backbone.c include it. */
#ifndef OPALD_SERVER_ROUTER_ROUTER_INTERNAL_H
#define OPALD_SERVER_ROUTER_ROUTER_INTERNAL_H

#include "server/router/acknowledgement.h"
#include "shm/common/identity.h"
#include "shm/common/log.h"
#include "shm/common/text.h"
#include "server/router/freeze.h"
#include "server/router/router.h"
#include "shm/event.h"
#include "shm/uplink.h"

#define ROUTER_MAGIC        0x726f7574u
#define ROUTER_BUDGET       512
#define ROUTER_FULL_POLL_US 500
/* A look at the full ring that comes so late says that this process did not run (a paused container or machine), nor did the readers. */
#define ROUTER_PAUSED_NS (1 * CLOCK_SECOND)
/* Publishers that wait for the backbone at one time; more are told that it did not answer in time. */
#define ROUTER_WAITING_MAX 65536
/* After a gap in which publishes were frozen, how long the backend has to ask for the resync by itself, beyond its settle time. */
#define ROUTER_FROZEN_RESYNC_SECONDS 1.0
/* Events that are too large for the ring: one resync for all that come within this time. */
#define ROUTER_MISSED_RESYNC_SECONDS 5

struct router_uplink {
    struct uplink *uplink;     /* NULL until the slot is first used */
    struct uplink_record held; /* taken from the uplink but not yet on the ring */
    bool holds;
};

struct router {
    uint32_t magic;
    struct event_base *base;
    const struct config *config;
    struct segment *segment;
    struct router_hooks hooks;
    struct ring_writer *ring;
    struct broadcast *backbone; /* NULL: none */
    struct event *doorbell;
    struct event *again;     /* more to do: next turn of the loop */
    struct event *full_poll; /* the ring was full */
    struct acknowledgements *acknowledgements;
    struct event *answer_due; /* answers of `acknowledgements` are to be put on the ring */
    struct freeze freeze;
    bool frozen;                 /* something was dropped since the last resync */
    uint64_t gap_since_ns;       /* the last gap of the backbone */
    struct event *frozen_resync; /* the resync that has to follow, when the backend sees no need of one */
    struct router_uplink uplinks[SEGMENT_SLOTS_MAX];
    unsigned slots;
    unsigned next_slot;  /* round robin */
    bool backbone_waits; /* it offered an event while the ring was full */
    bool serving;        /* clients are taken */
    bool backbone_was_up;
    uint64_t serving_since_ns;
    bool ring_full;    /* the last reserve failed */
    bool resync_waits; /* a resync that found the ring full */
    struct event_resync resync;
    struct event
        *missed_resync;  /* the resync that makes up for what the ring could not take from the backbone */
    unsigned stall_slot; /* who holds up the ring, where it stood and since when (0: nobody does) */
    uint64_t stall_cursor;
    uint64_t stall_since_ns;
    uint64_t stall_looked_ns; /* the last look */
    char notifier_id[IDENTITY_HEX + 1];
    struct text scratch;
    struct log_limiter limit_full;
    struct log_limiter limit_corrupt;
    struct log_limiter limit_waiting;
    struct log_limiter limit_missed;
};

/* ---- router.c ---- */

/* Room for a record, or NULL: the ring is full, full_poll is set. */
void *router_reserve(struct router *router, enum ring_type type, uint32_t length);
/* Puts router->resync on the ring, now or when there is room. */
void router_put_resync(struct router *router);
/* Never puts anything on the ring itself: it may be called in the middle of a record. */
void router_on_backbone_acknowledged(void *context, uint64_t token, bool ok);
/* An event on the webhook topic from elsewhere: the policy process has to look. */
void router_notice_webhook(struct router *router, const struct slice *topic);

/* ---- router_backbone.c ---- */

int router_open_backbone(struct router *router, struct error *err);
/* Timer: the backbone brought an event that is too large for the ring. */
void router_on_missed_resync(evutil_socket_t descriptor, short what, void *context);
/* Timer: publishes were frozen in a gap, and the backend saw no need of a resync by itself. */
void router_on_frozen_resync(evutil_socket_t descriptor, short what, void *context);

#endif
