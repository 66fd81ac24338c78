/*
 * A topic can be deleted and made anew under the same name. Its offsets start at 0 again, and librdkafka 2.0 knows nothing of a
 * topic's id or of leader epochs: it goes on at the old offset, in whatever log is there. What of the new topic's events we would get
 * then, and which of them twice, would hang on who is first: librdkafka's fetch, or the report that the topic was gone.
 *
 * So whatever may be another topic is checked before anything of it is delivered. A partition keeps a mark (time, length and ends) of the
 * last message that it read, and when there is reason for doubt that message is read again:
 *
 *   READING  --- reported missing, connection lost, fewer partitions ------> CHECKING  from the last message
 *   CHECKING --- the same message, or it was removed ----------------------> READING   the log that we know; nothing is delivered twice
 *            --- another message, or the log ends before it ---------------> READING   anew: from the beginning, and a gap
 *   any      --- offset out of range --------------------------------------> PROBING   from the beginning
 *   PROBING  --- the log begins after what we have read -------------------> READING   retention: from the end, and a gap
 *            --- it begins just there -------------------------------------> READING   nothing is lost
 *            --- it begins before, so it ended before, so it is a new one --> READING   anew, from here on, and a gap
 *
 * A check can be repeated at any time and delivers nothing, so the order and the number of reports do not matter. They come either as
 * an error in the queue, behind the old log's messages, or from the statistics, and then wait until the queue is empty.
 *
 * A log that ends before the message may also be the known one on a new leader, which for a moment does not know how far the old one had
 * come; unless the topic was reported missing, it has to last for KAFKA_SHORT_NS.
 *
 * Not seen: a topic that is deleted and made anew, with more events than the old one had, faster than librdkafka asks for it, over a
 * connection that holds. A partition of which nothing was read has no mark; there a topic that was gone for KAFKA_MISSING_NS is a new one.
 */
#include <inttypes.h>
#include <string.h>

#include "broadcast/kafka/kafka_consumer_internal.h"
#include "shm/common/loggers.h"

#define KAFKA_SHORT_NS   (2 * CLOCK_SECOND)
#define KAFKA_MARK_BYTES 64 /* of each end of a message */

/* Eight bytes a step: it is made of every message. */
static uint64_t kafka_mark_add(uint64_t mark, const void *data, size_t length)
{
    const char *bytes = data;
    for (size_t i = 0; i < length; i += sizeof(uint64_t)) {
        uint64_t word = 0;
        memcpy(&word, bytes + i, length - i < sizeof word ? length - i : sizeof word);
        mark = (mark ^ word) * 0x9e3779b97f4a7c15u;
        mark ^= mark >> 32;
    }
    return mark;
}

static uint64_t kafka_mark_of(const rd_kafka_message_t *message)
{
    rd_kafka_timestamp_type_t type;
    int64_t timestamp = rd_kafka_message_timestamp(message, &type);
    size_t part = message->len < KAFKA_MARK_BYTES ? message->len : KAFKA_MARK_BYTES;
    uint64_t mark = 1;
    mark = kafka_mark_add(mark, &timestamp, sizeof timestamp);
    mark = kafka_mark_add(mark, &message->len, sizeof message->len);
    if (message->payload) {
        mark = kafka_mark_add(mark, message->payload, part);
        mark = kafka_mark_add(mark, (const char *)message->payload + message->len - part, part);
    }
    return mark;
}

void kafka_consumer_mark(struct kafka_partition *partition, const rd_kafka_message_t *message)
{
    rd_kafka_timestamp_type_t type;
    int64_t timestamp = rd_kafka_message_timestamp(message, &type);
    partition->mark = kafka_mark_of(message);
    partition->has_mark = true;
    if (type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE || timestamp <= partition->seen_ms)
        return;
    /* A writer's clock may be hours fast; another log's events must not look old beside its. */
    int64_t now = kafka_consumer_wall_ms();
    partition->seen_ms = timestamp < now ? timestamp : now;
}

static void kafka_consumer_check_partition(struct kafka_consumer *consumer, int32_t number)
{
    struct kafka_partition *partition = &consumer->partitions[number];
    if (partition->phase != KAFKA_READING || !partition->known)
        return; /* under way, or nothing of it was read */
    partition->phase = KAFKA_CHECKING;
    partition->missing_ns = 0;
    kafka_consumer_restart_partition(
        consumer, number, partition->next_offset - (partition->has_mark ? 1 : 0));
}

void kafka_consumer_want_check(struct kafka_consumer *consumer)
{
    consumer->check_wanted = true;
    kafka_watch_again(&consumer->messages);
}

void kafka_consumer_start_checks(struct kafka_consumer *consumer)
{
    if (!consumer->check_wanted)
        return;
    consumer->check_wanted = false;
    for (int32_t i = 0; i < consumer->partition_count; i++)
        if (consumer->missing_since_ns)
            kafka_consumer_note_missing(consumer, i);
        else
            kafka_consumer_check_partition(consumer, i);
}

void kafka_consumer_note_missing(struct kafka_consumer *consumer, int32_t number)
{
    struct kafka_partition *partition = &consumer->partitions[number];
    kafka_consumer_check_partition(consumer, number);
    if (partition->phase != KAFKA_CHECKING || partition->missing_ns)
        return;
    partition->missing_ns = clock_monotonic_ns();
    partition->seen_ms = kafka_consumer_wall_ms();
}

static void kafka_consumer_settled(struct kafka_partition *partition)
{
    partition->phase = KAFKA_READING;
    partition->missing_ns = 0;
    partition->short_ns = 0;
}

void kafka_consumer_note_lost(struct kafka_consumer *consumer, int32_t number)
{
    struct kafka_partition *partition = &consumer->partitions[number];
    if (!partition->lost_ns) {
        partition->lost_ns = partition->missing_ns ? partition->missing_ns : clock_monotonic_ns();
        partition->lost_why = "the place where we stopped is not in Kafka's log any more";
    }
    kafka_consumer_settled(partition);
    partition->known = false;
    partition->phase = KAFKA_PROBING;
    kafka_consumer_restart_partition(consumer, number, RD_KAFKA_OFFSET_BEGINNING);
    kafka_consumer_update_state(consumer);
}

/* The log is another one than we knew; it is read from `offset`, its first. */
static void kafka_consumer_renew(struct kafka_consumer *consumer, int32_t number, int64_t offset)
{
    struct kafka_partition *partition = &consumer->partitions[number];
    log_write(LOG_WARNING, LOGGER_BROADCAST,
        "topic '%s', partition %" PRId32 ": was deleted and made anew: reading it from its beginning",
        consumer->settings->channel, number);
    if (!partition->lost_ns)
        partition->lost_ns = partition->missing_ns ? partition->missing_ns : clock_monotonic_ns();
    partition->lost_why = "the Kafka topic was deleted and made anew";
    kafka_consumer_settled(partition);
    partition->has_mark = false;
    partition->not_before_ms = partition->seen_ms - KAFKA_CLOCK_SKEW_MS;
    partition->known = false;
    kafka_consumer_note_start(consumer, partition, offset);
}

static void kafka_consumer_start_anew(struct kafka_consumer *consumer, int32_t number)
{
    kafka_consumer_restart_partition(consumer, number, RD_KAFKA_OFFSET_BEGINNING);
    kafka_consumer_renew(consumer, number, 0);
}

void kafka_consumer_end_checks(struct kafka_consumer *consumer)
{
    uint64_t now = clock_monotonic_ns();
    for (int32_t i = 0; i < consumer->partition_count; i++)
        if (consumer->partitions[i].short_ns && now - consumer->partitions[i].short_ns >= KAFKA_SHORT_NS)
            kafka_consumer_start_anew(consumer, i);
}

static bool kafka_consumer_settle_check(
    struct kafka_consumer *consumer, int32_t number, int64_t offset, const rd_kafka_message_t *message)
{
    struct kafka_partition *partition = &consumer->partitions[number];
    bool anew;
    if (!message && offset < partition->next_offset && !partition->missing_ns) {
        if (!partition->short_ns)
            partition->short_ns = clock_monotonic_ns();
        return false;
    }
    if (offset < partition->next_offset)
        anew = !message || !partition->has_mark || offset != partition->next_offset - 1 ||
               kafka_mark_of(message) != partition->mark;
    else
        anew = !partition->has_mark && partition->next_offset > 0 && partition->missing_ns &&
               clock_monotonic_ns() - partition->missing_ns >= KAFKA_MISSING_NS;
    if (!anew) {
        kafka_consumer_settled(partition);
        return true; /* what was read before is passed over as any such message */
    }
    kafka_consumer_start_anew(consumer, number);
    return false;
}

static bool kafka_consumer_settle_probe(struct kafka_consumer *consumer, int32_t number, int64_t offset)
{
    struct kafka_partition *partition = &consumer->partitions[number];
    if (offset < partition->next_offset) {
        kafka_consumer_renew(consumer, number, offset);
        return true;
    }
    kafka_consumer_settled(partition);
    if (offset == partition->next_offset) {
        partition->lost_ns = 0;
        return true;
    }
    log_write(LOG_ERROR, LOGGER_BROADCAST,
        "topic '%s', partition %" PRId32 ": Kafka's log begins at offset %" PRId64 ", after %" PRId64
        " where we stopped: going on at its end",
        consumer->settings->channel, number, offset, partition->next_offset);
    partition->has_mark = false;
    kafka_consumer_restart_partition(consumer, number, RD_KAFKA_OFFSET_END);
    return false;
}

bool kafka_consumer_settle(
    struct kafka_consumer *consumer, int32_t number, int64_t offset, const rd_kafka_message_t *message)
{
    if (consumer->partitions[number].phase == KAFKA_CHECKING)
        return kafka_consumer_settle_check(consumer, number, offset, message);
    return kafka_consumer_settle_probe(consumer, number, offset);
}
