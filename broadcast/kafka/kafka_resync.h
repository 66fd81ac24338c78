/*
 * Resyncs of our clients that messages of the topic make necessary: other servers' calls for one, and events
 * above our limits. After an outage several servers may call within seconds: the first is obeyed at once,
 * what comes in the next ten seconds is one resync at their end. A later one is as good, since what clients
 * fetch then is newer. Master's loop only.
 */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_RESYNC_H
#define OPALD_BROADCAST_KAFKA_KAFKA_RESYNC_H

#include <event2/event.h>
#include "broadcast/backend/backend.h"
#include "shm/common/object.h"

struct kafka_resync;

/* `callbacks` must outlive it; only `gap` is called. NULL when the loop takes no more events. */
struct kafka_resync *kafka_resync_open(
    struct event_base *base, const struct broadcast_callbacks *callbacks, void *context) MUST_CHECK;
void kafka_resync_close(struct kafka_resync *resync); /* NULL is fine */
/* An event of others was there, and this server could not take it. `why` is copied. */
void kafka_resync_want(struct kafka_resync *resync, struct slice why);
/* A notification without topics and with a reason. */
void kafka_resync_ask(struct kafka_resync *resync, const struct notification *notification);

#endif
