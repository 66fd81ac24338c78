/*
 * librdkafka's producer: its settings, its beginning and end, its reports. After a fatal error it is of no
 * more use, and the owner replaces it. Master's loop only.
 */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_SENDER_H
#define OPALD_BROADCAST_KAFKA_KAFKA_SENDER_H

#include <event2/event.h>
#include <librdkafka/rdkafka.h>
#include "broadcast/backend/backend.h"
#include "shm/common/object.h"

struct kafka_sender;

/* Of one batch of several messages, in bytes: librdkafka's default, below Kafka's default limit of a topic.
 * */
#define KAFKA_BATCH_BYTES 1000000

struct kafka_sender_options {
    const struct broadcast_settings *settings;
    const char *brokers;
    bool secure;
    /* The largest batch of several messages. */
    uint64_t batch_bytes;
    /* What became of a message: `code` 0, it is in Kafka; else it is not, and `message` (valid during the
     * call) is given back. */
    void (*report)(void *owner, void *item, rd_kafka_resp_err_t code, struct slice message);
    /* A fatal error: what is in flight comes back by `report`. Not from within kafka_sender_send. */
    void (*fatal)(void *owner, rd_kafka_resp_err_t code);
    /* A quota delayed an answer of this broker. */
    void (*throttled)(void *owner, const char *broker, int delay_ms);
    /* All reports that were there have been made. The sender may be closed here, not in the two above. */
    void (*idle)(void *owner);
    void *owner;
};

/* NULL with `err` set. `options->settings` and `brokers` must outlive it. */
struct kafka_sender *kafka_sender_open(
    struct event_base *base, const struct kafka_sender_options *options, struct error *err) MUST_CHECK;
/* NULL is fine. */
void kafka_sender_close(struct kafka_sender *sender);
/* Copies the message. 0, or why librdkafka didn't take it. `item` is handed to `report`. */
rd_kafka_resp_err_t kafka_sender_send(
    struct kafka_sender *sender, void *item, struct slice message) MUST_CHECK;
/* Makes the reports that are there, waiting at most so long for the first; then calls `idle`. */
void kafka_sender_poll(struct kafka_sender *sender, int wait_ms);
/* Gives back all that is not acknowledged. */
void kafka_sender_purge(struct kafka_sender *sender);
/* -1 when a sender can't be made with these settings. Connects to nothing. */
int kafka_sender_check(const struct kafka_sender_options *options, struct error *err) MUST_CHECK;
/* For tests that inject errors. */
rd_kafka_t *kafka_sender_handle(const struct kafka_sender *sender);

#endif
