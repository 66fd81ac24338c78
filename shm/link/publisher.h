/*
 * A worker's way to publish: events go into its uplink, the master orders them and puts them on the ring, and when the worker
 * reads its own event there, the publish has its place in the order and its completion is called; when the request asked for it, only
 * after the master's word that the backbone has acknowledged the event, for which there is no deadline here. Worker process only.
 */
#ifndef OPALD_SHM_LINK_PUBLISHER_H
#define OPALD_SHM_LINK_PUBLISHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/identity.h"
#include "shm/common/text.h"
#include "shm/segment.h"

struct publisher;

enum publish_outcome {
    PUBLISH_ORDERED,   /* on the ring: every worker of the host will see it */
    PUBLISH_TOO_LARGE, /* above the event limit; nothing was sent */
    PUBLISH_BUSY,      /* the queue before the uplink is full; nothing was sent */
    PUBLISH_REFUSED,   /* the master refused it (backbone limit) */
    PUBLISH_FROZEN,    /* dropped by the master: the backbone is away, and such publishes are frozen then */
    /* Only when the request asked for the backbone's acknowledgement: */
    PUBLISH_ACKNOWLEDGED,   /* ordered, and the backbone has it */
    PUBLISH_UNACKNOWLEDGED, /* ordered, but the backbone never gets it, or not all of it */
};

/* Called once, from the worker's loop, never from within publisher_publish. */
typedef void publish_done(void *context, enum publish_outcome outcome);

struct publish_request {
    const struct slice *topics; /* non-empty array of topics, UTF-8 */
    uint32_t topic_count;
    const struct identity *notifier; /* channel to skip; NULL for none */
    struct slice data;               /* checked JSON text */
    publish_done *done;              /* may be NULL */
    void *context;
    bool
        wants_acknowledgement; /* `done` is called when the backbone has it, not before; without a backbone, when it is ordered */
    bool policy_knows; /* a webhook of which the policy process was told: the master need not tell it */
    bool server_side;  /* not by a client over its websocket: may be frozen (shm/ring_event.h) */
};

struct publisher *publisher_open(struct segment *segment, unsigned slot, size_t queue_max_bytes);
void publisher_close(struct publisher *publisher);
/* Copies everything. Returns PUBLISH_ORDERED when taken: `*ticket` (may be NULL) is then the handle for publisher_cancel and `done` will be
 * called; any other value means refused now, counted and logged, and `done` will not be called. */
enum publish_outcome publisher_publish(
    struct publisher *publisher, const struct publish_request *request, uint64_t *ticket);
/* The requester is gone: `done` will not be called any more. The event itself goes its way. */
void publisher_cancel(struct publisher *publisher, uint64_t ticket);
/* The ring drain reports events, refusals and the backbone's acknowledgements of this worker's events. */
void publisher_complete(struct publisher *publisher, uint64_t ticket, enum publish_outcome outcome);
/* Moves queued events into the uplink as room appears; called each turn of the loop while publisher_is_blocked. */
void publisher_flush(struct publisher *publisher);
/* Asks the master for its statistics (uplink.h). False while the uplink is full. */
bool publisher_ask_master(struct publisher *publisher, uint32_t number, bool brief);
bool publisher_is_blocked(const struct publisher *publisher);

#endif
