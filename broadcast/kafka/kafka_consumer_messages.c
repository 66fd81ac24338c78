/* The messages of all partitions: read, checked, offered to the event callback; what it refuses is kept and offered again. */
#include <inttypes.h>

#include "broadcast/kafka/kafka_consumer_internal.h"
#include "shm/common/loggers.h"

#define KAFKA_BATCH 256 /* messages a turn of the loop */

static void kafka_consumer_reject(
    struct kafka_consumer *consumer, const rd_kafka_message_t *message, const char *reason)
{
    consumer->rejected++;
    log_write_limited(&consumer->limit_rejected, LOG_ERROR, LOGGER_BROADCAST,
        "Failed handling incoming broadcast: %s (topic '%s', partition %" PRId32 ", offset %" PRId64
        ", %zu bytes): skipped",
        reason, consumer->settings->channel, message->partition, message->offset, message->len);
}

/* Others heard this event and ours did not: what it told they learn by a refetch. */
static void kafka_consumer_make_up(struct kafka_consumer *consumer)
{
    kafka_resync_want(consumer->resync, SLICE_LITERAL("an event was above this server's limits"));
}

static void kafka_consumer_too_large(struct kafka_consumer *consumer, const rd_kafka_message_t *message)
{
    consumer->callbacks->count(consumer->context, BROADCAST_COUNT_TOO_LARGE, 1);
    kafka_consumer_reject(consumer, message, "larger than this server's limit for an event");
    kafka_consumer_make_up(consumer);
}

/* A partition that was started at its beginning because it had not been there should hold nothing that is older than that. A broker
 * that denied a topic in error (it does so for a moment after it started) must not make us replay the topic's history. */
static bool kafka_consumer_is_history(
    struct kafka_consumer *consumer, struct kafka_partition *partition, const rd_kafka_message_t *message)
{
    rd_kafka_timestamp_type_t type;
    if (!partition->not_before_ms)
        return false;
    int64_t timestamp = rd_kafka_message_timestamp(message, &type);
    if (type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE || timestamp < 0 || timestamp >= partition->not_before_ms) {
        partition->not_before_ms = 0;
        return false;
    }
    log_write_limited(&consumer->limit_history, LOG_WARNING, LOGGER_BROADCAST,
        "topic '%s', partition %" PRId32
        ": was reported missing but holds older events; those are skipped (offset %" PRId64 ")",
        consumer->settings->channel, message->partition, message->offset);
    /* Or whoever wrote it has a clock that is minutes slow, and it is news. */
    kafka_resync_want(consumer->resync, SLICE_LITERAL("events that looked older than their partition"));
    return true;
}

/* False when the event callback can't take it now. */
static bool kafka_consumer_deliver(struct kafka_consumer *consumer, const rd_kafka_message_t *message)
{
    struct notification notification;
    const char *reason;
    if (!message->payload) {
        kafka_consumer_reject(consumer, message, "no value (a tombstone)");
        return true;
    }
    if (message->len > consumer->settings->event_max_bytes + KAFKA_MESSAGE_SLACK) {
        kafka_consumer_too_large(consumer, message);
        return true;
    }
    struct slice bytes = {message->payload, message->len};
    if (notification_decode(consumer->decoder, bytes, &notification, &reason) < 0) {
        kafka_consumer_reject(consumer, message, reason);
        if (notification.above_limits)
            kafka_consumer_make_up(consumer);
        return true;
    }
    if (slice_equals_string(notification.notifier_id, consumer->settings->notifier_id)) {
        consumer->own++;
        return true;
    }
    if (!notification
             .topic_count) { /* accepted, for nobody, unless another server says that it could not send everything */
        if (notification.resync.length)
            kafka_resync_ask(consumer->resync, &notification);
        return true;
    }
    if (notification.data.length > consumer->settings->event_max_bytes) {
        kafka_consumer_too_large(consumer, message);
        return true;
    }
    consumer->delivering = true;
    bool taken = consumer->callbacks->event(consumer->context, &notification);
    consumer->delivering = false;
    consumer->delivered += taken;
    return taken;
}

static void kafka_consumer_on_partition_error(
    struct kafka_consumer *consumer, struct kafka_partition *partition, const rd_kafka_message_t *message)
{
    switch (message->err) {
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        if (partition->phase == KAFKA_READING ||
            kafka_consumer_settle(consumer, message->partition, message->offset, NULL))
            kafka_consumer_note_start(consumer, partition, message->offset);
        return;
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
        log_write_limited(&consumer->limit_error, LOG_WARNING, LOGGER_BROADCAST,
            "topic '%s', partition %" PRId32 ": offset %" PRId64
            " is not in Kafka's log any more (%s): looking where the log begins now",
            consumer->settings->channel, message->partition, partition->next_offset,
            rd_kafka_message_errstr(message));
        kafka_consumer_note_lost(consumer, message->partition);
        return;
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
        kafka_consumer_note_missing(consumer, message->partition);
        return; /* the statistics tell when it lasts */
    default:
        log_write_limited(&consumer->limit_error, LOG_ERROR, LOGGER_BROADCAST,
            "topic '%s', partition %" PRId32 ": %s: %s", consumer->settings->channel, message->partition,
            rd_kafka_err2name(message->err), rd_kafka_message_errstr(message));
    }
}

/* False when the message must be kept and offered again. */
static bool kafka_consumer_handle(struct kafka_consumer *consumer, const rd_kafka_message_t *message)
{
    if (message->partition < 0 || message->partition >= consumer->partition_count) {
        log_write_limited(&consumer->limit_error, LOG_ERROR, LOGGER_BROADCAST, "Kafka consumer: %s",
            rd_kafka_message_errstr(message));
        return true;
    }
    struct kafka_partition *partition = &consumer->partitions[message->partition];
    if (message->err) {
        kafka_consumer_on_partition_error(consumer, partition, message);
        return true;
    }
    if (partition->phase != KAFKA_READING &&
        !kafka_consumer_settle(consumer, message->partition, message->offset, message))
        return true;
    kafka_consumer_note_start(consumer, partition, message->offset);
    if (message->offset < partition->next_offset)
        return true; /* had it */
    if (!kafka_consumer_is_history(consumer, partition, message) &&
        !kafka_consumer_deliver(consumer, message))
        return false;
    partition->next_offset = message->offset + 1;
    kafka_consumer_mark(partition, message);
    return true;
}

static void kafka_consumer_end_turn(struct kafka_consumer *consumer)
{
    if (consumer->own)
        consumer->callbacks->count(consumer->context, BROADCAST_COUNT_OWN, consumer->own);
    if (consumer->rejected)
        consumer->callbacks->count(consumer->context, BROADCAST_COUNT_REJECTED, consumer->rejected);
    if (consumer->delivered)
        consumer->callbacks->batch_end(consumer->context);
    consumer->own = consumer->rejected = consumer->delivered = 0;
}

void kafka_consumer_on_messages(void *context)
{
    struct kafka_consumer *consumer = context;
    unsigned budget = KAFKA_BATCH;
    if (consumer->paused)
        return; /* what is in the queue stays there; librdkafka stops fetching when it is full */
    while (budget) {
        rd_kafka_message_t *message = rd_kafka_consume_queue(consumer->queue, 0);
        if (!message) {
            kafka_consumer_start_checks(consumer);
            break;
        }
        budget--;
        if (!kafka_consumer_handle(consumer, message)) {
            consumer->held = message;
            consumer->paused = true;
            break;
        }
        rd_kafka_message_destroy(message);
    }
    kafka_consumer_end_turn(consumer);
    if (!budget && !consumer->paused)
        kafka_watch_again(&consumer->messages);
}

void kafka_consumer_resume(struct kafka_consumer *consumer)
{
    if (!consumer->paused || consumer->delivering)
        return;
    if (consumer->held) {
        if (!kafka_consumer_handle(consumer, consumer->held))
            return;
        rd_kafka_message_destroy(consumer->held);
        consumer->held = NULL;
        kafka_consumer_end_turn(consumer);
    }
    consumer->paused = false;
    kafka_watch_again(&consumer->messages);
}
