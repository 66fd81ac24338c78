/* The inside of broadcast/kafka/kafka_consumer.h; only the kafka_consumer*.c and their test include it. */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_CONSUMER_INTERNAL_H
#define OPALD_BROADCAST_KAFKA_KAFKA_CONSUMER_INTERNAL_H

#include "broadcast/kafka/kafka_admin.h"
#include "broadcast/kafka/kafka_consumer.h"
#include "broadcast/kafka/kafka_log.h"
#include "broadcast/kafka/kafka_resync.h"
#include "broadcast/kafka/kafka_watch.h"
#include "shm/common/clock.h"
#include "shm/common/json.h"

#define KAFKA_CONSUMER_MAGIC 0x6b636f6eu
/* a broker that just started denies topics that it has for a moment */
#define KAFKA_MISSING_NS    (3 * CLOCK_SECOND)
#define KAFKA_CLOCK_SKEW_MS 60000
#define KAFKA_MESSAGE_SLACK (512 * 1024) /* topics and envelope beside the event's data */

/* What the next message of a partition is taken for: see kafka_consumer_incarnation.c. */
enum kafka_phase {
    KAFKA_READING,
    KAFKA_CHECKING, /* reading the last event again: is it the log that we know? */
    KAFKA_PROBING,  /* reading from the beginning: where does the log begin now? */
};

struct kafka_partition {
    int64_t next_offset;   /* up to here all of the present log has been read */
    int64_t not_before_ms; /* started at the beginning: older messages are history; 0: no check */
    uint64_t lost_ns;      /* when its offset was found to be lost; 0: it is not */
    const char *lost_why;
    bool known; /* where reading starts */
    enum kafka_phase phase;
    bool has_mark; /* false: nothing of this log was read yet */
    uint64_t mark; /* of the message at next_offset - 1 */
    uint64_t
        missing_ns; /* checking because the topic was reported missing: since when; 0: for another reason */
    uint64_t short_ns; /* checking, and the log ends too early: since when; 0: it does not */
    int64_t seen_ms;   /* wall clock: the log that we know was there then, so another one began later */
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
    int32_t partition_count; /* never falls: those of a topic that was made anew with fewer may come back */
    int32_t told_count;      /* as last reported */
    bool check_wanted;       /* all partitions, once what is queued is read */
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
/* Reads the partition from `offset` (as for librdkafka); all else about it is left to the caller. */
void kafka_consumer_restart_partition(struct kafka_consumer *consumer, int32_t number, int64_t offset);
int64_t kafka_consumer_wall_ms(void);

/* ---- kafka_consumer_incarnation.c */
/* Something happened after which the topic may be another one of the same name: checks every partition, once what is queued is read. */
void kafka_consumer_want_check(struct kafka_consumer *consumer);
/* Nothing is queued: does what was wanted. */
void kafka_consumer_start_checks(struct kafka_consumer *consumer);
/* Timer: what a check found and what had to last for a while. */
void kafka_consumer_end_checks(struct kafka_consumer *consumer);
/* The partition is reported missing; called in the queue's order. */
void kafka_consumer_note_missing(struct kafka_consumer *consumer, int32_t number);
/* Kafka's log does not have the offset at which we wanted to read. */
void kafka_consumer_note_lost(struct kafka_consumer *consumer, int32_t number);
/* A partition that is not KAFKA_READING got this message, or for NULL the log's end at `offset`. True when it is read as usual now. */
bool kafka_consumer_settle(
    struct kafka_consumer *consumer, int32_t number, int64_t offset, const rd_kafka_message_t *message);
/* The message was read: it is what a check looks for. */
void kafka_consumer_mark(struct kafka_partition *partition, const rd_kafka_message_t *message);

/* ---- kafka_consumer_messages.c */
/* The queue has messages: takes up to KAFKA_BATCH of them. */
void kafka_consumer_on_messages(void *context);

#endif
