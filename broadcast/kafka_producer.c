/*
 * A message's way:
 *
 *   send -> [not holding?] --yes--> librdkafka -> acknowledged (SENT)
 *                |no                    |given back unsent: topic unknown, no right, batch refused, fatal error, purge
 *                v                      v
 *              outbox  <---- in order of number ---- hold
 *                |
 *                '-- once nothing is in flight (and the retry timer, if set, has run out) --> librdkafka
 *
 * While holding, nothing new is handed to librdkafka, and nothing is sent again before all that was in flight has been reported:
 * so the outbox is complete and its order is the order of sending.
 *
 * Within librdkafka, idempotence keeps the order and drops duplicates as long as every batch gets through in the end. When the
 * broker refuses a batch for good, those behind it must not overtake: enable.gapless.guarantee makes that a fatal
 * error in librdkafka's sending thread, before anything else leaves, and the broker refuses what is already under way because its
 * sequence numbers don't follow. It can do so only once it has stored something of this producer, so the first message of
 * each handle goes alone ("proven" after its acknowledgement). After a fatal error a new handle takes over with what was not
 * acknowledged: in that one case a message may be in Kafka twice (never lost, never out of order).
 *
 * What is lost for other servers (the queue was full, Kafka refused it for another reason than its size) is made up for: once there is room
 * again (half of the queue) one message tells them to have their clients refetch. It stands in the topic behind everything that
 * waited, so what is fetched then is not older than the events that were lost.
 *
 * A refusal concerns a whole batch. Its messages are sent again one at a time ("alone"), so that only the one that is refused when it
 * is alone is given up.
 */
#include "broadcast/kafka_producer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "broadcast/kafka_config.h"
#include "broadcast/kafka_extra.h"
#include "broadcast/kafka_log.h"
#include "broadcast/kafka_outbox.h"
#include "broadcast/kafka_tokens.h"
#include "broadcast/kafka_watch.h"
#include "server/common/clock.h"
#include "server/common/memory.h"

#define KAFKA_PRODUCER_MAGIC      0x6b70726fu
#define KAFKA_PARTITION           0
#define KAFKA_RETRY_MS            500
#define KAFKA_MESSAGE_MIN_LIMIT   (1024 * 1024)
#define KAFKA_MESSAGE_SLACK       (512 * 1024) /* topic and envelope beside the event's data */
#define KAFKA_BATCH_BYTES         1000000 /* librdkafka's default, below Kafka's default limit of a topic */
#define KAFKA_LIBRDKAFKA_MAX_KB   2147483647LL
#define KAFKA_LIBRDKAFKA_MAX_SIZE 1000000000LL
#define KAFKA_RESYNC_APART        (10 * CLOCK_SECOND) /* between two calls for a resync */

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

static size_t kafka_producer_in_flight(const struct kafka_producer *producer)
{
    return producer->pending - producer->outbox.count;
}

static void kafka_producer_retry_later(struct kafka_producer *producer)
{
    double seconds = producer->renew && producer->handle ? 0 : KAFKA_RETRY_MS / 1000.0;
    if (producer->fatal) {
        seconds =
            producer->fatal_count > 1 ? producer->settings->reconnect_backoff_min : 0; /* at once at first */
        for (unsigned i = 2; i < producer->fatal_count && seconds < producer->settings->reconnect_backoff_max;
             i++)
            seconds *= 2;
        if (seconds > producer->settings->reconnect_backoff_max)
            seconds = producer->settings->reconnect_backoff_max;
    }
    struct timeval delay = {(time_t)seconds, (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6)};
    if (!event_pending(producer->retry, EV_TIMEOUT, NULL))
        event_add(producer->retry, &delay);
}

static void kafka_producer_hold(struct kafka_producer *producer, const char *reason)
{
    producer->holding = true;
    producer->hold_told = true;
    log_write_limited(&producer->limit_hold, LOG_WARNING, KAFKA_LOGGER,
        "Kafka does not take events now (%s): they wait here in order, %zu so far, room for %zu", reason,
        producer->pending, producer->settings->queue_max_messages);
    kafka_producer_retry_later(producer);
}

/* ---- what becomes of a message ---- */

/* Failures after which the same message may well be taken: of the topic or the connection, not of the message. */
static bool kafka_producer_may_retry(rd_kafka_resp_err_t code)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED: /* librdkafka then refuses all for this topic */
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
    case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
    case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS:
    case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND:
    case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
    case RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR:
    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
    case RD_KAFKA_RESP_ERR__PURGE_QUEUE:
    case RD_KAFKA_RESP_ERR__PURGE_INFLIGHT:
    case RD_KAFKA_RESP_ERR__QUEUE_FULL:
    case RD_KAFKA_RESP_ERR__RETRY:
    case RD_KAFKA_RESP_ERR__FATAL:
    case RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE:
    case RD_KAFKA_RESP_ERR__INCONSISTENT:
    case RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER:
    case RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID:
    case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
    case RD_KAFKA_RESP_ERR_PRODUCER_FENCED:
        return true;
    default:
        return false;
    }
}

static bool kafka_producer_is_size(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || code == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE;
}

static void kafka_producer_forget(struct kafka_producer *producer, size_t length)
{
    producer->pending--;
    producer->pending_bytes -= length;
}

/* Tells whoever asks after the message. */
static void kafka_producer_tell(struct kafka_producer *producer, uint64_t number, bool ok)
{
    uint64_t token = producer->tokens.count ? kafka_tokens_take(&producer->tokens, number) : 0;
    if (token && producer->callbacks->acknowledged)
        producer->callbacks->acknowledged(producer->context, token, ok);
}

static void kafka_producer_give_up(
    struct kafka_producer *producer, uint64_t number, rd_kafka_resp_err_t code, size_t length)
{
    kafka_producer_forget(producer, length);
    kafka_producer_tell(producer, number, false);
    producer->lost++;
    if (kafka_producer_is_size(code)) {
        producer->callbacks->count(producer->context, BROADCAST_COUNT_TOO_LARGE, 1);
        log_write_limited(&producer->limit_large, LOG_ERROR, KAFKA_LOGGER,
            "Broadcast to backbone failed: the message of %zu bytes is larger than Kafka takes; other "
            "servers don't get this event, their clients will be asked to refetch (raise the topic's "
            "max.message.bytes, or lower OPAL_EVENT_MAX_BYTES)",
            length);
    } else {
        producer->callbacks->count(producer->context, BROADCAST_COUNT_SEND_FAILED, 1);
        log_write_limited(&producer->limit_failed, LOG_ERROR, KAFKA_LOGGER,
            "Broadcast to backbone failed (%s: %s): other servers don't get this event",
            rd_kafka_err2name(code), rd_kafka_err2str(code));
    }
}

/* A message that librdkafka did not send. */
static void kafka_producer_take_back(
    struct kafka_producer *producer, uint64_t number, struct slice message, rd_kafka_resp_err_t code)
{
    if (!kafka_producer_may_retry(code)) {
        if (producer->alone) {
            kafka_producer_give_up(producer, number, code, message.length);
            return;
        }
        if (number > producer->alone_until)
            producer->alone_until = number;
    }
    kafka_outbox_put(&producer->outbox, number, message);
    kafka_producer_hold(producer, rd_kafka_err2str(code));
}

static void kafka_producer_on_report(rd_kafka_t *handle, const rd_kafka_message_t *message, void *opaque)
{
    struct kafka_producer *producer = opaque;
    uint64_t number = (uint64_t)(uintptr_t)message->_private;
    (void)handle;
    if (!message->err) {
        producer->sent++;
        producer->proven = true;
        producer->fatal_count = 0;
        kafka_producer_forget(producer, message->len);
        kafka_producer_tell(producer, number, true);
        return;
    }
    kafka_producer_take_back(producer, number, (struct slice){message->payload, message->len}, message->err);
}

/* Whether the message with this number must wait until nothing else is in flight. */
static bool kafka_producer_must_wait(const struct kafka_producer *producer, uint64_t number)
{
    return kafka_producer_in_flight(producer) > 0 &&
           (producer->alone || !producer->proven || number <= producer->alone_until);
}

/* 0, or why librdkafka didn't take it. Not to be called for one that must wait. */
static rd_kafka_resp_err_t kafka_producer_hand_over(
    struct kafka_producer *producer, uint64_t number, struct slice message)
{
    if (producer->fatal || !producer->handle)
        return RD_KAFKA_RESP_ERR__FATAL;
    producer->alone = !producer->proven || number <= producer->alone_until;
    /* RD_KAFKA_MSG_F_COPY: librdkafka keeps a copy; the payload isn't written to. */
    if (rd_kafka_produce(producer->topic, KAFKA_PARTITION, RD_KAFKA_MSG_F_COPY,
            (void *)(uintptr_t)message.data, message.length, NULL, 0, (void *)(uintptr_t)number) == 0)
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    return rd_kafka_last_error();
}

int kafka_producer_send(struct kafka_producer *producer, struct slice message, uint64_t token)
{
    if (producer->pending >= producer->settings->queue_max_messages ||
        producer->pending_bytes + message.length > producer->settings->queue_max_bytes) {
        producer->lost++;
        producer->callbacks->count(producer->context, BROADCAST_COUNT_SEND_FAILED, 1);
        log_write_limited(&producer->limit_full, LOG_ERROR, KAFKA_LOGGER,
            "Broadcast to backbone failed: %zu events (%zu bytes) wait for Kafka already; other servers "
            "don't get this "
            "event; their clients will be asked to refetch",
            producer->pending, producer->pending_bytes);
        errno = ENOBUFS;
        return -1;
    }
    uint64_t number = producer->next_number++;
    bool wait =
        producer->holding || kafka_producer_must_wait(producer, number); /* before it is counted itself */
    producer->pending++;
    producer->pending_bytes += message.length;
    if (wait) {
        producer->holding = true;
        kafka_outbox_put(&producer->outbox, number, message);
        kafka_tokens_put(&producer->tokens, number, token);
        return 0;
    }
    rd_kafka_resp_err_t code = kafka_producer_hand_over(producer, number, message);
    if (kafka_producer_is_size(code)) { /* librdkafka's own limit: of the message, not of a batch */
        kafka_producer_give_up(producer, number, code, message.length);
        event_active(producer->resync, EV_TIMEOUT, 0); /* perhaps nothing else is under way that would */
        errno = EMSGSIZE;
        return -1;
    }
    kafka_tokens_put(&producer->tokens, number, token);
    if (code)
        kafka_producer_take_back(producer, number, message, code);
    return 0;
}

/* ---- sending again ---- */

/* Call with nothing in flight. */
static void kafka_producer_drain(struct kafka_producer *producer)
{
    struct kafka_outbox_item *item;
    while ((item = kafka_outbox_first(&producer->outbox))) {
        struct slice message = {item->bytes, item->length};
        if (kafka_producer_must_wait(producer, item->number))
            return; /* the end of that turn brings us back */
        rd_kafka_resp_err_t code = kafka_producer_hand_over(producer, item->number, message);
        if (code && kafka_producer_may_retry(code)) {
            kafka_producer_hold(producer, rd_kafka_err2str(code));
            return;
        }
        size_t length = item->length;
        uint64_t number = item->number;
        kafka_outbox_drop_first(&producer->outbox);
        if (code) /* refused here, before any batch */
            kafka_producer_give_up(producer, number, code, length);
    }
    producer->holding = false;
    if (producer->hold_told)
        log_write(LOG_INFO, KAFKA_LOGGER, "Kafka takes events again: those that waited are on their way");
    producer->hold_told = false;
}

static int kafka_producer_start(struct kafka_producer *producer, struct error *err);

static void kafka_producer_stop(struct kafka_producer *producer)
{
    kafka_watch_close(&producer->watch);
    if (producer->topic)
        rd_kafka_topic_destroy(producer->topic);
    producer->topic = NULL;
    if (producer->handle)
        rd_kafka_destroy(producer->handle);
    producer->handle = NULL;
}

/* Sends what waits, with a new handle if need be. Not from a callback of librdkafka: it may destroy the handle. */
static void kafka_producer_go_on(struct kafka_producer *producer)
{
    if (!producer->holding || kafka_producer_in_flight(producer))
        return; /* the end of the turn that reports the last one takes over */
    if (producer->fatal || producer->renew) {
        struct error err = {0};
        bool after_error = producer->fatal;
        /* Nothing is in flight, so its threads have nothing to wait for and end at once. */
        kafka_producer_stop(producer);
        if (kafka_producer_start(producer, &err) < 0) {
            log_write_limited(&producer->limit_fatal, LOG_ERROR, KAFKA_LOGGER,
                "Kafka producer can't be made anew: %s", err.text);
            producer->fatal = true;
            producer->fatal_count++;
            kafka_producer_retry_later(producer);
            return;
        }
        producer->fatal = producer->renew = false;
        producer->proven = false;
        if (after_error)
            log_write_limited(&producer->limit_fatal, LOG_WARNING, KAFKA_LOGGER,
                "Kafka producer made anew: sending %zu events that were not acknowledged, in order (some may "
                "be "
                "in Kafka "
                "twice)",
                producer->outbox.count);
    }
    kafka_producer_drain(producer);
}

/* Not from a callback of librdkafka. */
static void kafka_producer_call_for_resync(struct kafka_producer *producer)
{
    uint64_t now = clock_monotonic_ns();
    uint64_t lost = producer->lost;
    struct text reason = {0};
    struct text message = {0};
    if (!lost || producer->pending > producer->settings->queue_max_messages / 2 ||
        producer->pending_bytes > producer->settings->queue_max_bytes / 2)
        return;
    if (producer->resync_ns && now - producer->resync_ns < KAFKA_RESYNC_APART) {
        uint64_t rest_us = (KAFKA_RESYNC_APART - (now - producer->resync_ns)) / 1000 + 1;
        struct timeval rest = {(time_t)(rest_us / 1000000), (suseconds_t)(rest_us % 1000000)};
        if (!event_pending(producer->resync, EV_TIMEOUT, NULL))
            event_add(producer->resync, &rest);
        return;
    }
    producer->resync_ns = now;
    producer->lost = 0;
    text_append_format(&reason, "%" PRIu64 " events could not be sent to Kafka", lost);
    notification_encode_resync(
        &message, slice_from_string(producer->settings->notifier_id), text_slice(&reason));
    if (kafka_producer_send(producer, text_slice(&message), 0) == 0)
        log_write(LOG_WARNING, KAFKA_LOGGER, "%s: other servers are told to have their clients refetch",
            reason.data);
    else
        producer->lost += lost; /* and one more that was counted, as it should */
    text_free(&reason);
    text_free(&message);
}

static void kafka_producer_on_resync(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    kafka_producer_call_for_resync(context);
}

static void kafka_producer_on_retry(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    kafka_producer_go_on(context);
    kafka_producer_call_for_resync(context);
}

static void kafka_producer_end_turn(struct kafka_producer *producer)
{
    if (producer->sent)
        producer->callbacks->count(producer->context, BROADCAST_COUNT_SENT, producer->sent);
    producer->sent = 0;
    kafka_producer_call_for_resync(producer);
    if (!producer->holding || kafka_producer_in_flight(producer) ||
        event_pending(producer->retry, EV_TIMEOUT, NULL))
        return;
    if (producer->fatal || producer->renew)
        kafka_producer_retry_later(producer);
    else
        kafka_producer_drain(producer);
}

void kafka_producer_limit_batches(struct kafka_producer *producer, uint64_t bytes)
{
    if (bytes >= producer->batch_bytes)
        return;
    producer->batch_bytes = bytes;
    producer->renew = true;
    producer->holding = true;
    kafka_producer_go_on(producer);
}

static void kafka_producer_on_ready(void *context)
{
    struct kafka_producer *producer = context;
    rd_kafka_poll(producer->handle, 0); /* everything that is there; the callbacks do the work */
    kafka_producer_end_turn(producer);
}

/* ---- librdkafka's callbacks, from rd_kafka_poll ---- */

static void kafka_producer_on_error(rd_kafka_t *handle, int code, const char *reason, void *opaque)
{
    struct kafka_producer *producer = opaque;
    if (code != RD_KAFKA_RESP_ERR__FATAL) {
        /* Connection trouble is in librdkafka's log lines, and the consumer tells the state. */
        log_write(LOG_DEBUG, KAFKA_LOGGER, "Kafka producer: %s: %s", rd_kafka_err2name(code), reason);
        return;
    }
    if (producer->fatal)
        return;
    char text[512];
    rd_kafka_resp_err_t cause = rd_kafka_fatal_error(handle, text, sizeof text);
    producer->fatal = true;
    producer->fatal_count++;
    log_write_limited(&producer->limit_error, LOG_ERROR, KAFKA_LOGGER,
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

static int kafka_producer_start(struct kafka_producer *producer, struct error *err)
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

struct kafka_producer *kafka_producer_open(struct event_base *base, const struct broadcast_settings *settings,
    const char *brokers, bool secure, const struct broadcast_callbacks *callbacks, void *context,
    struct error *err)
{
    struct kafka_producer *producer = memory_allocate(sizeof *producer);
    producer->magic = KAFKA_PRODUCER_MAGIC;
    producer->base = base;
    producer->settings = settings;
    producer->brokers = brokers;
    producer->secure = secure;
    producer->callbacks = callbacks;
    producer->context = context;
    producer->next_number = 1;
    producer->batch_bytes = KAFKA_BATCH_BYTES;
    kafka_outbox_init(&producer->outbox);
    kafka_tokens_init(&producer->tokens);
    producer->retry = event_new(base, -1, 0, kafka_producer_on_retry, producer);
    producer->resync = event_new(base, -1, 0, kafka_producer_on_resync, producer);
    if (!producer->retry || !producer->resync || kafka_producer_start(producer, err) < 0) {
        if (producer->retry)
            event_free(producer->retry);
        if (producer->resync)
            event_free(producer->resync);
        free(producer);
        return NULL;
    }
    return producer;
}

size_t kafka_producer_pending(const struct kafka_producer *producer)
{
    return producer->pending;
}

rd_kafka_t *kafka_producer_handle(struct kafka_producer *producer)
{
    return producer->handle;
}

size_t kafka_producer_close(struct kafka_producer *producer, int grace_ms)
{
    uint64_t end = clock_monotonic_ns() + (uint64_t)(grace_ms > 0 ? grace_ms : 0) * CLOCK_MILLISECOND;
    uint64_t now;
    producer->resync_ns = 0; /* the last call can't wait */
    if (grace_ms > 0)
        kafka_producer_call_for_resync(producer);
    while (producer->pending && (now = clock_monotonic_ns()) < end) {
        uint64_t left_ms = (end - now) / CLOCK_MILLISECOND + 1;
        kafka_producer_go_on(producer);
        if (!producer->handle)
            break;
        rd_kafka_poll(producer->handle, left_ms < 50 ? (int)left_ms : 50);
        kafka_producer_end_turn(producer);
    }
    size_t unsent = producer->pending;
    if (producer->handle && kafka_producer_in_flight(producer)) {
        rd_kafka_purge(producer->handle, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        rd_kafka_poll(producer->handle, 0);
        kafka_producer_end_turn(producer);
        /* What was acknowledged while it was being given up is not lost. */
        unsent = producer->pending < unsent ? producer->pending : unsent;
    }
    kafka_producer_stop(producer);
    event_free(producer->retry);
    event_free(producer->resync);
    kafka_outbox_clear(&producer->outbox);
    kafka_tokens_clear(&producer->tokens);
    producer->magic = 0;
    free(producer);
    return unsent;
}
