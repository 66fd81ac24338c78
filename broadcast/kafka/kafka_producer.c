/*
 * A message's way:
 *
 *   send -> [holding?] --no--> in flight (librdkafka) --> acknowledged (SENT)
 *             |yes               |given back: topic unknown, no right, batch refused, fatal error, purge
 *             v                  v
 *           waits  <---------- hold
 *             |
 *             '-- once nothing is in flight (and the retry timer, if set, has run out) --> in flight
 *
 * While holding, nothing new is handed to librdkafka, and nothing is sent again before all that was in flight
 * has been reported: so what waits (kafka_pending.h) is complete, and its order is the order of sending.
 *
 * Within librdkafka, idempotence keeps the order and drops duplicates as long as every batch gets through in
 * the end. When the broker refuses a batch for good, those behind it must not overtake:
 * enable.gapless.guarantee makes that a fatal error in librdkafka's sending thread, before anything else
 * leaves, and the broker refuses what is already under way because its sequence numbers don't follow. It can
 * do so only once it has stored something of this producer, so the first message of each sender goes alone
 * ("proven" after its acknowledgement). After a fatal error a new sender takes over with what was not
 * acknowledged: in that one case a message may be in Kafka twice (never lost, never out of order).
 *
 * What is lost for other servers (the queue was full, Kafka refused it) is made up for: once there is room
 * again (half of the queue) one message tells them to have their clients refetch. It stands in the topic
 * behind everything that waited, so what is fetched then is not older than the events that were lost.
 *
 * A refusal concerns a whole batch. Its messages are sent again one at a time ("alone"), so that only the one
 * that is refused when it is alone is given up.
 */
#include "broadcast/kafka/kafka_producer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "broadcast/kafka/kafka_pending.h"
#include "broadcast/kafka/kafka_send_error.h"
#include "broadcast/kafka/kafka_sender.h"
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"

#define KAFKA_PRODUCER_MAGIC 0x6b70726fu
#define KAFKA_RETRY_MS       500
/* Between two calls for a resync. */
#define KAFKA_RESYNC_APART (10 * CLOCK_SECOND)

struct kafka_producer {
    uint32_t magic;
    struct event_base *base;
    const struct broadcast_settings *settings;
    const char *brokers;
    bool secure;
    const struct broadcast_callbacks *callbacks;
    void *context;
    /* NULL when it could not be made again. */
    struct kafka_sender *sender;
    struct kafka_pending pending;
    uint64_t next_number;
    struct event *retry;
    /* Runs when it is too early for the next call for a resync; the last call, and the events that others
     * don't get since. */
    struct event *resync;
    uint64_t resync_ns;
    uint64_t lost;
    bool holding;
    /* In the log, with a reason. */
    bool hold_told;
    /* The broker has acknowledged something of this sender. */
    bool proven;
    /* The message in flight was sent alone; so is each up to this number, the last message of a refused
     * batch. */
    bool alone;
    uint64_t alone_until;
    /* The sender is of no more use; how often in a row, which grows the wait before the next one. */
    bool fatal;
    unsigned fatal_count;
    /* The sender makes batches that are too large, larger than this. */
    bool renew;
    uint64_t batch_bytes;
    /* A quota delayed an answer; NULL: nobody asks. */
    void (*throttled)(void *owner, const char *broker, int delay_ms);
    void *throttle_owner;
    /* The last answer was that this user may not write. */
    bool refused;
    /* Acknowledged in this turn, reported together. */
    uint64_t sent;
    struct log_limiter limit_full;
    struct log_limiter limit_large;
    struct log_limiter limit_failed;
    struct log_limiter limit_hold;
    struct log_limiter limit_fatal;
};

/* ---- holding ---- */

static void producer_retry_later(struct kafka_producer *producer)
{
    double seconds = producer->renew && producer->sender ? 0 : KAFKA_RETRY_MS / 1000.0;
    if (producer->fatal) {
        /* at once at first */
        seconds = producer->fatal_count > 1 ? producer->settings->reconnect_backoff_min : 0;
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

/* Nothing more goes to librdkafka until all in flight is reported; `reason` for the log. */
static void producer_hold(struct kafka_producer *producer, const char *reason)
{
    producer->holding = true;
    producer->hold_told = true;
    log_write_limited(&producer->limit_hold, LOG_WARNING, LOGGER_BROADCAST,
        "Kafka does not take events now (%s): they wait here in order, %zu so far, room for %zu", reason,
        producer->pending.count, producer->settings->queue_max_messages);
    producer_retry_later(producer);
}

/* ---- what becomes of a message ---- */

/* The message is done. */
static void producer_finish(struct kafka_producer *producer, struct kafka_pending_item *item, bool ok)
{
    uint64_t token = item->token;
    kafka_pending_remove(&producer->pending, item);
    if (token && producer->callbacks->acknowledged)
        producer->callbacks->acknowledged(producer->context, token, ok);
}

/* Counts, logs and reports; the other servers are asked to refetch later. */
static void producer_give_up(
    struct kafka_producer *producer, struct kafka_pending_item *item, rd_kafka_resp_err_t code)
{
    size_t length = item->length;
    producer_finish(producer, item, false);
    producer->lost++;
    if (kafka_send_error_is_size(code)) {
        producer->callbacks->count(producer->context, BROADCAST_COUNT_TOO_LARGE, 1);
        log_write_limited(&producer->limit_large, LOG_ERROR, LOGGER_BROADCAST,
            "Broadcast to backbone failed: the message of %zu bytes is larger than Kafka takes; other "
            "servers don't get this event, their clients will be asked to refetch (raise the topic's "
            "max.message.bytes, or lower OPAL_EVENT_MAX_BYTES)",
            length);
    } else {
        producer->callbacks->count(producer->context, BROADCAST_COUNT_SEND_FAILED, 1);
        log_write_limited(&producer->limit_failed, LOG_ERROR, LOGGER_BROADCAST,
            "Broadcast to backbone failed (%s: %s): other servers don't get this event",
            rd_kafka_err2name(code), rd_kafka_err2str(code));
    }
}

/* A message that librdkafka did not send. */
static void producer_take_back(struct kafka_producer *producer, struct kafka_pending_item *item,
    struct slice message, rd_kafka_resp_err_t code)
{
    if (!kafka_send_error_is_passing(code)) {
        if (producer->alone) {
            producer_give_up(producer, item, code);
            return;
        }
        if (item->number > producer->alone_until)
            producer->alone_until = item->number;
    }
    kafka_pending_wait(&producer->pending, item, message);
    producer_hold(producer, rd_kafka_err2str(code));
}

static void producer_on_report(void *owner, void *opaque, rd_kafka_resp_err_t code, struct slice message)
{
    struct kafka_producer *producer = object_cast(struct kafka_producer, KAFKA_PRODUCER_MAGIC, owner);
    struct kafka_pending_item *item = object_cast(struct kafka_pending_item, KAFKA_PENDING_MAGIC, opaque);
    producer->refused = kafka_send_error_is_refusal(code);
    if (code) {
        producer_take_back(producer, item, message, code);
        return;
    }
    producer->sent++;
    producer->proven = true;
    producer->fatal_count = 0;
    producer_finish(producer, item, true);
}

static void producer_on_fatal(void *owner, rd_kafka_resp_err_t code)
{
    struct kafka_producer *producer = object_cast(struct kafka_producer, KAFKA_PRODUCER_MAGIC, owner);
    producer->fatal = true;
    producer->fatal_count++;
    producer_hold(producer, rd_kafka_err2str(code));
}

static void producer_on_throttled(void *owner, const char *broker, int delay_ms)
{
    struct kafka_producer *producer = object_cast(struct kafka_producer, KAFKA_PRODUCER_MAGIC, owner);
    if (producer->throttled)
        producer->throttled(producer->throttle_owner, broker, delay_ms);
}

/* ---- sending ---- */

/* Whether the message with this number must wait until nothing else is in flight. */
static bool producer_must_wait(const struct kafka_producer *producer, uint64_t number)
{
    return kafka_pending_in_flight(&producer->pending) > 0 &&
           (producer->alone || !producer->proven || number <= producer->alone_until);
}

/* 0, or why librdkafka didn't take it. Not to be called for one that must wait. */
static rd_kafka_resp_err_t producer_hand_over(
    struct kafka_producer *producer, struct kafka_pending_item *item, struct slice message)
{
    if (producer->fatal || !producer->sender)
        return RD_KAFKA_RESP_ERR__FATAL;
    producer->alone = !producer->proven || item->number <= producer->alone_until;
    return kafka_sender_send(producer->sender, item, message);
}

static int producer_refuse_full(struct kafka_producer *producer)
{
    producer->lost++;
    producer->callbacks->count(producer->context, BROADCAST_COUNT_SEND_FAILED, 1);
    log_write_limited(&producer->limit_full, LOG_ERROR, LOGGER_BROADCAST,
        "Broadcast to backbone failed: %zu events (%zu bytes) wait for Kafka already; other servers don't "
        "get "
        "this event; their clients will be asked to refetch",
        producer->pending.count, producer->pending.bytes);
    errno = ENOBUFS;
    return -1;
}

int kafka_producer_send(struct kafka_producer *producer, struct slice message, uint64_t token)
{
    if (producer->pending.count >= producer->settings->queue_max_messages ||
        producer->pending.bytes + message.length > producer->settings->queue_max_bytes)
        return producer_refuse_full(producer);
    uint64_t number = producer->next_number++;
    /* Looked at before the message is counted itself. */
    bool wait = producer->holding || producer_must_wait(producer, number);
    struct kafka_pending_item *item =
        kafka_pending_add(&producer->pending, number, token, message.length, clock_monotonic_ns());
    if (wait) {
        producer->holding = true;
        kafka_pending_wait(&producer->pending, item, message);
        return 0;
    }
    rd_kafka_resp_err_t code = producer_hand_over(producer, item, message);
    if (kafka_send_error_is_size(code)) { /* librdkafka's own limit: of the message, not of a batch */
        item->token = 0;                  /* the caller gets the error instead */
        producer_give_up(producer, item, code);
        event_active(producer->resync, EV_TIMEOUT, 0); /* perhaps nothing else is under way that would */
        errno = EMSGSIZE;
        return -1;
    }
    if (code)
        producer_take_back(producer, item, message, code);
    return 0;
}

/* ---- sending again ---- */

/* Call with nothing in flight. */
static void producer_drain(struct kafka_producer *producer)
{
    struct kafka_pending_item *next;
    for (struct kafka_pending_item *item = kafka_pending_first(&producer->pending); item; item = next) {
        next = TAILQ_NEXT(item, link);
        if (producer_must_wait(producer, item->number))
            return; /* the end of that turn brings us back */
        rd_kafka_resp_err_t code =
            producer_hand_over(producer, item, (struct slice){item->bytes, item->length});
        if (code && kafka_send_error_is_passing(code)) {
            producer_hold(producer, rd_kafka_err2str(code));
            return;
        }
        if (code) /* refused here, before any batch */
            producer_give_up(producer, item, code);
        else
            kafka_pending_go(&producer->pending, item);
    }
    producer->holding = false;
    if (producer->hold_told)
        log_write(LOG_INFO, LOGGER_BROADCAST, "Kafka takes events again: those that waited are on their way");
    producer->hold_told = false;
}

/* ---- resync: others must hear that they don't get everything ---- */

/* Not from a report. */
static void producer_call_for_resync(struct kafka_producer *producer)
{
    uint64_t now = clock_monotonic_ns();
    uint64_t lost = producer->lost;
    struct text reason = {0};
    struct text message = {0};
    if (!lost || producer->pending.count > producer->settings->queue_max_messages / 2 ||
        producer->pending.bytes > producer->settings->queue_max_bytes / 2)
        return;
    if (producer->resync_ns && now - producer->resync_ns < KAFKA_RESYNC_APART) {
        struct timeval rest = clock_timeval_ns(KAFKA_RESYNC_APART - (now - producer->resync_ns) + 1000);
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

static void producer_on_resync(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    producer_call_for_resync(object_cast(struct kafka_producer, KAFKA_PRODUCER_MAGIC, context));
}

/* The reports that were there have been made. */
static void producer_on_idle(void *owner)
{
    struct kafka_producer *producer = object_cast(struct kafka_producer, KAFKA_PRODUCER_MAGIC, owner);
    if (producer->sent)
        producer->callbacks->count(producer->context, BROADCAST_COUNT_SENT, producer->sent);
    producer->sent = 0;
    producer_call_for_resync(producer);
    if (!producer->holding || kafka_pending_in_flight(&producer->pending) ||
        event_pending(producer->retry, EV_TIMEOUT, NULL))
        return;
    if (producer->fatal || producer->renew)
        producer_retry_later(producer);
    else
        producer_drain(producer);
}

/* ---- the sender ---- */

static int producer_open_sender(struct kafka_producer *producer, struct error *err)
{
    struct kafka_sender_options options = {.settings = producer->settings,
        .brokers = producer->brokers,
        .secure = producer->secure,
        .batch_bytes = producer->batch_bytes,
        .report = producer_on_report,
        .fatal = producer_on_fatal,
        .throttled = producer_on_throttled,
        .idle = producer_on_idle,
        .owner = producer};
    producer->sender = kafka_sender_open(producer->base, &options, err);
    return producer->sender ? 0 : -1;
}

/* Nothing is in flight, so the old sender's threads have nothing to wait for and end at once. */
static bool producer_replace_sender(struct kafka_producer *producer)
{
    struct error err = {0};
    bool after_error = producer->fatal;
    kafka_sender_close(producer->sender);
    if (producer_open_sender(producer, &err) < 0) {
        log_write_limited(&producer->limit_fatal, LOG_ERROR, LOGGER_BROADCAST,
            "A new Kafka producer can't be made: %s", err.text);
        producer->fatal = true;
        producer->fatal_count++;
        producer_retry_later(producer);
        return false;
    }
    producer->fatal = producer->renew = false;
    producer->proven = false;
    if (after_error)
        log_write_limited(&producer->limit_fatal, LOG_WARNING, LOGGER_BROADCAST,
            "A new Kafka producer sends %zu events that were not acknowledged, in order (some may be in "
            "Kafka "
            "twice)",
            producer->pending.count);
    return true;
}

/* Sends what waits, with a new sender if need be. Not from a report. */
static void producer_go_on(struct kafka_producer *producer)
{
    if (!producer->holding || kafka_pending_in_flight(&producer->pending))
        return; /* the end of the turn that reports the last one takes over */
    if ((producer->fatal || producer->renew) && !producer_replace_sender(producer))
        return;
    producer_drain(producer);
}

static void producer_on_retry(evutil_socket_t descriptor, short what, void *context)
{
    struct kafka_producer *producer = object_cast(struct kafka_producer, KAFKA_PRODUCER_MAGIC, context);
    (void)descriptor;
    (void)what;
    producer_go_on(producer);
    producer_call_for_resync(producer);
}

void kafka_producer_limit_batches(struct kafka_producer *producer, uint64_t bytes)
{
    if (bytes >= producer->batch_bytes)
        return;
    producer->batch_bytes = bytes;
    producer->renew = true;
    producer->holding = true;
    producer_go_on(producer);
}

/* ---- life cycle ---- */

static void producer_free(struct kafka_producer *producer)
{
    kafka_sender_close(producer->sender);
    if (producer->retry)
        event_free(producer->retry);
    if (producer->resync)
        event_free(producer->resync);
    kafka_pending_clear(&producer->pending);
    producer->magic = 0;
    free(producer);
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
    kafka_pending_init(&producer->pending);
    producer->retry = event_new(base, -1, 0, producer_on_retry, producer);
    producer->resync = event_new(base, -1, 0, producer_on_resync, producer);
    if (!producer->retry || !producer->resync || producer_open_sender(producer, err) < 0) {
        producer_free(producer);
        return NULL;
    }
    return producer;
}

int kafka_producer_check(const struct broadcast_settings *settings, bool secure, struct error *err)
{
    struct kafka_sender_options options = {
        .settings = settings, .secure = secure, .batch_bytes = KAFKA_BATCH_BYTES};
    return kafka_sender_check(&options, err);
}

void kafka_producer_on_throttle(struct kafka_producer *producer,
    void (*throttled)(void *owner, const char *broker, int delay_ms), void *owner)
{
    producer->throttled = throttled;
    producer->throttle_owner = owner;
}

size_t kafka_producer_pending(const struct kafka_producer *producer)
{
    return producer->pending.count;
}

uint64_t kafka_producer_oldest_ns(const struct kafka_producer *producer)
{
    return kafka_pending_oldest_ns(&producer->pending);
}

bool kafka_producer_is_refused(const struct kafka_producer *producer)
{
    return producer->refused;
}

rd_kafka_t *kafka_producer_handle(const struct kafka_producer *producer)
{
    return kafka_sender_handle(producer->sender);
}

static void producer_flush(struct kafka_producer *producer, int grace_ms)
{
    uint64_t end = clock_monotonic_ns() + (uint64_t)(grace_ms > 0 ? grace_ms : 0) * CLOCK_MILLISECOND;
    uint64_t now;
    /* the last call can't wait */
    producer->resync_ns = 0;
    if (grace_ms > 0)
        producer_call_for_resync(producer);
    while (producer->pending.count && (now = clock_monotonic_ns()) < end) {
        uint64_t left_ms = (end - now) / CLOCK_MILLISECOND + 1;
        producer_go_on(producer);
        if (!producer->sender)
            break;
        kafka_sender_poll(producer->sender, left_ms < 50 ? (int)left_ms : 50);
    }
}

size_t kafka_producer_close(struct kafka_producer *producer, int grace_ms)
{
    producer_flush(producer, grace_ms);
    size_t unsent = producer->pending.count;
    if (producer->sender && kafka_pending_in_flight(&producer->pending)) {
        kafka_sender_purge(producer->sender);
        /* What was acknowledged while it was being given up is not lost. */
        unsent = producer->pending.count < unsent ? producer->pending.count : unsent;
    }
    producer_free(producer);
    return unsent;
}
