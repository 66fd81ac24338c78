/*
 * The life of the consumer, and how the state that the master sees comes about:
 *
 *   open --> no word about the topic yet --.--> topic is there: read every partition from its END
 *                                          '--> topic is not there: ask again each KAFKA_POKE_MS
 *   UP      every partition's position is known and its broker is connected. An end offset is known by the
 *           first message or by "end of partition at offset N"; nothing later than that can be missed.
 *   GAP     was UP; no broker, or the topic is gone. librdkafka keeps the next offset in memory and goes on
 *           there, so what was written meanwhile is read then: no `gap` callback.
 *   `gap`   only when events may be lost: kafka_identity.h decides. It is called once the log's end is known,
 *           so that what clients refetch can't be older than what is read next.
 *
 * How the topic's partitions are known without blocking: rd_kafka_metadata() with a timeout of 0 sends the
 * request and returns; the answer updates librdkafka's view, which its statistics event (each
 * KAFKA_STATISTICS_MS) shows. See kafka_stats.h.
 */
#include "broadcast/kafka/kafka_consumer.h"

#include <stdlib.h>

#include "broadcast/kafka/kafka_admin.h"
#include "broadcast/kafka/kafka_config.h"
#include "broadcast/kafka/kafka_delivery.h"
#include "broadcast/kafka/kafka_extra.h"
#include "broadcast/kafka/kafka_health.h"
#include "broadcast/kafka/kafka_log.h"
#include "broadcast/kafka/kafka_reader.h"
#include "broadcast/kafka/kafka_stats.h"
#include "broadcast/kafka/kafka_watch.h"
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"

#define KAFKA_CONSUMER_MAGIC 0x6b636f6eu
/* Between questions for a topic that is not there. */
#define KAFKA_POKE_MS       200
#define KAFKA_STATISTICS_MS 400
/* Statistics in a row without a leader's connection: an outage (2 s). */
#define KAFKA_DOWN_REPORTS 5
/* A broker that just started denies topics that it has for a moment. */
#define KAFKA_MISSING_NS (3 * CLOCK_SECOND)
/* Between two looks whether a refused topic may be read again. */
#define KAFKA_RETRY_NS (2 * CLOCK_SECOND)

struct kafka_consumer {
    uint32_t magic;
    const struct broadcast_settings *settings;
    const struct broadcast_callbacks *callbacks;
    void *context;
    const char *brokers;
    rd_kafka_t *handle;
    /* logs, errors, statistics */
    struct kafka_watch main;
    struct kafka_admin *admin;
    struct kafka_reader *reader;
    void (*limit_known)(void *owner, uint64_t bytes);
    void *owner;
    /* Runs while the topic's partitions are unknown. */
    struct event *poke;
    enum backbone_state state;
    bool connected;
    unsigned down_reports;
    /* Not connected since then. */
    uint64_t away_since_ns;
    /* For the state: why it is not up, how long the leader has sent nothing, when a quota delayed something
     * last. */
    enum backbone_trouble trouble;
    uint64_t silent_for_ns;
    uint64_t throttled_ns;
    uint64_t lag;
    uint64_t retried_ns;
    void (*outgoing)(void *owner, struct kafka_outgoing *out);
    uint64_t gap_since_ns;
    /* The brokers say the topic does not exist; 0: it does, or they have not said. */
    uint64_t missing_since_ns;
    bool missing_told;
    struct kafka_log log;
    struct log_limiter limit_error;
    struct log_limiter limit_throttle;
};

/* ---- state ---- */

static void kafka_consumer_set_state(struct kafka_consumer *consumer, enum backbone_state state)
{
    enum backbone_state old = consumer->state;
    uint64_t now = clock_monotonic_ns();
    if (old == state || old == BACKBONE_LOST)
        return;
    consumer->state = state;
    if (state == BACKBONE_GAP) {
        consumer->gap_since_ns = now;
        log_write(LOG_WARNING, LOGGER_BROADCAST,
            "Broadcaster lost channel '%s': %s; events to send wait meanwhile", consumer->settings->channel,
            backbone_trouble_text(consumer->trouble));
    } else if (state == BACKBONE_LOST) {
        log_write(LOG_ERROR, LOGGER_BROADCAST, BROADCAST_GIVING_UP,
            (unsigned)consumer->settings->reconnect_max_retries);
    } else if (old == BACKBONE_GAP) {
        log_write(LOG_INFO, LOGGER_BROADCAST,
            "Broadcaster listener connected to channel '%s' again after %.1f s", consumer->settings->channel,
            (double)(now - consumer->gap_since_ns) / (double)CLOCK_SECOND);
        consumer->callbacks->count(consumer->context, BROADCAST_COUNT_RECONNECT, 1);
    } else {
        log_write(LOG_INFO, LOGGER_BROADCAST, "Broadcaster listener connected to channel '%s'",
            consumer->settings->channel);
    }
    if (state == BACKBONE_UP)
        kafka_admin_look(consumer->admin);
    consumer->callbacks->state(consumer->context, state);
}

/* The state's receiver asks for the limit each time. */
static void kafka_consumer_on_settings(void *context)
{
    struct kafka_consumer *consumer = object_cast(struct kafka_consumer, KAFKA_CONSUMER_MAGIC, context);
    kafka_reader_set_holes(consumer->reader,
        kafka_admin_topic(consumer->admin)->was_compacted ? KAFKA_HOLES_COMPACTED : KAFKA_HOLES_TRANSACTIONS);
    if (consumer->limit_known)
        consumer->limit_known(consumer->owner, kafka_admin_message_max(consumer->admin));
    consumer->callbacks->state(consumer->context, consumer->state);
}

static void kafka_consumer_report_health(
    struct kafka_consumer *consumer, const struct kafka_outgoing *outgoing, uint64_t now)
{
    struct backbone_health health = {.trouble = consumer->trouble,
        .pending_events = outgoing->count,
        .pending_ns = outgoing->oldest_ns ? now - outgoing->oldest_ns : 0,
        .lag = consumer->lag};
    if (consumer->callbacks->health)
        consumer->callbacks->health(consumer->context, &health);
}

static void kafka_consumer_update_state(struct kafka_consumer *consumer)
{
    uint64_t now = clock_monotonic_ns();
    struct kafka_outgoing outgoing = {0};
    if (consumer->outgoing)
        consumer->outgoing(consumer->owner, &outgoing);
    struct kafka_signs signs = {
        .connected = consumer->connected && kafka_reader_partition_count(consumer->reader) > 0,
        .topic_missing = consumer->missing_told,
        .topic_compacted = kafka_admin_topic(consumer->admin)->compacted,
        .read_refused = kafka_reader_is_refused(consumer->reader),
        .write_refused = outgoing.refused,
        .was_settled = consumer->state == BACKBONE_UP,
        .unsettled_ns = kafka_reader_unsettled_ns(consumer->reader),
        .oldest_ns = outgoing.oldest_ns,
        .throttled_ns = consumer->throttled_ns,
        .silent_for_ns = consumer->silent_for_ns};
    consumer->trouble = kafka_health_judge(&signs, now);
    kafka_consumer_report_health(consumer, &outgoing, now);
    if (consumer->trouble == BACKBONE_NO_TROUBLE)
        kafka_consumer_set_state(consumer, BACKBONE_UP);
    else if (consumer->state == BACKBONE_UP)
        kafka_consumer_set_state(consumer, BACKBONE_GAP);
}

static void kafka_consumer_on_reader_changed(void *owner)
{
    kafka_consumer_update_state(object_cast(struct kafka_consumer, KAFKA_CONSUMER_MAGIC, owner));
}

/* Behind a lost connection the topic may be deleted and created again. */
static void kafka_consumer_note_disconnect(struct kafka_consumer *consumer)
{
    if (consumer->connected) {
        kafka_reader_doubt(consumer->reader);
        consumer->away_since_ns = clock_monotonic_ns();
    }
    consumer->connected = false;
}

/* ---- the topic ---- */

static void kafka_consumer_topic_there(struct kafka_consumer *consumer, int32_t count)
{
    if (consumer->missing_told)
        log_write(LOG_INFO, LOGGER_BROADCAST, "topic '%s' is there now", consumer->settings->channel);
    consumer->missing_since_ns = 0;
    consumer->missing_told = false;
    kafka_reader_topic_there(consumer->reader, count);
}

static void kafka_consumer_topic_missing(struct kafka_consumer *consumer)
{
    uint64_t now = clock_monotonic_ns();
    if (!consumer->missing_since_ns)
        consumer->missing_since_ns = now;
    kafka_reader_topic_missing(consumer->reader);
    /* A broker that denies a topic in error answers that it exists already. */
    if (consumer->settings->kafka_create_topic)
        kafka_admin_create_topic(consumer->admin);
    if (now - consumer->missing_since_ns < KAFKA_MISSING_NS)
        return;
    consumer->connected = false;
    if (consumer->missing_told)
        return;
    consumer->missing_told = true;
    log_write(LOG_ERROR, LOGGER_BROADCAST,
        "Kafka has no topic '%s' (or doesn't show it to this user), so no event gets to or from other "
        "servers. Make it with: kafka-topics.sh --bootstrap-server %s --create --topic %s --partitions 1",
        consumer->settings->channel, consumer->brokers, consumer->settings->channel);
}

static void kafka_consumer_on_poke(evutil_socket_t descriptor, short what, void *context)
{
    struct kafka_consumer *consumer = object_cast(struct kafka_consumer, KAFKA_CONSUMER_MAGIC, context);
    const struct rd_kafka_metadata *metadata = NULL;
    (void)descriptor;
    (void)what;
    if (kafka_reader_partition_count(consumer->reader) && !consumer->missing_since_ns)
        return;
    /* A timeout of 0: the request goes out, nobody waits, the answer goes into librdkafka's own view. */
    rd_kafka_topic_t *topic = kafka_reader_topic(consumer->reader);
    if (rd_kafka_metadata(consumer->handle, 0, topic, &metadata, 0) == RD_KAFKA_RESP_ERR_NO_ERROR)
        rd_kafka_metadata_destroy(metadata);
}

/* ---- quotas ---- */

void kafka_consumer_note_throttle(
    struct kafka_consumer *consumer, const char *what, const char *broker, int delay_ms)
{
    consumer->throttled_ns = clock_monotonic_ns();
    log_write_limited(&consumer->limit_throttle, LOG_WARNING, LOGGER_BROADCAST,
        "Kafka throttles %s: broker %s delays its answer by %d ms, because of a quota for this client or "
        "user",
        what, broker, delay_ms);
}

/* ---- giving up ---- */

/* librdkafka tries each broker about once a second. The operator's limit counts attempts with the waits of
 * the options in between, as for the other backbones. */
static bool kafka_consumer_is_exhausted(const struct kafka_consumer *consumer)
{
    const struct broadcast_settings *settings = consumer->settings;
    double left = (double)(clock_monotonic_ns() - consumer->away_since_ns) / (double)CLOCK_SECOND;
    double wait = settings->reconnect_backoff_min;
    int64_t attempts = 0;
    while (attempts < settings->reconnect_max_retries && left >= wait) {
        attempts++;
        left -= wait;
        wait = wait * 2 < settings->reconnect_backoff_max ? wait * 2 : settings->reconnect_backoff_max;
    }
    return settings->reconnect_max_retries && attempts >= settings->reconnect_max_retries;
}

/* ---- librdkafka's callbacks, from rd_kafka_poll ---- */

static void kafka_consumer_retry_refused(struct kafka_consumer *consumer)
{
    uint64_t now = clock_monotonic_ns();
    if (!kafka_reader_is_refused(consumer->reader) || now - consumer->retried_ns < KAFKA_RETRY_NS)
        return;
    consumer->retried_ns = now;
    kafka_reader_retry(consumer->reader);
}

static void kafka_consumer_on_throttle(
    rd_kafka_t *handle, const char *name, int32_t broker, int delay_ms, void *opaque)
{
    (void)handle;
    (void)broker;
    if (delay_ms > 0)
        kafka_consumer_note_throttle(
            object_cast(struct kafka_consumer, KAFKA_CONSUMER_MAGIC, opaque), "reading", name, delay_ms);
}

static int kafka_consumer_on_statistics(rd_kafka_t *handle, char *text, size_t length, void *opaque)
{
    struct kafka_consumer *consumer = object_cast(struct kafka_consumer, KAFKA_CONSUMER_MAGIC, opaque);
    struct kafka_stats stats;
    (void)handle;
    if (!kafka_stats_read(text, length, consumer->settings->channel, &stats)) {
        log_write_limited(&consumer->limit_error, LOG_ERROR, LOGGER_BROADCAST,
            "Kafka consumer: librdkafka's statistics can't be read: %zu bytes", length);
        return 0;
    }
    bool served = stats.brokers_up > 0 && stats.leaders_up;
    consumer->down_reports = served ? 0 : consumer->down_reports + 1;
    if (served)
        consumer->connected = true;
    else if (consumer->down_reports >= KAFKA_DOWN_REPORTS)
        kafka_consumer_note_disconnect(consumer);
    if (stats.topic_answered && stats.brokers_up > 0) {
        if (stats.partition_count > 0)
            kafka_consumer_topic_there(consumer, stats.partition_count);
        else
            kafka_consumer_topic_missing(consumer);
    }
    consumer->silent_for_ns = stats.leader_idle_us * 1000;
    consumer->lag = stats.lag;
    kafka_consumer_retry_refused(consumer);
    kafka_consumer_update_state(consumer);
    if (!consumer->connected && kafka_consumer_is_exhausted(consumer))
        kafka_consumer_set_state(consumer, BACKBONE_LOST);
    /* Also while it is not up: settings that are right now are the way back. */
    if (consumer->connected)
        kafka_admin_look(consumer->admin);
    return 0; /* librdkafka frees the text */
}

static void kafka_consumer_on_error(rd_kafka_t *handle, int code, const char *reason, void *opaque)
{
    struct kafka_consumer *consumer = object_cast(struct kafka_consumer, KAFKA_CONSUMER_MAGIC, opaque);
    (void)handle;
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        kafka_consumer_note_disconnect(consumer);
        consumer->down_reports = KAFKA_DOWN_REPORTS;
        kafka_consumer_update_state(consumer);
    } else if (code == RD_KAFKA_RESP_ERR__AUTHENTICATION || code == RD_KAFKA_RESP_ERR__SSL) {
        log_write_limited(
            &consumer->limit_error, LOG_ERROR, LOGGER_BROADCAST, "Kafka refuses us: %s", reason);
    } else {
        log_write(LOG_DEBUG, LOGGER_BROADCAST, "Kafka consumer: %s: %s", rd_kafka_err2name(code), reason);
    }
}

static void kafka_consumer_on_log(const rd_kafka_t *handle, int level, const char *facility, const char *text)
{
    struct kafka_consumer *consumer =
        object_cast(struct kafka_consumer, KAFKA_CONSUMER_MAGIC, rd_kafka_opaque(handle));
    kafka_log_write(&consumer->log, "consumer", level, facility, text);
}

static void kafka_consumer_on_main(void *context)
{
    struct kafka_consumer *consumer = object_cast(struct kafka_consumer, KAFKA_CONSUMER_MAGIC, context);
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
        /* reports the end offset */
        {"enable.partition.eof", "true"},
        /* a lost offset must be seen */
        {"auto.offset.reset", "error"},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        /* Records of aborted transactions are no events. */
        {"isolation.level", "read_committed"},
        /* as the reference: the broker decides */
        {"allow.auto.create.topics", "true"},
        /* we judge ourselves how long a missing topic may be an error */
        {"topic.metadata.propagation.max.ms", "0"},
        {"fetch.min.bytes", "1"},
        {"fetch.error.backoff.ms", "50"},
    };
    const struct broadcast_settings *settings = consumer->settings;
    long long most = (long long)settings->limits->event_max_bytes + KAFKA_MESSAGE_SLACK;
    long long queue_kb = most * 4 / 1024 > 16384 ? most * 4 / 1024 : 16384;
    if (kafka_config_apply_common(conf, options->brokers, options->secure, err) < 0)
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
    rd_kafka_conf_set_throttle_cb(conf, kafka_consumer_on_throttle);
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
    consumer->admin = kafka_admin_open(base, consumer->handle, consumer->settings->channel, consumer->brokers,
        kafka_consumer_on_settings, consumer, err);
    if (!consumer->admin)
        return -1;
    rd_kafka_set_log_queue(consumer->handle, NULL);
    struct kafka_reader_options reader = {.handle = consumer->handle,
        .settings = consumer->settings,
        .callbacks = consumer->callbacks,
        .context = consumer->context,
        .changed = kafka_consumer_on_reader_changed,
        .owner = consumer};
    consumer->reader = kafka_reader_open(base, &reader, err);
    if (!consumer->reader)
        return -1;
    consumer->poke = event_new(base, -1, EV_PERSIST, kafka_consumer_on_poke, consumer);
    if (!consumer->poke || event_add(consumer->poke, &poke) < 0)
        return error_set(err, -1, "Kafka consumer: the event loop takes no more events");
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
    consumer->outgoing = options->outgoing;
    consumer->away_since_ns = clock_monotonic_ns();
    consumer->state = BACKBONE_CONNECTING;
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

void kafka_consumer_resume(struct kafka_consumer *consumer)
{
    kafka_reader_resume(consumer->reader);
}

void kafka_consumer_close(struct kafka_consumer *consumer)
{
    kafka_reader_close(consumer->reader);
    kafka_watch_close(&consumer->main);
    kafka_admin_close(consumer->admin);
    if (consumer->poke)
        event_free(consumer->poke);
    if (consumer->handle)
        rd_kafka_destroy(consumer->handle);
    consumer->magic = 0;
    free(consumer);
}
