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
 * What is lost for other servers (the queue was full, Kafka refused it) is made up for: once there is room
 * again (half of the queue) one message tells them to have their clients refetch. It stands in the topic behind everything that
 * waited, so what is fetched then is not older than the events that were lost.
 *
 * A refusal concerns a whole batch. Its messages are sent again one at a time ("alone"), so that only the one that is refused when it
 * is alone is given up.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "broadcast/kafka/kafka_producer_internal.h"
#include "shm/common/clock.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"

#define KAFKA_PARTITION    0
#define KAFKA_RETRY_MS     500
#define KAFKA_RESYNC_APART (10 * CLOCK_SECOND) /* between two calls for a resync */

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
    struct timeval delay = clock_timeval(seconds);
    if (!event_pending(producer->retry, EV_TIMEOUT, NULL))
        event_add(producer->retry, &delay);
}

void kafka_producer_hold(struct kafka_producer *producer, const char *reason)
{
    producer->holding = true;
    producer->hold_told = true;
    log_write_limited(&producer->limit_hold, LOG_WARNING, LOGGER_BROADCAST,
        "Kafka does not take events now (%s): they wait here in order, %zu so far, room for %zu", reason,
        producer->pending, producer->settings->queue_max_messages);
    kafka_producer_retry_later(producer);
}

/* ---- sending ---- */

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
        log_write_limited(&producer->limit_full, LOG_ERROR, LOGGER_BROADCAST,
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
        log_write(LOG_INFO, LOGGER_BROADCAST, "Kafka takes events again: those that waited are on their way");
    producer->hold_told = false;
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
            log_write_limited(&producer->limit_fatal, LOG_ERROR, LOGGER_BROADCAST,
                "Kafka producer can't be made anew: %s", err.text);
            producer->fatal = true;
            producer->fatal_count++;
            kafka_producer_retry_later(producer);
            return;
        }
        producer->fatal = producer->renew = false;
        producer->proven = false;
        if (after_error)
            log_write_limited(&producer->limit_fatal, LOG_WARNING, LOGGER_BROADCAST,
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
        log_write(LOG_WARNING, LOGGER_BROADCAST, "%s: other servers are told to have their clients refetch",
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

void kafka_producer_on_ready(void *context)
{
    struct kafka_producer *producer = context;
    rd_kafka_poll(producer->handle, 0); /* everything that is there; the callbacks do the work */
    kafka_producer_end_turn(producer);
}

/* ---- life cycle ---- */

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
