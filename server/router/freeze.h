/*
 * OPAL_BROADCAST_FREEZE_ON_DISCONNECT, as the reference has it: while the backbone is away after it was
 * there (a gap), what is published over HTTP is dropped, so that no host's clients get ahead of the fleet;
 * they refetch after the gap. Events whose topics are all internal pass. The first drop of a gap is logged,
 * and how many there were with the first publish after it. Pure but for the log. Master only.
 */
#ifndef OPALD_SERVER_ROUTER_FREEZE_H
#define OPALD_SERVER_ROUTER_FREEZE_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/config.h"
#include "shm/ring_event.h"

struct freeze {
    bool enabled;
    /* the backbone was there and is away */
    bool gap;
    /* not yet told in the log */
    uint64_t frozen;
    /* the gap they belong to */
    uint64_t frozen_gap;
    /* of gaps */
    uint64_t gap_number;
    /* may have any name */
    const char *keepalive_topic;
};

/* Off, with a line in the log, when the configuration forbids the resync or the reconnect that has to
 * follow. */
void freeze_init(struct freeze *freeze, const struct config *config);
/* Call with each state of the backbone. */
void freeze_set_gap(struct freeze *freeze, bool gap);
/* Whether this event, which somebody publishes now, has to be dropped; then it is logged. */
bool freeze_drops(struct freeze *freeze, const struct ring_event *event);

#endif
