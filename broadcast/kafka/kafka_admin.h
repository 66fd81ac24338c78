/*
 * The two questions for Kafka's administration that this server has, asked without blocking on a handle that
 * is there anyway: create the topic, and what are its settings. Both are best effort: a
 * refusal is logged and changes nothing. Master's loop only.
 */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_ADMIN_H
#define OPALD_BROADCAST_KAFKA_KAFKA_ADMIN_H

#include <event2/event.h>
#include <librdkafka/rdkafka.h>
#include <stdint.h>
#include "broadcast/kafka/kafka_topic_settings.h"
#include "shm/common/error.h"
#include "shm/common/object.h"

struct kafka_admin;

/* `changed` is called when the topic's settings are others than before. `handle`, `topic` and `brokers` (for
 * the log) must outlive it. */
struct kafka_admin *kafka_admin_open(struct event_base *base, rd_kafka_t *handle, const char *topic,
    const char *brokers, void (*changed)(void *context), void *context, struct error *err) MUST_CHECK;
void kafka_admin_close(struct kafka_admin *admin); /* NULL is fine */

/* Asks for the topic with one partition and the brokers' default of replicas. May be called as often as the
 * topic is found missing: one request is under way at a time, and after a refusal the next is made some
 * seconds later. */
void kafka_admin_create_topic(struct kafka_admin *admin);
/* Asks for the topic's settings, unless it did so a moment ago: may be called as often as one likes. What is
 * wrong with them is logged once. */
void kafka_admin_look(struct kafka_admin *admin);
/* The largest event, with its websocket envelope, that the topic takes; UINT64_MAX while it is not known.
 * This is max.message.bytes itself. That counts a record batch: its header of 61 bytes, at most 28 around the
 * value of a single record without key and headers (KIP-98, message format 2), and in the value 74 beside
 * topic and data: 163 bytes. The websocket's envelope has 260 beside topic and data (shm/link/notify.h), so
 * what fits with that one fits in Kafka. */
uint64_t kafka_admin_message_max(const struct kafka_admin *admin);
/* What the topic's settings say, as last seen. */
const struct kafka_topic_settings *kafka_admin_topic(const struct kafka_admin *admin);

#endif
