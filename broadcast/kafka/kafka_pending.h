/*
 * The producer's messages that Kafka has not acknowledged, in the order of sending. Each is either in flight
 * (librdkafka has its bytes) or waits here with its bytes to be sent (again). One owner, no locks.
 */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_PENDING_H
#define OPALD_BROADCAST_KAFKA_KAFKA_PENDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include "shm/common/text.h"

#define KAFKA_PENDING_MAGIC 0x6b70656eu

struct kafka_pending_item {
    uint32_t magic;
    TAILQ_ENTRY(kafka_pending_item) link;
    uint64_t number;
    /* The caller's name for the message; 0: nobody asks what becomes of it. */
    uint64_t token;
    uint64_t entered_ns;
    size_t length;
    /* NULL while in flight. */
    char *bytes;
};

struct kafka_pending {
    TAILQ_HEAD(kafka_pending_list, kafka_pending_item) items;
    size_t count;
    /* Of all messages, in flight or waiting. */
    size_t bytes;
    /* How many of them wait. */
    size_t waiting;
};

void kafka_pending_init(struct kafka_pending *pending);
void kafka_pending_clear(struct kafka_pending *pending);
/* A new message, the last in the order; `length` bytes, in flight. It is the list's until it is removed. */
struct kafka_pending_item *kafka_pending_add(
    struct kafka_pending *pending, uint64_t number, uint64_t token, size_t length, uint64_t now_ns);
/* The message waits; its bytes are copied. */
void kafka_pending_wait(struct kafka_pending *pending, struct kafka_pending_item *item, struct slice message);
/* The message is in flight. */
void kafka_pending_go(struct kafka_pending *pending, struct kafka_pending_item *item);
/* The message is acknowledged or given up. */
void kafka_pending_remove(struct kafka_pending *pending, struct kafka_pending_item *item);
/* The oldest message that waits, NULL when none does. Only when nothing is in flight. */
struct kafka_pending_item *kafka_pending_first(const struct kafka_pending *pending);
size_t kafka_pending_in_flight(const struct kafka_pending *pending);
/* When the oldest message was handed in; 0: there is none. */
uint64_t kafka_pending_oldest_ns(const struct kafka_pending *pending);

#endif
