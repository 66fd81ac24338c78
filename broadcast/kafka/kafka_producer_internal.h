/* The inside of broadcast/kafka/kafka_producer.h; only kafka_producer.c, kafka_producer_handle.c and kafka_producer_report.c include it. */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_PRODUCER_INTERNAL_H
#define OPALD_BROADCAST_KAFKA_KAFKA_PRODUCER_INTERNAL_H

#include "broadcast/kafka/kafka_log.h"
#include "broadcast/kafka/kafka_outbox.h"
#include "broadcast/kafka/kafka_producer.h"
#include "broadcast/kafka/kafka_tokens.h"
#include "broadcast/kafka/kafka_watch.h"

#define KAFKA_PRODUCER_MAGIC 0x6b70726fu
#define KAFKA_BATCH_BYTES    1000000 /* librdkafka's default, below Kafka's default limit of a topic */

struct kafka_producer {
    uint32_t magic;
    struct event_base *base;
    const struct broadcast_settings *settings;
    const char *brokers;
    bool secure;
    const struct broadcast_callbacks *callbacks;
    void *context;
    rd_kafka_t *handle;
    rd_kafka_topic_t *topic;
    struct kafka_watch watch;
    struct event *retry;
    struct event *resync; /* runs when it is too early for the next call for a resync */
    uint64_t resync_ns;   /* the last one */
    uint64_t lost;        /* events that other servers don't get, since then */
    struct kafka_outbox outbox;
    struct kafka_tokens tokens; /* of pending messages that somebody asks after */
    uint64_t next_number;
    size_t pending; /* messages in librdkafka and in the outbox */
    size_t pending_bytes;
    bool holding;
    bool hold_told;       /* in the log, with a reason */
    bool proven;          /* the broker has acknowledged something of this handle */
    bool alone;           /* the message in flight was sent alone */
    uint64_t alone_until; /* number of the last message of a refused batch */
    bool fatal;           /* the handle is of no more use */
    bool renew;           /* it makes batches that are too large */
    uint64_t batch_bytes; /* the largest batch of several messages */
    unsigned fatal_count; /* in a row; grows the wait before the next handle */
    uint64_t sent;        /* acknowledged in this turn, reported together */
    struct kafka_log log;
    struct log_limiter limit_full;
    struct log_limiter limit_large;
    struct log_limiter limit_failed;
    struct log_limiter limit_hold;
    struct log_limiter limit_fatal;
    struct log_limiter limit_error;
};

/* ---- kafka_producer.c */
/* Nothing more goes to librdkafka until all in flight is reported; `reason` for the log. */
void kafka_producer_hold(struct kafka_producer *producer, const char *reason);
/* librdkafka has reports, errors or log lines. */
void kafka_producer_on_ready(void *context);

/* ---- kafka_producer_handle.c: librdkafka's object */
int kafka_producer_start(struct kafka_producer *producer, struct error *err);
void kafka_producer_stop(struct kafka_producer *producer);

/* ---- kafka_producer_report.c: what becomes of a message */
/* Failures after which the same message may well be taken: of the topic or the connection, not of the message. */
bool kafka_producer_may_retry(rd_kafka_resp_err_t code);
bool kafka_producer_is_size(rd_kafka_resp_err_t code);
/* Counts, logs and tells; the other servers are asked to refetch later. */
void kafka_producer_give_up(
    struct kafka_producer *producer, uint64_t number, rd_kafka_resp_err_t code, size_t length);
/* A message that librdkafka did not send. */
void kafka_producer_take_back(
    struct kafka_producer *producer, uint64_t number, struct slice message, rd_kafka_resp_err_t code);
/* librdkafka's delivery report. */
void kafka_producer_on_report(rd_kafka_t *handle, const rd_kafka_message_t *message, void *opaque);

#endif
