/* The producer's librdkafka object: its settings, its beginning and end, its errors. */
#include "broadcast/kafka/kafka_config.h"
#include "broadcast/kafka/kafka_extra.h"
#include "broadcast/kafka/kafka_producer_internal.h"
#include "shm/common/loggers.h"

#define KAFKA_MESSAGE_MIN_LIMIT   (1024 * 1024)
#define KAFKA_MESSAGE_SLACK       (512 * 1024) /* topic and envelope beside the event's data */
#define KAFKA_LIBRDKAFKA_MAX_KB   2147483647LL
#define KAFKA_LIBRDKAFKA_MAX_SIZE 1000000000LL

/* ---- librdkafka's callbacks, from rd_kafka_poll ---- */

static void kafka_producer_on_error(rd_kafka_t *handle, int code, const char *reason, void *opaque)
{
    struct kafka_producer *producer = opaque;
    if (code != RD_KAFKA_RESP_ERR__FATAL) {
        /* Connection trouble is in librdkafka's log lines, and the consumer tells the state. */
        log_write(LOG_DEBUG, LOGGER_BROADCAST, "Kafka producer: %s: %s", rd_kafka_err2name(code), reason);
        return;
    }
    if (producer->fatal)
        return;
    char text[512];
    rd_kafka_resp_err_t cause = rd_kafka_fatal_error(handle, text, sizeof text);
    producer->fatal = true;
    producer->fatal_count++;
    log_write_limited(&producer->limit_error, LOG_ERROR, LOGGER_BROADCAST,
        "Kafka producer: fatal error %s: %s; a new producer will send what is not acknowledged",
        rd_kafka_err2name(cause), text);
    kafka_producer_hold(producer, rd_kafka_err2str(cause));
    /* Everything comes back through reports, into the outbox. */
    rd_kafka_purge(
        handle, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
}

static void kafka_producer_on_log(const rd_kafka_t *handle, int level, const char *facility, const char *text)
{
    struct kafka_producer *producer = rd_kafka_opaque(handle);
    kafka_log_write(&producer->log, "producer", level, facility, text);
}

/* ---- life cycle ---- */

void kafka_producer_stop(struct kafka_producer *producer)
{
    kafka_watch_close(&producer->watch);
    if (producer->topic)
        rd_kafka_topic_destroy(producer->topic);
    producer->topic = NULL;
    if (producer->handle)
        rd_kafka_destroy(producer->handle);
    producer->handle = NULL;
}

static int kafka_producer_configure(struct kafka_producer *producer, rd_kafka_conf_t *conf, struct error *err)
{
    const struct broadcast_settings *settings = producer->settings;
    long long kilobytes = (long long)(settings->queue_max_bytes / 1024) + 1024;
    long long message = (long long)settings->event_max_bytes + KAFKA_MESSAGE_SLACK;
    if (message < KAFKA_MESSAGE_MIN_LIMIT)
        message = KAFKA_MESSAGE_MIN_LIMIT;
    if (message > KAFKA_LIBRDKAFKA_MAX_SIZE)
        message = KAFKA_LIBRDKAFKA_MAX_SIZE;
    if (kilobytes > KAFKA_LIBRDKAFKA_MAX_KB)
        kilobytes = KAFKA_LIBRDKAFKA_MAX_KB;
    if (kafka_config_apply_common(conf, settings, producer->brokers, producer->secure, err) < 0 ||
        kafka_config_set(conf, "enable.idempotence", "true", err) <
            0 || /* brings acks=all and endless retries */
        kafka_config_set(conf, "acks", "all", err) < 0 ||
        kafka_config_set(conf, "enable.gapless.guarantee", "true", err) < 0 ||
        kafka_config_set(conf, "retry.backoff.ms", "100", err) < 0 ||
        kafka_config_set(conf, "linger.ms", "0", err) < 0 ||
        kafka_config_set(conf, "message.timeout.ms", "0", err) <
            0 || /* for ever: the queue is bounded by us */
        kafka_config_set_number(conf, "message.max.bytes", message, err) < 0 ||
        kafka_config_set_number(conf, "batch.size", (long long)producer->batch_bytes, err) < 0 ||
        /* We count ourselves, the outbox included, so librdkafka's own bounds must not come first. */
        kafka_config_set_number(conf, "queue.buffering.max.kbytes", kilobytes, err) < 0 ||
        kafka_config_set(conf, "queue.buffering.max.messages", "0", err) < 0)
        return -1;
    if (kafka_extra_apply(conf, KAFKA_EXTRA_PRODUCER, settings->kafka_config, err) < 0)
        return -1;
    rd_kafka_conf_set_opaque(conf, producer);
    rd_kafka_conf_set_dr_msg_cb(conf, kafka_producer_on_report);
    rd_kafka_conf_set_error_cb(conf, kafka_producer_on_error);
    rd_kafka_conf_set_log_cb(conf, kafka_producer_on_log);
    return 0;
}

static rd_kafka_t *kafka_producer_make_handle(struct kafka_producer *producer, struct error *err)
{
    char reason[512] = "";
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (kafka_producer_configure(producer, conf, err) < 0) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    rd_kafka_t *handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof reason);
    if (!handle) {
        rd_kafka_conf_destroy(conf);
        error_set(err, -1, "Kafka producer: %s", reason);
    }
    return handle;
}

int kafka_producer_check(const struct broadcast_settings *settings, bool secure, struct error *err)
{
    struct kafka_producer producer = {.magic = KAFKA_PRODUCER_MAGIC,
        .settings = settings,
        .secure = secure,
        .batch_bytes = KAFKA_BATCH_BYTES};
    rd_kafka_t *handle = kafka_producer_make_handle(&producer, err);
    if (!handle)
        return -1;
    rd_kafka_destroy(handle);
    return 0;
}

int kafka_producer_start(struct kafka_producer *producer, struct error *err)
{
    producer->handle = kafka_producer_make_handle(producer, err);
    if (!producer->handle)
        return -1;
    rd_kafka_set_log_queue(producer->handle, NULL);
    producer->topic = rd_kafka_topic_new(producer->handle, producer->settings->channel, NULL);
    if (!producer->topic) {
        error_set(err, -1, "Kafka topic '%s': %s", producer->settings->channel,
            rd_kafka_err2str(rd_kafka_last_error()));
        kafka_producer_stop(producer);
        return -1;
    }
    if (kafka_watch_open(&producer->watch, producer->base, rd_kafka_queue_get_main(producer->handle),
            kafka_producer_on_ready, producer, err) < 0) {
        kafka_producer_stop(producer);
        return -1;
    }
    return 0;
}
