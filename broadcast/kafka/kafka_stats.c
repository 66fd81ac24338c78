#include "broadcast/kafka/kafka_stats.h"

#include <stdlib.h>
#include <string.h>

#define KAFKA_STATS_DEPTH  16
#define KAFKA_STATS_TOKENS 1000000

static int64_t kafka_stats_number(const struct json_document *document, uint32_t object, const char *key)
{
    uint32_t value = json_member(document, object, key);
    if (value == JSON_ABSENT || document->tokens[value].type != JSON_NUMBER)
        return -1;
    /* A number token is followed by a delimiter, so strtoll stops in time. */
    return strtoll(json_raw(document, value).data, NULL, 10);
}

static bool kafka_stats_is(
    const struct json_document *document, uint32_t object, const char *key, const char *expected)
{
    uint32_t value = json_member(document, object, key);
    return value != JSON_ABSENT && document->tokens[value].type == JSON_STRING &&
           json_string_equals(document, value, slice_from_string(expected));
}

static bool kafka_stats_is_object(const struct json_document *document, uint32_t token)
{
    return token != JSON_ABSENT && document->tokens[token].type == JSON_OBJECT;
}

static bool kafka_stats_broker_up(const struct json_document *document, uint32_t broker)
{
    return kafka_stats_is(document, broker, "state", "UP") &&
           !kafka_stats_is(document, broker, "source", "internal");
}

/* True when the broker with this id is connected. Clusters have few brokers: a walk is enough. */
static bool kafka_stats_node_up(const struct json_document *document, uint32_t brokers, int64_t node)
{
    uint32_t key = brokers + 1;
    for (uint32_t i = 0; i < document->tokens[brokers].size; i++, key = document->tokens[key + 1].next)
        if (kafka_stats_is_object(document, key + 1) && kafka_stats_broker_up(document, key + 1) &&
            kafka_stats_number(document, key + 1, "nodeid") == node)
            return true;
    return false;
}

static void kafka_stats_read_partitions(
    const struct json_document *document, uint32_t brokers, uint32_t partitions, struct kafka_stats *out)
{
    uint32_t key = partitions + 1;
    for (uint32_t i = 0; i < document->tokens[partitions].size; i++, key = document->tokens[key + 1].next) {
        uint32_t partition = key + 1;
        if (!kafka_stats_is_object(document, partition))
            continue;
        uint32_t unknown = json_member(document, partition, "unknown");
        int64_t number = kafka_stats_number(document, partition, "partition");
        /* -1 is librdkafka's own place for messages without a partition; "unknown" ones are asked for, but not there. */
        if (number < 0 || number >= INT32_MAX || unknown == JSON_ABSENT ||
            document->tokens[unknown].type != JSON_FALSE)
            continue;
        out->partition_count =
            number + 1 > out->partition_count ? (int32_t)(number + 1) : out->partition_count;
        if (!kafka_stats_node_up(document, brokers, kafka_stats_number(document, partition, "broker")))
            out->leaders_up = false;
    }
}

static void kafka_stats_read_broker(
    const struct json_document *document, uint32_t broker, struct kafka_stats *out)
{
    int64_t connects = kafka_stats_number(document, broker, "connects");
    if (kafka_stats_broker_up(document, broker))
        out->brokers_up++;
    if (connects > out->connects)
        out->connects = connects;
}

bool kafka_stats_read(struct json_document *document, const char *text, size_t length, const char *topic,
    struct kafka_stats *out)
{
    *out = (struct kafka_stats){.leaders_up = true};
    if (json_parse(document, text, length, KAFKA_STATS_DEPTH, KAFKA_STATS_TOKENS) != JSON_OK ||
        document->tokens[0].type != JSON_OBJECT)
        return false;
    uint32_t brokers = json_member(document, 0, "brokers");
    uint32_t topics = json_member(document, 0, "topics");
    if (!kafka_stats_is_object(document, brokers) || !kafka_stats_is_object(document, topics))
        return false;
    uint32_t key = brokers + 1;
    for (uint32_t i = 0; i < document->tokens[brokers].size; i++, key = document->tokens[key + 1].next)
        if (kafka_stats_is_object(document, key + 1))
            kafka_stats_read_broker(document, key + 1, out);

    uint32_t mine = json_member(document, topics, topic);
    if (!kafka_stats_is_object(document, mine))
        return true;
    uint32_t partitions = json_member(document, mine, "partitions");
    if (!kafka_stats_is_object(document, partitions))
        return false;
    kafka_stats_read_partitions(document, brokers, partitions, out);
    out->topic_answered = out->partition_count > 0 || kafka_stats_number(document, mine, "metadata_age") > 0;
    return true;
}
