/*
 * Events in from Kafka: one consumer without a group on every partition of the topic, from the end. Master's
 * loop only.
 */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_CONSUMER_H
#define OPALD_BROADCAST_KAFKA_KAFKA_CONSUMER_H

#include <librdkafka/rdkafka.h>
#include "broadcast/backend/backend.h"
#include "shm/common/object.h"

struct kafka_consumer;

struct kafka_outgoing {
    /* Events that are not acknowledged, and when the oldest was handed in (0: there is none). */
    uint64_t count;
    uint64_t oldest_ns;
    /* This user may not write. */
    bool refused;
};

struct kafka_consumer_options {
    const char *brokers;
    bool secure;
    /* how long a broker may hold a fetch that finds nothing */
    int fetch_wait_ms;
    /* What waits to be sent, for the state; NULL: nothing ever does. */
    void (*outgoing)(void *owner, struct kafka_outgoing *out);
    /* the topic's max.message.bytes; NULL: nobody asks */
    void (*limit_known)(void *owner, uint64_t bytes);
    void *owner;
};

/* `settings`, `options->brokers` and `callbacks` must outlive the consumer. */
struct kafka_consumer *kafka_consumer_open(struct event_base *base, const struct broadcast_settings *settings,
    const struct kafka_consumer_options *options, const struct broadcast_callbacks *callbacks, void *context,
    struct error *err) MUST_CHECK;
/* After an event callback returned false: offers that event again before it returns, the rest in the next
 * turn. */
void kafka_consumer_resume(struct kafka_consumer *consumer);
/* The largest message the topic takes, UINT64_MAX when not known. When it becomes known, callbacks.state is
 * called with the state as it is. */
uint64_t kafka_consumer_message_max(const struct kafka_consumer *consumer);
/* -1 when a consumer can't be made with these settings. Connects to nothing (`options->brokers` is not looked
 * at). */
int kafka_consumer_check(const struct broadcast_settings *settings,
    const struct kafka_consumer_options *options, struct error *err) MUST_CHECK;
/* A quota delayed an answer of this broker; `what` it was for ("sending"). */
void kafka_consumer_note_throttle(
    struct kafka_consumer *consumer, const char *what, const char *broker, int delay_ms);
void kafka_consumer_close(struct kafka_consumer *consumer);

#endif
