/*
 * Reads every partition of the topic and acts on what kafka_identity.h decides: delivers, waits, starts a
 * partition at another offset, tells a gap. librdkafka's low-level interface is used because the high-level
 * one needs a group, and rights on it. Master's loop only.
 */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_READER_H
#define OPALD_BROADCAST_KAFKA_KAFKA_READER_H

#include <event2/event.h>
#include <librdkafka/rdkafka.h>
#include "broadcast/backend/backend.h"
#include "broadcast/kafka/kafka_identity.h"
#include "shm/common/object.h"

struct kafka_reader;

struct kafka_reader_options {
    rd_kafka_t *handle;
    const struct broadcast_settings *settings;
    const struct broadcast_callbacks *callbacks;
    void *context;
    /* What kafka_reader_unsettled_ns says may have changed. */
    void (*changed)(void *owner);
    void *owner;
};

/* `options->handle`, `settings` and `callbacks` must outlive it. NULL with `err` set. */
struct kafka_reader *kafka_reader_open(
    struct event_base *base, const struct kafka_reader_options *options, struct error *err) MUST_CHECK;
/* Before the handle is destroyed. NULL is fine. */
void kafka_reader_close(struct kafka_reader *reader);

/* The topic exists and has `count` partitions. Those that are new are read from their end. */
void kafka_reader_topic_there(struct kafka_reader *reader, int32_t count);
/* A broker says that there is no such topic; may be called as often as it says so. */
void kafka_reader_topic_missing(struct kafka_reader *reader);
/* The connection to a leader was lost, or the leader changed. */
void kafka_reader_doubt(struct kafka_reader *reader);
/* What can make holes in the offsets. */
void kafka_reader_set_holes(struct kafka_reader *reader, enum kafka_holes holes);
/* While reading is refused: looks whether it is allowed again. */
void kafka_reader_retry(struct kafka_reader *reader);
/* After an event callback returned false: offers that event again before it returns, the rest in the next
 * turn. */
void kafka_reader_resume(struct kafka_reader *reader);

/* librdkafka's object for the topic; the reader's. */
rd_kafka_topic_t *kafka_reader_topic(const struct kafka_reader *reader);
/* 0 while the topic is not known. */
int32_t kafka_reader_partition_count(const struct kafka_reader *reader);
/* This user may not read the topic. */
bool kafka_reader_is_refused(const struct kafka_reader *reader);
/* Since when a partition can't be delivered because its end or its log's identity is not known; 0: all are
 * read. */
uint64_t kafka_reader_unsettled_ns(const struct kafka_reader *reader);

#endif
