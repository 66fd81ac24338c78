/*
 * A record's value becomes an event: decoded, held against the limits, offered to the event callback. Knows
 * nothing of offsets. Master's loop only.
 */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_DELIVERY_H
#define OPALD_BROADCAST_KAFKA_KAFKA_DELIVERY_H

#include <event2/event.h>
#include "broadcast/backend/backend.h"
#include "shm/common/object.h"

struct kafka_delivery;

/* Room for topics and envelope next to the event's data, in bytes. */
#define KAFKA_MESSAGE_SLACK (512 * 1024)

struct kafka_record {
    /* `data` NULL: a record without value (a tombstone) */
    struct slice value;
    /* For the log. */
    int32_t partition;
    int64_t offset;
};

/* `settings` and `callbacks` must outlive it. NULL when the loop takes no more events. */
struct kafka_delivery *kafka_delivery_open(struct event_base *base, const struct broadcast_settings *settings,
    const struct broadcast_callbacks *callbacks, void *context) MUST_CHECK;
/* NULL is fine. */
void kafka_delivery_close(struct kafka_delivery *delivery);
/* False when the event callback can't take it now: offer it again later. True: taken, or not an event for
 * this server. */
bool kafka_delivery_offer(struct kafka_delivery *delivery, const struct kafka_record *record) MUST_CHECK;
/* True during the event callback. */
bool kafka_delivery_is_busy(const struct kafka_delivery *delivery);
/* Records were there that can't be read at all: the clients are asked to fetch again. `why` is copied. */
void kafka_delivery_missed(struct kafka_delivery *delivery, const char *why);
/* After a batch: reports the counts and wakes the workers. */
void kafka_delivery_end_batch(struct kafka_delivery *delivery);

#endif
