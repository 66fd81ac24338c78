/*
 * A worker's way to publish: events go into its uplink, the master orders them and puts them on the ring, and
 * when the worker reads its own event there, the publish has its place in the order and its completion is
 * called; when the request asked for it, only after the master's word that the backbone has acknowledged the
 * event, for which there is no deadline here. Worker process only.
 */
#ifndef OPALD_SHM_LINK_PUBLISHER_H
#define OPALD_SHM_LINK_PUBLISHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/identity.h"
#include "shm/common/object.h"
#include "shm/common/text.h"
#include "shm/segment.h"

struct publisher;

enum publish_outcome {
    /* on the ring: every worker of the host will see it */
    PUBLISH_ORDERED,
    /* above the event limit; nothing was sent */
    PUBLISH_TOO_LARGE,
    /* its messages to the backbone, one per topic, are too much together; nothing was sent */
    PUBLISH_TOO_WIDE,
    /* the queue before the uplink is full; nothing was sent */
    PUBLISH_BUSY,
    /* the master refused it (backbone limit) */
    PUBLISH_REFUSED,
    /* dropped by the master: the backbone is away, and such publishes are frozen then */
    PUBLISH_FROZEN,
    /* Only when the request asked for the backbone's acknowledgement: */
    /* ordered, and the backbone has it */
    PUBLISH_ACKNOWLEDGED,
    /* ordered, but the backbone never gets it, or not all of it */
    PUBLISH_UNACKNOWLEDGED,
};

/* Called once, from the worker's loop, never from within publisher_publish. */
typedef void publish_done(void *context, enum publish_outcome outcome);

struct publish_request {
    /* non-empty array of topics, UTF-8 */
    const struct slice *topics;
    uint32_t topic_count;
    /* channel to skip; NULL for none */
    const struct identity *notifier;
    /* checked JSON text */
    struct slice data;
    /* may be NULL */
    publish_done *done;
    void *context;
    /* `done` is called when the backbone has it, not before; without a backbone, when it is ordered */
    bool wants_acknowledgement;
    /* a webhook of which the policy process was told: the master need not tell it */
    bool policy_knows;
    /* not by a client over its websocket: may be frozen (shm/ring_event.h) */
    bool server_side;
};

struct publisher *publisher_open(struct segment *segment, unsigned slot, size_t queue_max_bytes);
void publisher_close(struct publisher *publisher);
/* Copies everything. Returns PUBLISH_ORDERED when taken: `*ticket` (may be NULL) is then the handle for
 * publisher_cancel and `done` will be called; any other value means refused now, counted and logged, and
 * `done` will not be called. */
MUST_CHECK enum publish_outcome publisher_publish(
    struct publisher *publisher, const struct publish_request *request, uint64_t *ticket);
/* The requester is gone: `done` will not be called any more. The event itself goes its way. */
void publisher_cancel(struct publisher *publisher, uint64_t ticket);
/* The ring drain reports events, refusals and the backbone's acknowledgements of this worker's events. */
void publisher_complete(struct publisher *publisher, uint64_t ticket, enum publish_outcome outcome);
/* Moves queued events into the uplink as room appears; called each turn of the loop while
 * publisher_is_blocked. */
void publisher_flush(struct publisher *publisher);
/* Asks the master for its statistics (uplink.h). False while the uplink is full. */
MUST_CHECK bool publisher_ask_master(struct publisher *publisher, uint32_t number, bool brief);
bool publisher_is_blocked(const struct publisher *publisher);

#endif
