/* Which partitions the topic has, whether it is there at all, and where in each of them reading starts. */
#include <inttypes.h>
#include <time.h>

#include "broadcast/kafka/kafka_consumer_internal.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"

static void kafka_consumer_start_partition(struct kafka_consumer *consumer, int32_t number, int64_t offset)
{
    if (rd_kafka_consume_start_queue(consumer->topic, number, offset, consumer->queue) < 0)
        log_write(LOG_ERROR, LOGGER_BROADCAST, "Kafka consumer: can't read partition %" PRId32 " of '%s': %s",
            number, consumer->settings->channel, rd_kafka_err2str(rd_kafka_last_error()));
}

/* rd_kafka_consume_stop waits for librdkafka's own main thread, which does no network I/O: microseconds. What is still in the
 * queue of the old reading is dropped by librdkafka. */
void kafka_consumer_restart_partition(struct kafka_consumer *consumer, int32_t number, int64_t offset)
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
        consumer->partitions[i] = (struct kafka_partition){
            .not_before_ms = not_before_ms,
            .seen_ms = kafka_consumer_wall_ms(),
            .known = offset == RD_KAFKA_OFFSET_BEGINNING, /* nothing before it */
        };
        kafka_consumer_start_partition(consumer, i, offset);
    }
    if (count > 1)
        log_write(LOG_WARNING, LOGGER_BROADCAST,
            "topic '%s' has %" PRId32 " partitions: order is kept only among the events of one partition. "
            "This server writes to partition 0 "
            "alone and reads all; servers that spread their events over partitions get no common order. One "
            "partition "
            "is right for this topic",
            consumer->settings->channel, count);
}

int64_t kafka_consumer_wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void kafka_consumer_topic_there(struct kafka_consumer *consumer, int32_t count)
{
    bool was_missing = consumer->missing_since_ns != 0;
    int64_t since_ms =
        was_missing ? consumer->missing_wall_ms : kafka_consumer_wall_ms() - KAFKA_CLOCK_SKEW_MS;
    int64_t not_before_ms = since_ms - KAFKA_CLOCK_SKEW_MS;
    if (consumer->partition_count == 0) {
        if (consumer->missing_told)
            log_write(LOG_INFO, LOGGER_BROADCAST, "topic '%s' is there now", consumer->settings->channel);
        kafka_consumer_add_partitions(
            consumer, count, was_missing ? RD_KAFKA_OFFSET_BEGINNING : RD_KAFKA_OFFSET_END, not_before_ms);
    } else if (count > consumer->partition_count) {
        kafka_consumer_add_partitions(consumer, count, RD_KAFKA_OFFSET_BEGINNING, not_before_ms);
    } else if (count < consumer->told_count) {
        kafka_consumer_want_check(consumer); /* Kafka takes no partition from a topic: it is another one */
    }
    consumer->told_count = count;
    consumer->missing_since_ns = 0;
    consumer->missing_told = false;
}

void kafka_consumer_topic_missing(struct kafka_consumer *consumer)
{
    uint64_t now = clock_monotonic_ns();
    if (!consumer->missing_since_ns) {
        consumer->missing_since_ns = now;
        consumer->missing_wall_ms = kafka_consumer_wall_ms();
        kafka_consumer_want_check(consumer);
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
    log_write(LOG_ERROR, LOGGER_BROADCAST,
        "Kafka has no topic '%s' (or doesn't show it to this user), so no event gets to or from other "
        "servers. Make "
        "it with: kafka-topics.sh --bootstrap-server %s --create --topic %s --partitions 1",
        consumer->settings->channel, consumer->brokers, consumer->settings->channel);
}

void kafka_consumer_on_poke(evutil_socket_t descriptor, short what, void *context)
{
    struct kafka_consumer *consumer = context;
    const struct rd_kafka_metadata *metadata = NULL;
    (void)descriptor;
    (void)what;
    kafka_consumer_end_checks(consumer);
    if (consumer->partition_count && !consumer->missing_since_ns)
        return;
    /* A time-out of 0: the request goes out, nobody waits, the answer goes into librdkafka's own view. */
    if (rd_kafka_metadata(consumer->handle, 0, consumer->topic, &metadata, 0) == RD_KAFKA_RESP_ERR_NO_ERROR)
        rd_kafka_metadata_destroy(metadata);
}
