/*
 * The life of the consumer, and how the state that the master sees comes about:
 *
 *   open --> no word about the topic yet --.--> topic is there: read every partition from its END
 *                                          '--> topic is not there: ask again each KAFKA_POKE_MS; when it comes, read from
 *                                               its BEGINNING (nothing of it can have been heard before)
 *   UP      every partition's starting offset is known and its broker is connected. An end offset is known by the first
 *           message or by "end of partition at offset N"; nothing later than that can be missed.
 *   GAP     was UP; no broker, or the topic is gone. librdkafka keeps the next offset in memory and goes on there, so what
 *           was written meanwhile is read then: no `gap` callback.
 *   `gap`   only when events may be lost: the offset is no longer in the log (auto.offset.reset=error shows it), or the topic
 *           was made anew. It is called once the new starting offset is known, so that what clients refetch on it can't be
 *           older than what we read.
 *
 * How the topic's partitions are known without blocking: rd_kafka_metadata() with a time-out of 0 sends the request and returns; the
 * answer updates librdkafka's view, which its statistics event (each KAFKA_STATISTICS_MS) shows. See kafka_stats.h.
 *
 * The low-level consumer interface is used because the high-level one needs a group, and rights on it.
 */
#include "broadcast/kafka_consumer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broadcast/kafka_admin.h"
#include "broadcast/kafka_config.h"
#include "broadcast/kafka_extra.h"
#include "broadcast/kafka_log.h"
#include "broadcast/kafka_resync.h"
#include "broadcast/kafka_stats.h"
#include "broadcast/kafka_watch.h"
#include "server/common/clock.h"
#include "server/common/memory.h"

#define KAFKA_CONSUMER_MAGIC 0x6b636f6eu
#define KAFKA_BATCH          256 /* messages a turn of the loop */
#define KAFKA_POKE_MS        200 /* between questions for a topic that is not there */
#define KAFKA_STATISTICS_MS  400
#define KAFKA_DOWN_REPORTS   5 /* statistics in a row without a leader's connection: an outage (2 s) */
#define KAFKA_MISSING_NS \
    (3 * CLOCK_SECOND) /* a broker that just started denies topics that it has for a moment */
#define KAFKA_CLOCK_SKEW_MS 60000
#define KAFKA_MESSAGE_SLACK (512 * 1024) /* topics and envelope beside the event's data */

struct kafka_partition {
    int64_t next_offset;
    int64_t not_before_ms; /* started at the beginning: older messages are history; 0: no check */
    uint64_t lost_ns;      /* when its offset was found to be lost; 0: it is not */
    const char *lost_why;
    bool known; /* where reading starts */
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
    int32_t partition_count;
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

/* ---- state ---- */

static const char *kafka_consumer_gap_reason(const struct kafka_consumer *consumer)
{
    if (consumer->missing_told)
        return "Kafka has no such topic any more";
    if (!consumer->connected)
        return "no connection to the broker that leads it; what others send is read later, from where we "
               "stopped";
    return "looking up where to go on reading";
}

static void kafka_consumer_set_state(struct kafka_consumer *consumer, enum broadcast_state state)
{
    enum broadcast_state old = consumer->state;
    uint64_t now = clock_monotonic_ns();
    if (old == state || old == BROADCAST_LOST)
        return;
    consumer->state = state;
    if (state == BROADCAST_GAP) {
        consumer->gap_since_ns = now;
        log_write(LOG_WARNING, KAFKA_LOGGER,
            "Broadcaster lost channel '%s': %s; events to send wait meanwhile", consumer->settings->channel,
            kafka_consumer_gap_reason(consumer));
    } else if (state == BROADCAST_LOST) {
        log_write(LOG_ERROR, KAFKA_LOGGER, BROADCAST_GIVING_UP,
            (unsigned)consumer->settings->reconnect_max_retries);
    } else if (old == BROADCAST_GAP) {
        log_write(LOG_INFO, KAFKA_LOGGER, "Broadcaster listener connected to channel '%s' again after %.1f s",
            consumer->settings->channel, (double)(now - consumer->gap_since_ns) / (double)CLOCK_SECOND);
        consumer->callbacks->count(consumer->context, BROADCAST_COUNT_RECONNECT, 1);
    } else {
        log_write(LOG_INFO, KAFKA_LOGGER, "Broadcaster listener connected to channel '%s'",
            consumer->settings->channel);
    }
    if (state == BROADCAST_UP)
        kafka_admin_learn_limit(consumer->admin);
    consumer->callbacks->state(consumer->context, state);
}

/* The state's receiver asks for the limit each time. */
static void kafka_consumer_on_limit(void *context)
{
    struct kafka_consumer *consumer = context;
    if (consumer->limit_known)
        consumer->limit_known(consumer->owner, kafka_admin_message_max(consumer->admin));
    consumer->callbacks->state(consumer->context, consumer->state);
}

static void kafka_consumer_update_state(struct kafka_consumer *consumer)
{
    bool up = consumer->connected && consumer->partition_count > 0;
    for (int32_t i = 0; i < consumer->partition_count; i++)
        up = up && consumer->partitions[i].known;
    if (up)
        kafka_consumer_set_state(consumer, BROADCAST_UP);
    else if (consumer->state == BROADCAST_UP)
        kafka_consumer_set_state(consumer, BROADCAST_GAP);
}

/* The partition's reading starts at `offset`. */
static void kafka_consumer_note_start(
    struct kafka_consumer *consumer, struct kafka_partition *partition, int64_t offset)
{
    if (partition->known)
        return;
    partition->known = true;
    partition->next_offset = offset;
    if (partition->lost_ns) {
        uint64_t lost_ns = partition->lost_ns;
        partition->lost_ns = 0;
        consumer->callbacks->gap(consumer->context, clock_monotonic_ns() - lost_ns, partition->lost_why);
    }
    kafka_consumer_update_state(consumer);
}

/* ---- partitions ---- */

static void kafka_consumer_start_partition(struct kafka_consumer *consumer, int32_t number, int64_t offset)
{
    struct kafka_partition *partition = &consumer->partitions[number];
    partition->next_offset = 0;
    partition->known = false;
    if (rd_kafka_consume_start_queue(consumer->topic, number, offset, consumer->queue) < 0)
        log_write(LOG_ERROR, KAFKA_LOGGER, "Kafka consumer: can't read partition %" PRId32 " of '%s': %s",
            number, consumer->settings->channel, rd_kafka_err2str(rd_kafka_last_error()));
    if (offset == RD_KAFKA_OFFSET_BEGINNING && !partition->lost_ns)
        partition->known = true; /* nothing before it */
}

/* rd_kafka_consume_stop waits for librdkafka's own main thread, which does no network I/O: microseconds. What is still in the
 * queue of the old reading is dropped by librdkafka. */
static void kafka_consumer_restart_partition(struct kafka_consumer *consumer, int32_t number, int64_t offset)
{
    rd_kafka_consume_stop(consumer->topic, number);
    kafka_consumer_start_partition(consumer, number, offset);
}

/* `offset` as for librdkafka; `not_before_ms` guards a start at the beginning: see kafka_consumer_is_history. */
static void kafka_consumer_add_partitions(
    struct kafka_consumer *consumer, int32_t count, int64_t offset, int64_t not_before_ms)
{
    int32_t old = consumer->partition_count;
    consumer->partitions = memory_resize(consumer->partitions, (size_t)count * sizeof *consumer->partitions);
    consumer->partition_count = count;
    for (int32_t i = old; i < count; i++) {
        consumer->partitions[i] = (struct kafka_partition){.not_before_ms = not_before_ms};
        kafka_consumer_start_partition(consumer, i, offset);
    }
    if (count > 1)
        log_write(LOG_WARNING, KAFKA_LOGGER,
            "topic '%s' has %" PRId32 " partitions: order is kept only among the events of one partition. "
            "This server writes to partition 0 "
            "alone and reads all; servers that spread their events over partitions get no common order. One "
            "partition "
            "is right for this topic",
            consumer->settings->channel, count);
}

static int64_t kafka_consumer_wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The topic was gone long enough to be sure, and is back: its offsets mean nothing any more. */
static void kafka_consumer_start_anew(struct kafka_consumer *consumer, int32_t count, int64_t not_before_ms)
{
    uint64_t since = consumer->missing_since_ns ? consumer->missing_since_ns : clock_monotonic_ns();
    for (int32_t i = 0; i < consumer->partition_count; i++)
        rd_kafka_consume_stop(consumer->topic, i);
    consumer->partition_count = 0;
    log_write(LOG_WARNING, KAFKA_LOGGER,
        "topic '%s' was deleted and made anew: reading it from its beginning", consumer->settings->channel);
    kafka_consumer_add_partitions(consumer, count, RD_KAFKA_OFFSET_BEGINNING, not_before_ms);
    consumer->callbacks->gap(
        consumer->context, clock_monotonic_ns() - since, "the Kafka topic was deleted and made anew");
}

static void kafka_consumer_topic_there(struct kafka_consumer *consumer, int32_t count)
{
    bool was_missing = consumer->missing_since_ns != 0;
    bool long_missing = was_missing && clock_monotonic_ns() - consumer->missing_since_ns >= KAFKA_MISSING_NS;
    int64_t since_ms =
        was_missing ? consumer->missing_wall_ms : kafka_consumer_wall_ms() - KAFKA_CLOCK_SKEW_MS;
    int64_t not_before_ms = since_ms - KAFKA_CLOCK_SKEW_MS;
    if (consumer->partition_count == 0) {
        if (consumer->missing_told)
            log_write(LOG_INFO, KAFKA_LOGGER, "topic '%s' is there now", consumer->settings->channel);
        kafka_consumer_add_partitions(
            consumer, count, was_missing ? RD_KAFKA_OFFSET_BEGINNING : RD_KAFKA_OFFSET_END, not_before_ms);
    } else if (long_missing || count < consumer->partition_count) {
        kafka_consumer_start_anew(consumer, count, not_before_ms);
    } else if (count > consumer->partition_count) {
        kafka_consumer_add_partitions(consumer, count, RD_KAFKA_OFFSET_BEGINNING, not_before_ms);
    }
    consumer->missing_since_ns = 0;
    consumer->missing_told = false;
}

static void kafka_consumer_topic_missing(struct kafka_consumer *consumer)
{
    uint64_t now = clock_monotonic_ns();
    if (!consumer->missing_since_ns) {
        consumer->missing_since_ns = now;
        consumer->missing_wall_ms = kafka_consumer_wall_ms();
    }
    /* A broker that denies a topic in error answers that it exists already. */
    if (consumer->settings->kafka_create_topic)
        kafka_admin_create_topic(consumer->admin);
    if (now - consumer->missing_since_ns < KAFKA_MISSING_NS)
        return;
    consumer->connected = false;
    if (consumer->missing_told)
        return;
    consumer->missing_told = true;
    log_write(LOG_ERROR, KAFKA_LOGGER,
        "Kafka has no topic '%s' (or doesn't show it to this user), so no event gets to or from other "
        "servers. Make "
        "it with: kafka-topics.sh --bootstrap-server %s --create --topic %s --partitions 1",
        consumer->settings->channel, consumer->brokers, consumer->settings->channel);
}

static void kafka_consumer_on_poke(evutil_socket_t descriptor, short what, void *context)
{
    struct kafka_consumer *consumer = context;
    const struct rd_kafka_metadata *metadata = NULL;
    (void)descriptor;
    (void)what;
    if (consumer->partition_count && !consumer->missing_since_ns)
        return;
    /* A time-out of 0: the request goes out, nobody waits, the answer goes into librdkafka's own view. */
    if (rd_kafka_metadata(consumer->handle, 0, consumer->topic, &metadata, 0) == RD_KAFKA_RESP_ERR_NO_ERROR)
        rd_kafka_metadata_destroy(metadata);
}

/* ---- messages ---- */

static void kafka_consumer_reject(
    struct kafka_consumer *consumer, const rd_kafka_message_t *message, const char *reason)
{
    consumer->rejected++;
    log_write_limited(&consumer->limit_rejected, LOG_ERROR, KAFKA_LOGGER,
        "Failed handling incoming broadcast: %s (topic '%s', partition %" PRId32 ", offset %" PRId64
        ", %zu bytes): skipped",
        reason, consumer->settings->channel, message->partition, message->offset, message->len);
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
    log_write_limited(&consumer->limit_history, LOG_WARNING, KAFKA_LOGGER,
        "topic '%s', partition %" PRId32
        ": was reported missing but holds older events; those are skipped (offset %" PRId64 ")",
        consumer->settings->channel, message->partition, message->offset);
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
        consumer->callbacks->count(consumer->context, BROADCAST_COUNT_TOO_LARGE, 1);
        kafka_consumer_reject(consumer, message, "larger than this server's limit for an event");
        return true;
    }
    struct slice bytes = {message->payload, message->len};
    if (notification_decode(consumer->decoder, bytes, &notification, &reason) < 0) {
        kafka_consumer_reject(consumer, message, reason);
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
        consumer->callbacks->count(consumer->context, BROADCAST_COUNT_TOO_LARGE, 1);
        kafka_consumer_reject(consumer, message, "larger than this server's limit for an event");
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
        kafka_consumer_note_start(consumer, partition, message->offset);
        return;
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
        log_write(LOG_ERROR, KAFKA_LOGGER,
            "topic '%s', partition %" PRId32 ": offset %" PRId64
            " is not in Kafka's log any more (%s): going on at its end",
            consumer->settings->channel, message->partition, partition->next_offset,
            rd_kafka_message_errstr(message));
        partition->lost_ns = clock_monotonic_ns();
        partition->lost_why = "the place where we stopped is not in Kafka's log any more";
        kafka_consumer_restart_partition(consumer, message->partition, RD_KAFKA_OFFSET_END);
        kafka_consumer_update_state(consumer);
        return;
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
        return; /* the statistics tell when it lasts */
    default:
        log_write_limited(&consumer->limit_error, LOG_ERROR, KAFKA_LOGGER,
            "topic '%s', partition %" PRId32 ": %s: %s", consumer->settings->channel, message->partition,
            rd_kafka_err2name(message->err), rd_kafka_message_errstr(message));
    }
}

/* False when the message must be kept and offered again. */
static bool kafka_consumer_handle(struct kafka_consumer *consumer, const rd_kafka_message_t *message)
{
    if (message->partition < 0 || message->partition >= consumer->partition_count) {
        log_write_limited(&consumer->limit_error, LOG_ERROR, KAFKA_LOGGER, "Kafka consumer: %s",
            rd_kafka_message_errstr(message));
        return true;
    }
    struct kafka_partition *partition = &consumer->partitions[message->partition];
    if (message->err) {
        kafka_consumer_on_partition_error(consumer, partition, message);
        return true;
    }
    kafka_consumer_note_start(consumer, partition, message->offset);
    if (message->offset < partition->next_offset)
        return true; /* had it */
    if (!kafka_consumer_is_history(consumer, partition, message) &&
        !kafka_consumer_deliver(consumer, message))
        return false;
    partition->next_offset = message->offset + 1;
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

static void kafka_consumer_on_messages(void *context)
{
    struct kafka_consumer *consumer = context;
    unsigned budget = KAFKA_BATCH;
    if (consumer->paused)
        return; /* what is in the queue stays there; librdkafka stops fetching when it is full */
    while (budget) {
        rd_kafka_message_t *message = rd_kafka_consume_queue(consumer->queue, 0);
        if (!message)
            break;
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

/* ---- librdkafka's callbacks, from rd_kafka_poll ---- */

static int kafka_consumer_on_statistics(rd_kafka_t *handle, char *text, size_t length, void *opaque)
{
    struct kafka_consumer *consumer = opaque;
    struct kafka_stats stats;
    (void)handle;
    if (!kafka_stats_read(&consumer->statistics, text, length, consumer->settings->channel, &stats)) {
        log_write_limited(&consumer->limit_error, LOG_ERROR, KAFKA_LOGGER,
            "Kafka consumer: librdkafka's statistics can't be read: %zu bytes", length);
        return 0;
    }
    bool served = stats.brokers_up > 0 && stats.leaders_up;
    consumer->down_reports = served ? 0 : consumer->down_reports + 1;
    if (served)
        consumer->connected = true;
    else if (consumer->down_reports >= KAFKA_DOWN_REPORTS)
        consumer->connected = false;
    if (stats.topic_answered && stats.brokers_up > 0) {
        if (stats.partition_count > 0)
            kafka_consumer_topic_there(consumer, stats.partition_count);
        else
            kafka_consumer_topic_missing(consumer);
    }
    kafka_consumer_update_state(consumer);
    if (consumer->connected)
        consumer->connects = stats.connects;
    else if (consumer->settings->reconnect_max_retries &&
             stats.connects - consumer->connects >= consumer->settings->reconnect_max_retries)
        kafka_consumer_set_state(consumer, BROADCAST_LOST);
    if (consumer->state == BROADCAST_UP)
        kafka_admin_learn_limit(consumer->admin);
    return 0; /* librdkafka frees the text */
}

static void kafka_consumer_on_error(rd_kafka_t *handle, int code, const char *reason, void *opaque)
{
    struct kafka_consumer *consumer = opaque;
    (void)handle;
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        consumer->connected = false;
        consumer->down_reports = KAFKA_DOWN_REPORTS;
        kafka_consumer_update_state(consumer);
    } else if (code == RD_KAFKA_RESP_ERR__AUTHENTICATION || code == RD_KAFKA_RESP_ERR__SSL) {
        log_write_limited(&consumer->limit_error, LOG_ERROR, KAFKA_LOGGER, "Kafka refuses us: %s", reason);
    } else {
        log_write(LOG_DEBUG, KAFKA_LOGGER, "Kafka consumer: %s: %s", rd_kafka_err2name(code), reason);
    }
}

static void kafka_consumer_on_log(const rd_kafka_t *handle, int level, const char *facility, const char *text)
{
    struct kafka_consumer *consumer = rd_kafka_opaque(handle);
    kafka_log_write(&consumer->log, "consumer", level, facility, text);
}

static void kafka_consumer_on_main(void *context)
{
    struct kafka_consumer *consumer = context;
    rd_kafka_poll(consumer->handle, 0);
}

/* ---- life cycle ---- */

static int kafka_consumer_configure(struct kafka_consumer *consumer, rd_kafka_conf_t *conf,
    const struct kafka_consumer_options *options, struct error *err)
{
    static const struct {
        const char *name;
        const char *value;
    } fixed[] = {
        {"enable.partition.eof", "true"}, /* tells the end offset */
        {"auto.offset.reset", "error"},   /* a lost offset must be seen */
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"isolation.level", "read_uncommitted"}, /* as the reference */
        {"allow.auto.create.topics", "true"},    /* as the reference: the broker decides */
        {"topic.metadata.propagation.max.ms",
            "0"}, /* we judge ourselves how long a missing topic may be an error */
        {"fetch.min.bytes", "1"},
        {"fetch.error.backoff.ms", "50"},
    };
    const struct broadcast_settings *settings = consumer->settings;
    long long most = (long long)settings->event_max_bytes + KAFKA_MESSAGE_SLACK;
    long long queue_kb = most * 4 / 1024 > 16384 ? most * 4 / 1024 : 16384;
    if (kafka_config_apply_common(conf, settings, options->brokers, options->secure, err) < 0)
        return -1;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (kafka_config_set(conf, fixed[i].name, fixed[i].value, err) < 0)
            return -1;
    if (kafka_config_set_number(conf, "fetch.wait.max.ms", options->fetch_wait_ms, err) < 0 ||
        kafka_config_set_number(conf, "statistics.interval.ms", KAFKA_STATISTICS_MS, err) < 0 ||
        /* What waits here while the ring is full; Kafka keeps the rest. */
        kafka_config_set_number(
            conf, "queued.max.messages.kbytes", queue_kb > 2097151 ? 2097151 : queue_kb, err) < 0 ||
        kafka_config_set_number(conf, "fetch.message.max.bytes", most > 1000000000 ? 1000000000 : most, err) <
            0)
        return -1;
    if (kafka_extra_apply(conf, KAFKA_EXTRA_CONSUMER, settings->kafka_config, err) < 0)
        return -1;
    rd_kafka_conf_set_opaque(conf, consumer);
    rd_kafka_conf_set_stats_cb(conf, kafka_consumer_on_statistics);
    rd_kafka_conf_set_error_cb(conf, kafka_consumer_on_error);
    rd_kafka_conf_set_log_cb(conf, kafka_consumer_on_log);
    return 0;
}

static rd_kafka_t *kafka_consumer_make_handle(
    struct kafka_consumer *consumer, const struct kafka_consumer_options *options, struct error *err)
{
    char reason[512] = "";
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (kafka_consumer_configure(consumer, conf, options, err) < 0) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    rd_kafka_t *handle = rd_kafka_new(RD_KAFKA_CONSUMER, conf, reason, sizeof reason);
    if (!handle) {
        rd_kafka_conf_destroy(conf);
        error_set(err, -1, "Kafka consumer: %s", reason);
    }
    return handle;
}

int kafka_consumer_check(const struct broadcast_settings *settings,
    const struct kafka_consumer_options *options, struct error *err)
{
    struct kafka_consumer consumer = {.magic = KAFKA_CONSUMER_MAGIC, .settings = settings};
    rd_kafka_t *handle = kafka_consumer_make_handle(&consumer, options, err);
    if (!handle)
        return -1;
    rd_kafka_destroy(handle);
    return 0;
}

static int kafka_consumer_start(struct kafka_consumer *consumer, struct event_base *base,
    const struct kafka_consumer_options *options, struct error *err)
{
    struct timeval poke = {0, KAFKA_POKE_MS * 1000};
    consumer->handle = kafka_consumer_make_handle(consumer, options, err);
    if (!consumer->handle)
        return -1;
    consumer->admin = kafka_admin_open(
        base, consumer->handle, consumer->settings->channel, kafka_consumer_on_limit, consumer, err);
    if (!consumer->admin)
        return -1;
    consumer->resync = kafka_resync_open(base, consumer->callbacks, consumer->context);
    if (!consumer->resync)
        return error_set(err, -1, "Kafka consumer: the event loop takes no more events");
    rd_kafka_set_log_queue(consumer->handle, NULL);
    consumer->topic = rd_kafka_topic_new(consumer->handle, consumer->settings->channel, NULL);
    if (!consumer->topic)
        return error_set(err, -1, "Kafka topic '%s': %s", consumer->settings->channel,
            rd_kafka_err2str(rd_kafka_last_error()));
    consumer->queue = rd_kafka_queue_new(consumer->handle);
    consumer->poke = event_new(base, -1, EV_PERSIST, kafka_consumer_on_poke, consumer);
    if (!consumer->poke || event_add(consumer->poke, &poke) < 0)
        return error_set(err, -1, "Kafka consumer: the event loop takes no more events");
    if (kafka_watch_open(
            &consumer->messages, base, consumer->queue, kafka_consumer_on_messages, consumer, err) < 0)
        return -1;
    return kafka_watch_open(&consumer->main, base, rd_kafka_queue_get_main(consumer->handle),
        kafka_consumer_on_main, consumer, err);
}

struct kafka_consumer *kafka_consumer_open(struct event_base *base, const struct broadcast_settings *settings,
    const struct kafka_consumer_options *options, const struct broadcast_callbacks *callbacks, void *context,
    struct error *err)
{
    struct kafka_consumer *consumer = memory_allocate(sizeof *consumer);
    consumer->magic = KAFKA_CONSUMER_MAGIC;
    consumer->settings = settings;
    consumer->callbacks = callbacks;
    consumer->context = context;
    consumer->brokers = options->brokers;
    consumer->limit_known = options->limit_known;
    consumer->owner = options->owner;
    consumer->state = BROADCAST_CONNECTING;
    consumer->decoder = notification_decoder_make(settings->json_max_depth);
    if (kafka_consumer_start(consumer, base, options, err) < 0) {
        kafka_consumer_close(consumer);
        return NULL;
    }
    return consumer;
}

uint64_t kafka_consumer_message_max(const struct kafka_consumer *consumer)
{
    return kafka_admin_message_max(consumer->admin);
}

void kafka_consumer_close(struct kafka_consumer *consumer)
{
    if (consumer->held)
        rd_kafka_message_destroy(consumer->held);
    for (int32_t i = 0; i < consumer->partition_count; i++)
        rd_kafka_consume_stop(consumer->topic, i);
    kafka_watch_close(&consumer->messages);
    kafka_watch_close(&consumer->main);
    kafka_admin_close(consumer->admin);
    kafka_resync_close(consumer->resync);
    if (consumer->poke)
        event_free(consumer->poke);
    if (consumer->topic)
        rd_kafka_topic_destroy(consumer->topic);
    if (consumer->handle)
        rd_kafka_destroy(consumer->handle);
    notification_decoder_free(consumer->decoder);
    json_free(&consumer->statistics);
    free(consumer->partitions);
    consumer->magic = 0;
    free(consumer);
}
