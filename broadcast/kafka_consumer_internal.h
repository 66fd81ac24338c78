/* The inside of broadcast/kafka_consumer.h; only kafka_consumer.c, kafka_consumer_partitions.c and kafka_consumer_messages.c include it. */
#ifndef OPALD_BROADCAST_KAFKA_CONSUMER_INTERNAL_H
#define OPALD_BROADCAST_KAFKA_CONSUMER_INTERNAL_H

#include "broadcast/kafka_admin.h"
#include "broadcast/kafka_consumer.h"
#include "broadcast/kafka_log.h"
#include "broadcast/kafka_resync.h"
#include "broadcast/kafka_watch.h"
#include "server/common/json.h"

#define KAFKA_CONSUMER_MAGIC 0x6b636f6eu
#define KAFKA_MESSAGE_SLACK  (512 * 1024) /* topics and envelope beside the event's data */

struct kafka_partition {
    int64_t next_offset;
    int64_t not_before_ms; /* started at the beginning: older messages are history; 0: no check */
    uint64_t lost_ns;      /* when its offset was found to be lost; 0: it is not */
    const char *lost_why;
    bool known; /* where reading starts */
};

struct kafka_consumer {
    uint32_t magic;
    const struct broadcast_settings *settings;
    const struct broadcast_callbacks *callbacks;
    void *context;
    const char *brokers;
    rd_kafka_t *handle;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue; /* messages of all partitions; owned by `messages` */
    struct kafka_watch messages;
    struct kafka_watch main; /* logs, errors, statistics */
    struct kafka_admin *admin;
    struct kafka_resync *resync;
    void (*limit_known)(void *owner, uint64_t bytes);
    void *owner;
    struct event *poke; /* runs while the topic's partitions are unknown */
    struct kafka_partition *partitions;
    int32_t partition_count;
    enum broadcast_state state;
    bool connected;
    unsigned down_reports;
    int64_t connects; /* attempts to connect, when last connected */
    uint64_t gap_since_ns;
    uint64_t
        missing_since_ns; /* the brokers say the topic does not exist; 0: it does, or they have not said */
    int64_t missing_wall_ms;
    bool missing_told;
    rd_kafka_message_t *held; /* refused by the event callback: offered again first */
    bool paused;
    bool delivering; /* inside the event callback */
    uint64_t own;    /* counted in this turn, reported together */
    uint64_t rejected;
    uint64_t delivered;
    struct notification_decoder *decoder;
    struct json_document statistics;
    struct kafka_log log;
    struct log_limiter limit_rejected;
    struct log_limiter limit_history;
    struct log_limiter limit_error;
};

/* ---- kafka_consumer.c */
void kafka_consumer_update_state(struct kafka_consumer *consumer);
/* The partition's reading starts at `offset`. */
void kafka_consumer_note_start(
    struct kafka_consumer *consumer, struct kafka_partition *partition, int64_t offset);

/* ---- kafka_consumer_partitions.c */
/* The brokers say that the topic has so many partitions, or that there is no such topic. */
void kafka_consumer_topic_there(struct kafka_consumer *consumer, int32_t count);
void kafka_consumer_topic_missing(struct kafka_consumer *consumer);
/* Timer: asks for a topic that is not there. */
void kafka_consumer_on_poke(evutil_socket_t descriptor, short what, void *context);
void kafka_consumer_restart_partition(struct kafka_consumer *consumer, int32_t number, int64_t offset);

/* ---- kafka_consumer_messages.c */
/* The queue has messages: takes up to KAFKA_BATCH of them. */
void kafka_consumer_on_messages(void *context);

#endif
