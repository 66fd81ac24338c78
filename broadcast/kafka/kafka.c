/* The Kafka backbone: configuration, one producer, one consumer, and for kafka+mock:// the cluster itself. */
#include "broadcast/kafka/kafka.h"

#include <stdlib.h>
#include <string.h>

#include "broadcast/kafka/kafka_config.h"
#include "broadcast/kafka/kafka_consumer.h"
#include "broadcast/kafka/kafka_log.h"
#include "broadcast/kafka/kafka_mock.h"
#include "broadcast/kafka/kafka_producer.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"

#define KAFKA_MAGIC              0x6b61666bu
#define KAFKA_TOPIC_MAX          249
#define KAFKA_FETCH_WAIT_MS      250 /* also the delay until the end offset of a quiet topic is known */
#define KAFKA_FETCH_WAIT_MOCK_MS 10  /* the mock cluster does not end a wait when a message comes */

struct kafka {
    uint32_t magic;
    const struct broadcast_settings *settings;
    struct broadcast_callbacks callbacks;
    struct text brokers;
    /* NULL with a real cluster */
    struct kafka_mock *mock;
    struct kafka_producer *producer;
    struct kafka_consumer *consumer;
    /* the message being encoded */
    struct text message;
};

static const char *const kafka_schemes[] = {"kafka", "kafka+mock", NULL};

static int kafka_check_uri(const char *uri, struct error *err)
{
    struct text brokers = {0};
    int result = kafka_config_parse_uri(uri, &brokers, err);
    text_free(&brokers);
    if (result == 0 && !kafka_config_is_mock(uri))
        result = kafka_config_apply_security(NULL, err);
    return result;
}

static void kafka_free(struct kafka *kafka)
{
    if (kafka->mock)
        kafka_mock_close(kafka->mock);
    text_free(&kafka->brokers);
    text_free(&kafka->message);
    kafka->magic = 0;
    free(kafka);
}

/* "['h1:9092', 'h2:9092']", as the reference's line shows them. */
static void kafka_log_brokers(const struct kafka *kafka)
{
    struct text line = {0};
    const char *brokers = kafka->brokers.data;
    text_append_string(&line, "['");
    for (const char *c = brokers; *c; c++) {
        if (*c == ',')
            text_append_string(&line, "', '");
        else
            text_append_char(&line, *c);
    }
    text_append_string(&line, "']");
    log_write(LOG_INFO, LOGGER_BROADCAST, "connecting to brokers: %s", line.data);
    text_free(&line);
}

static void kafka_on_outgoing(void *owner, struct kafka_outgoing *out)
{
    struct kafka *kafka = object_cast(struct kafka, KAFKA_MAGIC, owner);
    *out = (struct kafka_outgoing){.count = kafka_producer_pending(kafka->producer),
        .oldest_ns = kafka_producer_oldest_ns(kafka->producer),
        .refused = kafka_producer_is_refused(kafka->producer)};
}

static void kafka_on_throttled(void *owner, const char *broker, int delay_ms)
{
    struct kafka *kafka = object_cast(struct kafka, KAFKA_MAGIC, owner);
    if (kafka->consumer)
        kafka_consumer_note_throttle(kafka->consumer, "sending", broker, delay_ms);
}

static void kafka_on_limit(void *owner, uint64_t bytes)
{
    struct kafka *kafka = object_cast(struct kafka, KAFKA_MAGIC, owner);
    kafka_producer_limit_batches(kafka->producer, bytes);
}

static int kafka_open_parts(struct kafka *kafka, struct event_base *base, void *context, struct error *err)
{
    bool mock = kafka_config_is_mock(kafka->settings->uri);
    if (kafka_config_parse_uri(kafka->settings->uri, &kafka->brokers, err) < 0)
        return -1;
    if (mock) {
        kafka->mock = kafka_mock_open(kafka->settings->channel, err);
        if (!kafka->mock)
            return -1;
        text_append_string(&kafka->brokers, kafka_mock_brokers(kafka->mock));
        log_write(LOG_WARNING, LOGGER_BROADCAST,
            "kafka+mock: this backbone is a trial cluster inside this process, at %s: it keeps nothing, and "
            "no other "
            "server should rely on it. Look into it with: kcat -b %s -t %s",
            kafka->brokers.data, kafka->brokers.data, kafka->settings->channel);
    }
    kafka_log_brokers(kafka);
    kafka->producer = kafka_producer_open(
        base, kafka->settings, kafka->brokers.data, !mock, &kafka->callbacks, context, err);
    if (!kafka->producer)
        return -1;
    kafka_producer_on_throttle(kafka->producer, kafka_on_throttled, kafka);
    struct kafka_consumer_options options = {.brokers = kafka->brokers.data,
        .secure = !mock,
        .fetch_wait_ms = mock ? KAFKA_FETCH_WAIT_MOCK_MS : KAFKA_FETCH_WAIT_MS,
        .outgoing = kafka_on_outgoing,
        .limit_known = kafka_on_limit,
        .owner = kafka};
    kafka->consumer = kafka_consumer_open(base, kafka->settings, &options, &kafka->callbacks, context, err);
    return kafka->consumer ? 0 : -1;
}

/* Kafka's own rule for topic names. */
static int kafka_check_channel(const char *channel, struct error *err)
{
    size_t length = strlen(channel);
    size_t legal = strspn(channel, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    if (length == 0 || length > KAFKA_TOPIC_MAX || legal != length || strcmp(channel, ".") == 0 ||
        strcmp(channel, "..") == 0)
        return error_set(err, -1,
            "channel name '%.80s' can't be a Kafka topic: 1 to 249 letters, digits, '.', '_', '-'", channel);
    return 0;
}

static int kafka_check_settings(const struct broadcast_settings *settings, struct error *err)
{
    bool mock = kafka_config_is_mock(settings->uri);
    struct kafka_consumer_options options = {.secure = !mock, .fetch_wait_ms = KAFKA_FETCH_WAIT_MS};
    if (kafka_check_channel(settings->channel, err) < 0 || kafka_producer_check(settings, !mock, err) < 0)
        return -1;
    return kafka_consumer_check(settings, &options, err);
}

static void *kafka_open(struct event_base *base, const struct broadcast_settings *settings,
    const struct broadcast_callbacks *callbacks, void *context, struct error *err)
{
    if (kafka_check_channel(settings->channel, err) < 0)
        return NULL;
    struct kafka *kafka = memory_allocate(sizeof *kafka);
    kafka->magic = KAFKA_MAGIC;
    kafka->settings = settings;
    kafka->callbacks = *callbacks;
    if (kafka_open_parts(kafka, base, context, err) < 0) {
        if (kafka->producer)
            kafka_producer_close(kafka->producer, 0);
        kafka_free(kafka);
        return NULL;
    }
    return kafka;
}

static int kafka_publish(void *self, struct slice topic, struct slice data, uint64_t token)
{
    struct kafka *kafka = object_cast(struct kafka, KAFKA_MAGIC, self);
    text_clear(&kafka->message);
    notification_encode(&kafka->message, slice_from_string(kafka->settings->notifier_id), topic, data);
    return kafka_producer_send(kafka->producer, text_slice(&kafka->message), token);
}

static void kafka_resume(void *self)
{
    struct kafka *kafka = object_cast(struct kafka, KAFKA_MAGIC, self);
    kafka_consumer_resume(kafka->consumer);
}

static uint64_t kafka_message_max(void *self)
{
    const struct kafka *kafka = object_cast(struct kafka, KAFKA_MAGIC, (void *)(uintptr_t)self);
    /* While it is not known, a refusal by the broker is counted and logged. */
    return kafka->consumer ? kafka_consumer_message_max(kafka->consumer) : UINT64_MAX;
}

static size_t kafka_close(void *self, int grace_ms)
{
    struct kafka *kafka = object_cast(struct kafka, KAFKA_MAGIC, self);
    kafka_consumer_close(kafka->consumer);
    size_t unsent = kafka_producer_close(kafka->producer, grace_ms);
    kafka_free(kafka);
    return unsent;
}

const struct broadcast_backend broadcast_kafka = {
    .schemes = kafka_schemes,
    .check_uri = kafka_check_uri,
    .open = kafka_open,
    .publish = kafka_publish,
    .resume = kafka_resume,
    .message_max = kafka_message_max,
    .close = kafka_close,
    .check_settings = kafka_check_settings,
};
