#include "broadcast/kafka/kafka_sender.h"

#include <stdlib.h>

#include "broadcast/kafka/kafka_config.h"
#include "broadcast/kafka/kafka_delivery.h"
#include "broadcast/kafka/kafka_extra.h"
#include "broadcast/kafka/kafka_log.h"
#include "broadcast/kafka/kafka_watch.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"

#define KAFKA_SENDER_MAGIC 0x6b736e64u
/* One server writes to one partition, so that its events keep their order. */
#define KAFKA_PARTITION           0
#define KAFKA_MESSAGE_MIN_LIMIT   (1024 * 1024)
#define KAFKA_LIBRDKAFKA_MAX_KB   2147483647LL
#define KAFKA_LIBRDKAFKA_MAX_SIZE 1000000000LL

struct kafka_sender {
    uint32_t magic;
    struct kafka_sender_options options;
    rd_kafka_t *handle;
    rd_kafka_topic_t *topic;
    struct kafka_watch watch;
    bool fatal;
    struct kafka_log log;
    struct log_limiter limit_error;
};

/* ---- librdkafka's callbacks, from rd_kafka_poll ---- */

static void sender_on_report(rd_kafka_t *handle, const rd_kafka_message_t *message, void *opaque)
{
    struct kafka_sender *sender = object_cast(struct kafka_sender, KAFKA_SENDER_MAGIC, opaque);
    struct slice bytes = {message->payload, message->len};
    (void)handle;
    sender->options.report(sender->options.owner, message->_private, message->err, bytes);
}

static void sender_on_error(rd_kafka_t *handle, int code, const char *reason, void *opaque)
{
    struct kafka_sender *sender = object_cast(struct kafka_sender, KAFKA_SENDER_MAGIC, opaque);
    if (code != RD_KAFKA_RESP_ERR__FATAL) {
        /* Connection trouble is in librdkafka's log lines, and the consumer reports the state. */
        log_write(LOG_DEBUG, LOGGER_BROADCAST, "Kafka producer: %s: %s", rd_kafka_err2name(code), reason);
        return;
    }
    if (sender->fatal)
        return;
    char text[512];
    rd_kafka_resp_err_t cause = rd_kafka_fatal_error(handle, text, sizeof text);
    sender->fatal = true;
    log_write_limited(&sender->limit_error, LOG_ERROR, LOGGER_BROADCAST,
        "Kafka producer: fatal error %s: %s; a new producer will send what is not acknowledged",
        rd_kafka_err2name(cause), text);
    sender->options.fatal(sender->options.owner, cause);
    rd_kafka_purge(
        handle, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
}

static void sender_on_throttle(
    rd_kafka_t *handle, const char *name, int32_t broker, int delay_ms, void *opaque)
{
    struct kafka_sender *sender = object_cast(struct kafka_sender, KAFKA_SENDER_MAGIC, opaque);
    (void)handle;
    (void)broker;
    if (delay_ms > 0)
        sender->options.throttled(sender->options.owner, name, delay_ms);
}

static void sender_on_log(const rd_kafka_t *handle, int level, const char *facility, const char *text)
{
    struct kafka_sender *sender =
        object_cast(struct kafka_sender, KAFKA_SENDER_MAGIC, rd_kafka_opaque(handle));
    kafka_log_write(&sender->log, "producer", level, facility, text);
}

static void sender_on_ready(void *context)
{
    kafka_sender_poll(object_cast(struct kafka_sender, KAFKA_SENDER_MAGIC, context), 0);
}

/* ---- settings ---- */

static int sender_configure(
    const struct kafka_sender_options *options, rd_kafka_conf_t *conf, struct error *err)
{
    static const struct {
        const char *name;
        const char *value;
    } fixed[] = {
        /* brings endless retries */
        {"enable.idempotence", "true"},
        {"acks", "all"},
        {"enable.gapless.guarantee", "true"},
        {"retry.backoff.ms", "100"},
        {"linger.ms", "0"},
        /* for ever: the queue is bounded by us */
        {"message.timeout.ms", "0"},
        /* We count ourselves, what waits included, so librdkafka's own bounds must not come first. */
        {"queue.buffering.max.messages", "0"},
    };
    const struct broadcast_settings *settings = options->settings;
    long long kilobytes = (long long)(settings->queue_max_bytes / 1024) + 1024;
    long long message = (long long)settings->limits->event_max_bytes + KAFKA_MESSAGE_SLACK;
    if (message < KAFKA_MESSAGE_MIN_LIMIT)
        message = KAFKA_MESSAGE_MIN_LIMIT;
    if (message > KAFKA_LIBRDKAFKA_MAX_SIZE)
        message = KAFKA_LIBRDKAFKA_MAX_SIZE;
    if (kilobytes > KAFKA_LIBRDKAFKA_MAX_KB)
        kilobytes = KAFKA_LIBRDKAFKA_MAX_KB;
    if (kafka_config_apply_common(conf, options->brokers, options->secure, err) < 0)
        return -1;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (kafka_config_set(conf, fixed[i].name, fixed[i].value, err) < 0)
            return -1;
    if (kafka_config_set_number(conf, "message.max.bytes", message, err) < 0 ||
        kafka_config_set_number(conf, "batch.size", (long long)options->batch_bytes, err) < 0 ||
        kafka_config_set_number(conf, "queue.buffering.max.kbytes", kilobytes, err) < 0)
        return -1;
    return kafka_extra_apply(conf, KAFKA_EXTRA_PRODUCER, settings->kafka_config, err);
}

/* `opaque`: for the callbacks. */
static rd_kafka_t *sender_make_handle(
    const struct kafka_sender_options *options, void *opaque, struct error *err)
{
    char reason[512] = "";
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (sender_configure(options, conf, err) < 0) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    rd_kafka_conf_set_opaque(conf, opaque);
    rd_kafka_conf_set_dr_msg_cb(conf, sender_on_report);
    rd_kafka_conf_set_error_cb(conf, sender_on_error);
    rd_kafka_conf_set_log_cb(conf, sender_on_log);
    rd_kafka_conf_set_throttle_cb(conf, sender_on_throttle);
    rd_kafka_t *handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof reason);
    if (!handle) {
        rd_kafka_conf_destroy(conf);
        error_set(err, -1, "Kafka producer: %s", reason);
    }
    return handle;
}

/* ---- interface ---- */

rd_kafka_resp_err_t kafka_sender_send(struct kafka_sender *sender, void *item, struct slice message)
{
    if (sender->fatal)
        return RD_KAFKA_RESP_ERR__FATAL;
    /* RD_KAFKA_MSG_F_COPY: librdkafka keeps a copy; the payload isn't written to. */
    if (rd_kafka_produce(sender->topic, KAFKA_PARTITION, RD_KAFKA_MSG_F_COPY, (void *)(uintptr_t)message.data,
            message.length, NULL, 0, item) == 0)
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    return rd_kafka_last_error();
}

void kafka_sender_poll(struct kafka_sender *sender, int wait_ms)
{
    rd_kafka_poll(sender->handle, wait_ms);
    sender->options.idle(sender->options.owner);
}

void kafka_sender_purge(struct kafka_sender *sender)
{
    rd_kafka_purge(sender->handle, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    kafka_sender_poll(sender, 0);
}

rd_kafka_t *kafka_sender_handle(const struct kafka_sender *sender)
{
    return sender->handle;
}

int kafka_sender_check(const struct kafka_sender_options *options, struct error *err)
{
    rd_kafka_t *handle = sender_make_handle(options, NULL, err);
    if (!handle)
        return -1;
    rd_kafka_destroy(handle);
    return 0;
}

struct kafka_sender *kafka_sender_open(
    struct event_base *base, const struct kafka_sender_options *options, struct error *err)
{
    struct kafka_sender *sender = memory_allocate(sizeof *sender);
    sender->magic = KAFKA_SENDER_MAGIC;
    sender->options = *options;
    sender->handle = sender_make_handle(options, sender, err);
    if (!sender->handle) {
        free(sender);
        return NULL;
    }
    rd_kafka_set_log_queue(sender->handle, NULL);
    sender->topic = rd_kafka_topic_new(sender->handle, options->settings->channel, NULL);
    if (!sender->topic) {
        error_set(err, -1, "Kafka topic '%s': %s", options->settings->channel,
            rd_kafka_err2str(rd_kafka_last_error()));
        kafka_sender_close(sender);
        return NULL;
    }
    if (kafka_watch_open(&sender->watch, base, rd_kafka_queue_get_main(sender->handle), sender_on_ready,
            sender, err) < 0) {
        kafka_sender_close(sender);
        return NULL;
    }
    return sender;
}

void kafka_sender_close(struct kafka_sender *sender)
{
    if (!sender)
        return;
    kafka_watch_close(&sender->watch);
    if (sender->topic)
        rd_kafka_topic_destroy(sender->topic);
    rd_kafka_destroy(sender->handle);
    sender->magic = 0;
    free(sender);
}
