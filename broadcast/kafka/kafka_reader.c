#include "broadcast/kafka/kafka_reader.h"

#include <inttypes.h>
#include <stdlib.h>

#include "broadcast/kafka/kafka_delivery.h"
#include "broadcast/kafka/kafka_marks.h"
#include "broadcast/kafka/kafka_watch.h"
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"

#define KAFKA_READER_MAGIC 0x6b726472u
/* Messages per turn of the loop. */
#define KAFKA_BATCH 256

struct kafka_reader {
    uint32_t magic;
    struct kafka_reader_options options;
    rd_kafka_topic_t *topic;
    /* Messages of all partitions; owned by `messages`. */
    rd_kafka_queue_t *queue;
    struct kafka_watch messages;
    struct kafka_delivery *delivery;
    /* Runs when a partition has a question to ask. */
    struct event *due;
    /* By number. Never fewer: those of a topic that was created again with fewer may come back. */
    struct kafka_identity **partitions;
    int32_t partition_count;
    /* As last reported. */
    int32_t told_count;
    /* The event callback refused it: offered again first. */
    rd_kafka_message_t *held;
    bool paused;
    /* The last word of the broker was that this user may not read. */
    bool refused;
    enum kafka_holes holes;
    struct log_limiter limit_error;
    struct log_limiter limit_lost;
};

/* ---- librdkafka ---- */

static void reader_forget_held(struct kafka_reader *reader)
{
    if (reader->held)
        rd_kafka_message_destroy(reader->held);
    reader->held = NULL;
}

/* rd_kafka_consume_stop waits for librdkafka's own main thread, which does no network I/O: microseconds. What
 * is still queued of the old reading is dropped by librdkafka. */
static void reader_read_from(struct kafka_reader *reader, int32_t number, int64_t offset)
{
    int64_t place = offset == KAFKA_IDENTITY_END ? RD_KAFKA_OFFSET_END : offset;
    if (reader->held && reader->held->partition == number)
        reader_forget_held(reader);
    rd_kafka_consume_stop(reader->topic, number);
    if (rd_kafka_consume_start_queue(reader->topic, number, place, reader->queue) < 0)
        log_write_limited(&reader->limit_error, LOG_ERROR, LOGGER_BROADCAST,
            "Kafka consumer: can't read partition %" PRId32 " of '%s': %s", number,
            reader->options.settings->channel, rd_kafka_err2str(rd_kafka_last_error()));
}

static int32_t reader_epoch(const rd_kafka_message_t *message)
{
#if RD_KAFKA_VERSION >= 0x020100ff
    return rd_kafka_message_leader_epoch(message);
#else
    (void)message;
    return KAFKA_UNKNOWN;
#endif
}

static struct kafka_seen reader_seen(const rd_kafka_message_t *message)
{
    struct kafka_seen seen = {.offset = message->offset,
        .mark = KAFKA_MARK_NONE,
        .broker = rd_kafka_message_broker_id(message),
        .epoch = KAFKA_UNKNOWN};
    if (!message->err) {
        rd_kafka_timestamp_type_t type;
        seen.mark =
            kafka_mark_make(rd_kafka_message_timestamp(message, &type), message->payload, message->len);
        seen.epoch = reader_epoch(message);
    }
    return seen;
}

/* ---- decisions ---- */

static void reader_schedule(struct kafka_reader *reader)
{
    uint64_t first = 0;
    for (int32_t i = 0; i < reader->partition_count; i++) {
        uint64_t due = kafka_identity_due(reader->partitions[i]);
        if (due && (!first || due < first))
            first = due;
    }
    if (!first) {
        event_del(reader->due);
        return;
    }
    uint64_t now = clock_monotonic_ns();
    struct timeval wait = clock_timeval_ns(first > now ? first - now + 999 : 0);
    event_add(reader->due, &wait);
}

/* What a decision that delivers nothing asks for. */
static void reader_act(struct kafka_reader *reader, int32_t number, struct kafka_decision decision)
{
    if (decision.step == KAFKA_ASK)
        reader_read_from(reader, number, decision.offset);
    reader_schedule(reader);
}

static void reader_report_gap(struct kafka_reader *reader, int32_t number, const struct kafka_decision *gap)
{
    log_write(LOG_WARNING, LOGGER_BROADCAST,
        "topic '%s', partition %" PRId32 ": %s: going on at its end, offset %" PRId64,
        reader->options.settings->channel, number, gap->why,
        kafka_identity_position(reader->partitions[number]));
    reader->options.callbacks->gap(reader->options.context, gap->gap_ns, gap->why);
}

/* A message, or a partition's end. False when the message must be kept and offered again. */
static bool reader_see(struct kafka_reader *reader, const rd_kafka_message_t *message)
{
    struct kafka_identity *identity = reader->partitions[message->partition];
    struct kafka_seen seen = reader_seen(message);
    uint64_t now = clock_monotonic_ns();
    bool unsettled = kafka_identity_unsettled_ns(identity) != 0;
    reader->refused = false;
    struct kafka_decision decision = kafka_identity_see(identity, &seen, now);
    if (decision.step == KAFKA_GAP) {
        reader_report_gap(reader, message->partition, &decision);
        decision = kafka_identity_see(identity, &seen, now);
    }
    if (decision.step == KAFKA_ASK || unsettled)
        reader_act(reader, message->partition, decision);
    if (unsettled)
        reader->options.changed(reader->options.owner);
    if (decision.step != KAFKA_READ_ON || message->err)
        return true;
    struct kafka_record record = {.value = {message->payload, message->len},
        .partition = message->partition,
        .offset = message->offset};
    if (!kafka_delivery_offer(reader->delivery, &record))
        return false;
    kafka_identity_taken(identity, &seen);
    return true;
}

/* ---- errors of a partition, which come in the order of its messages ---- */

/* librdkafka passes over a record that it can't read. */
static bool reader_is_unreadable(rd_kafka_resp_err_t code)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR__BAD_MSG:
    case RD_KAFKA_RESP_ERR__BAD_COMPRESSION:
    case RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
        return true;
    default:
        return false;
    }
}

static bool reader_is_refusal(rd_kafka_resp_err_t code)
{
#if RD_KAFKA_VERSION >= 0x020100ff
    if (code == RD_KAFKA_RESP_ERR__LOG_TRUNCATION)
        return true;
#endif
    return code == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET;
}

static void reader_take_refusal(struct kafka_reader *reader, const rd_kafka_message_t *message)
{
    struct kafka_identity *identity = reader->partitions[message->partition];
    log_write_limited(&reader->limit_lost, LOG_WARNING, LOGGER_BROADCAST,
        "topic '%s', partition %" PRId32 ": can't read on at offset %" PRId64 " (%s): asking again",
        reader->options.settings->channel, message->partition, kafka_identity_position(identity),
        rd_kafka_message_errstr(message));
    reader_act(reader, message->partition,
        kafka_identity_refused(identity, rd_kafka_message_broker_id(message), clock_monotonic_ns()));
    reader->options.changed(reader->options.owner);
}

static void reader_take_error(struct kafka_reader *reader, const rd_kafka_message_t *message)
{
    if (reader_is_refusal(message->err)) {
        reader_take_refusal(reader, message);
        return;
    }
    switch (message->err) {
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
        reader_act(reader, message->partition,
            kafka_identity_missing(reader->partitions[message->partition], clock_monotonic_ns()));
        return;
    default:
        log_write_limited(&reader->limit_error, LOG_ERROR, LOGGER_BROADCAST,
            "topic '%s', partition %" PRId32 ": %s: %s", reader->options.settings->channel,
            message->partition, rd_kafka_err2name(message->err), rd_kafka_message_errstr(message));
        if (message->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
            reader->refused = true;
        if (reader_is_unreadable(message->err))
            kafka_delivery_missed(reader->delivery, "a record could not be read");
    }
}

/* ---- the queue ---- */

/* False when the message must be kept and offered again. */
static bool reader_handle(struct kafka_reader *reader, const rd_kafka_message_t *message)
{
    if (message->partition < 0 || message->partition >= reader->partition_count) {
        log_write_limited(&reader->limit_error, LOG_ERROR, LOGGER_BROADCAST, "Kafka consumer: %s",
            rd_kafka_message_errstr(message));
        return true;
    }
    if (!message->err || message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
        return reader_see(reader, message);
    reader_take_error(reader, message);
    return true;
}

static void reader_on_messages(void *context)
{
    struct kafka_reader *reader = object_cast(struct kafka_reader, KAFKA_READER_MAGIC, context);
    unsigned budget = KAFKA_BATCH;
    if (reader->paused)
        return; /* what is in the queue stays there; librdkafka stops fetching when it is full */
    while (budget) {
        rd_kafka_message_t *message = rd_kafka_consume_queue(reader->queue, 0);
        if (!message)
            break;
        budget--;
        if (!reader_handle(reader, message)) {
            reader->held = message;
            reader->paused = true;
            break;
        }
        rd_kafka_message_destroy(message);
    }
    kafka_delivery_end_batch(reader->delivery);
    if (!budget && !reader->paused)
        kafka_watch_again(&reader->messages);
}

void kafka_reader_resume(struct kafka_reader *reader)
{
    if (!reader->paused || kafka_delivery_is_busy(reader->delivery))
        return;
    rd_kafka_message_t *message = reader->held;
    reader->held = NULL;
    if (message && !reader_handle(reader, message)) {
        reader->held = message;
        return;
    }
    if (message)
        rd_kafka_message_destroy(message);
    kafka_delivery_end_batch(reader->delivery);
    reader->paused = false;
    kafka_watch_again(&reader->messages);
}

static void reader_on_due(evutil_socket_t descriptor, short what, void *context)
{
    struct kafka_reader *reader = object_cast(struct kafka_reader, KAFKA_READER_MAGIC, context);
    uint64_t now = clock_monotonic_ns();
    (void)descriptor;
    (void)what;
    for (int32_t i = 0; i < reader->partition_count; i++)
        reader_act(reader, i, kafka_identity_tick(reader->partitions[i], now));
    reader_schedule(reader);
}

/* ---- the topic ---- */

static void reader_add_partitions(struct kafka_reader *reader, int32_t count)
{
    const char *why = reader->partition_count ? "the Kafka topic has more partitions" : NULL;
    int32_t old = reader->partition_count;
    reader->partitions = memory_resize(reader->partitions, (size_t)count * sizeof(*reader->partitions));
    reader->partition_count = count;
    for (int32_t i = old; i < count; i++) {
        reader->partitions[i] = kafka_identity_make();
        kafka_identity_set_holes(reader->partitions[i], reader->holes);
    }
    for (int32_t i = old; i < count; i++)
        reader_act(reader, i, kafka_identity_start(reader->partitions[i], why, clock_monotonic_ns()));
    if (count > 1)
        log_write(LOG_WARNING, LOGGER_BROADCAST,
            "topic '%s' has %" PRId32 " partitions: order is kept only among the events of one partition. "
            "This server writes to partition 0 alone and reads all; servers that spread their events over "
            "partitions get no common order. One partition is right for this topic",
            reader->options.settings->channel, count);
}

void kafka_reader_topic_there(struct kafka_reader *reader, int32_t count)
{
    uint64_t now = clock_monotonic_ns();
    for (int32_t i = 0; i < reader->partition_count && i < count; i++)
        reader_act(reader, i, kafka_identity_there(reader->partitions[i], now));
    if (count > reader->partition_count)
        reader_add_partitions(reader, count);
    else if (count < reader->told_count)
        kafka_reader_doubt(reader); /* Kafka takes no partition from a topic: it is another one */
    reader->told_count = count;
    reader->options.changed(reader->options.owner);
}

void kafka_reader_topic_missing(struct kafka_reader *reader)
{
    uint64_t now = clock_monotonic_ns();
    for (int32_t i = 0; i < reader->partition_count; i++)
        reader_act(reader, i, kafka_identity_missing(reader->partitions[i], now));
}

void kafka_reader_doubt(struct kafka_reader *reader)
{
    uint64_t now = clock_monotonic_ns();
    for (int32_t i = 0; i < reader->partition_count; i++)
        reader_act(reader, i, kafka_identity_doubt(reader->partitions[i], now));
}

void kafka_reader_set_holes(struct kafka_reader *reader, enum kafka_holes holes)
{
    reader->holes = holes;
    for (int32_t i = 0; i < reader->partition_count; i++)
        kafka_identity_set_holes(reader->partitions[i], holes);
}

/* The end of the log is told once for each reading. */
void kafka_reader_retry(struct kafka_reader *reader)
{
    uint64_t now = clock_monotonic_ns();
    for (int32_t i = 0; i < reader->partition_count; i++) {
        struct kafka_decision again = kafka_identity_doubt(reader->partitions[i], now);
        if (again.step == KAFKA_WAIT)
            again = kafka_identity_repeat(reader->partitions[i]);
        reader_act(reader, i, again);
    }
}

bool kafka_reader_is_refused(const struct kafka_reader *reader)
{
    return reader->refused;
}

rd_kafka_topic_t *kafka_reader_topic(const struct kafka_reader *reader)
{
    return reader->topic;
}

int32_t kafka_reader_partition_count(const struct kafka_reader *reader)
{
    return reader->partition_count;
}

uint64_t kafka_reader_unsettled_ns(const struct kafka_reader *reader)
{
    uint64_t first = 0;
    for (int32_t i = 0; i < reader->partition_count; i++) {
        uint64_t since = kafka_identity_unsettled_ns(reader->partitions[i]);
        if (since && (!first || since < first))
            first = since;
    }
    return first;
}

/* ---- life cycle ---- */

static int reader_start(struct kafka_reader *reader, struct event_base *base, struct error *err)
{
    const struct kafka_reader_options *options = &reader->options;
    reader->delivery = kafka_delivery_open(base, options->settings, options->callbacks, options->context);
    reader->due = event_new(base, -1, 0, reader_on_due, reader);
    if (!reader->delivery || !reader->due)
        return error_set(err, -1, "Kafka consumer: the event loop takes no more events");
    reader->topic = rd_kafka_topic_new(options->handle, options->settings->channel, NULL);
    if (!reader->topic)
        return error_set(err, -1, "Kafka topic '%s': %s", options->settings->channel,
            rd_kafka_err2str(rd_kafka_last_error()));
    reader->queue = rd_kafka_queue_new(options->handle);
    return kafka_watch_open(&reader->messages, base, reader->queue, reader_on_messages, reader, err);
}

struct kafka_reader *kafka_reader_open(
    struct event_base *base, const struct kafka_reader_options *options, struct error *err)
{
    struct kafka_reader *reader = memory_allocate(sizeof *reader);
    reader->magic = KAFKA_READER_MAGIC;
    reader->options = *options;
    if (reader_start(reader, base, err) < 0) {
        kafka_reader_close(reader);
        return NULL;
    }
    return reader;
}

void kafka_reader_close(struct kafka_reader *reader)
{
    if (!reader)
        return;
    reader_forget_held(reader);
    for (int32_t i = 0; i < reader->partition_count; i++) {
        rd_kafka_consume_stop(reader->topic, i);
        kafka_identity_free(reader->partitions[i]);
    }
    free(reader->partitions);
    kafka_watch_close(&reader->messages);
    kafka_delivery_close(reader->delivery);
    if (reader->due)
        event_free(reader->due);
    if (reader->topic)
        rd_kafka_topic_destroy(reader->topic);
    reader->magic = 0;
    free(reader);
}
