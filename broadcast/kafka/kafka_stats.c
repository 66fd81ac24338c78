#include "broadcast/kafka/kafka_stats.h"

#include <string.h>

#include "shm/common/document.h"

static int64_t stats_number(const cJSON *object, const char *key)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(value) ? (int64_t)value->valuedouble : -1;
}

static bool stats_is(const cJSON *object, const char *key, const char *expected)
{
    const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
    return value && strcmp(value, expected) == 0;
}

static bool stats_broker_up(const cJSON *broker)
{
    return stats_is(broker, "state", "UP") && !stats_is(broker, "source", "internal");
}

/* The connected broker with this id, or NULL. Clusters have few brokers: a walk is enough. */
static const cJSON *stats_node(const cJSON *brokers, int64_t node)
{
    const cJSON *broker;
    cJSON_ArrayForEach (broker, brokers)
        if (stats_broker_up(broker) && stats_number(broker, "nodeid") == node)
            return broker;
    return NULL;
}

static void stats_read_brokers(const cJSON *brokers, struct kafka_stats *out)
{
    const cJSON *broker;
    cJSON_ArrayForEach (broker, brokers)
        if (stats_broker_up(broker))
            out->brokers_up++;
}

static void stats_read_partitions(const cJSON *brokers, const cJSON *partitions, struct kafka_stats *out)
{
    const cJSON *partition;
    cJSON_ArrayForEach (partition, partitions) {
        int64_t number = stats_number(partition, "partition");
        /* -1 is librdkafka's own place for messages without a partition; "unknown" ones are asked for, but
         * not there. */
        if (number < 0 || number >= INT32_MAX ||
            !cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(partition, "unknown")))
            continue;
        if (number >= out->partition_count)
            out->partition_count = (int32_t)number + 1;
        const cJSON *leader = stats_node(brokers, stats_number(partition, "broker"));
        int64_t idle = stats_number(leader, "rxidle");
        int64_t lag = stats_number(partition, "consumer_lag");
        if (!leader)
            out->leaders_up = false;
        if (idle > 0 && (uint64_t)idle > out->leader_idle_us)
            out->leader_idle_us = (uint64_t)idle;
        if (lag > 0)
            out->lag += (uint64_t)lag;
    }
}

static bool stats_read_document(const cJSON *document, const char *topic, struct kafka_stats *out)
{
    const cJSON *brokers = cJSON_GetObjectItemCaseSensitive(document, "brokers");
    const cJSON *topics = cJSON_GetObjectItemCaseSensitive(document, "topics");
    if (!cJSON_IsObject(brokers) || !cJSON_IsObject(topics))
        return false;
    stats_read_brokers(brokers, out);
    const cJSON *mine = cJSON_GetObjectItemCaseSensitive(topics, topic);
    if (!mine)
        return true;
    const cJSON *partitions = cJSON_GetObjectItemCaseSensitive(mine, "partitions");
    if (!cJSON_IsObject(partitions))
        return false;
    stats_read_partitions(brokers, partitions, out);
    out->topic_answered = out->partition_count > 0 || stats_number(mine, "metadata_age") > 0;
    return true;
}

bool kafka_stats_read(const char *text, size_t length, const char *topic, struct kafka_stats *out)
{
    static const struct document_limits limits = {.depth = 16, .values = 1000000};
    *out = (struct kafka_stats){.leaders_up = true};
    cJSON *document = document_parse((struct slice){text, length}, &limits);
    bool read = document && stats_read_document(document, topic, out);
    cJSON_Delete(document);
    return read;
}
