/*
 * Events out to Kafka: one idempotent producer, always partition 0, key null, so that what one server sends
 * stays in order whatever happens. Every message is numbered; what librdkafka gives back without having sent
 * it (topic not there, fatal error) waits here in that order and is sent again. Master's loop only.
 */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_PRODUCER_H
#define OPALD_BROADCAST_KAFKA_KAFKA_PRODUCER_H

#include <librdkafka/rdkafka.h>
#include "broadcast/backend/backend.h"
#include "shm/common/object.h"

struct kafka_producer;

/* `settings` (with its strings) and `brokers` must outlive the producer. */
struct kafka_producer *kafka_producer_open(struct event_base *base, const struct broadcast_settings *settings,
    const char *brokers, bool secure, const struct broadcast_callbacks *callbacks, void *context,
    struct error *err) MUST_CHECK;
/* Copies the message. -1 with errno ENOBUFS or EMSGSIZE: logged and counted. `token`: as in
 * broadcast_publish. */
int kafka_producer_send(struct kafka_producer *producer, struct slice message, uint64_t token) MUST_CHECK;
/* The broker refuses batches above this: makes librdkafka anew with smaller ones if need be, as soon as
 * nothing is in flight. Not from a callback of the producer. */
void kafka_producer_limit_batches(struct kafka_producer *producer, uint64_t bytes);
/* `throttled` is called when a quota delays an answer of a broker. */
void kafka_producer_on_throttle(struct kafka_producer *producer,
    void (*throttled)(void *owner, const char *broker, int delay_ms), void *owner);
/* Messages not yet acknowledged. */
size_t kafka_producer_pending(const struct kafka_producer *producer);
/* When the oldest of them was handed in; 0: there is none. */
uint64_t kafka_producer_oldest_ns(const struct kafka_producer *producer);
/* This user may not write to the topic, as far as the last answer goes. */
bool kafka_producer_is_refused(const struct kafka_producer *producer);
/* Blocks for at most about `grace_ms` while messages are unsent. Returns how many stay unsent. */
size_t kafka_producer_close(struct kafka_producer *producer, int grace_ms);
/* -1 when a producer can't be made with these settings. Connects to nothing. */
int kafka_producer_check(
    const struct broadcast_settings *settings, bool secure, struct error *err) MUST_CHECK;
/* The handle, for tests that inject errors. */
rd_kafka_t *kafka_producer_handle(const struct kafka_producer *producer);

#endif
