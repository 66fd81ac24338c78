/*
 * librdkafka's statistics, read for what has no other non-blocking interface in 2.0: which partitions a topic
 * has, and whether a broker is connected. rd_kafka_metadata() waits for the answer, which the master's loop
 * must not; the statistics come as an event. The JSON is documented in librdkafka's STATISTICS.md. Pure: text
 * in, numbers out.
 */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_STATS_H
#define OPALD_BROADCAST_KAFKA_KAFKA_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/object.h"

struct kafka_stats {
    /* A broker has answered about the topic: a count of 0 is then its word. */
    bool topic_answered;
    /* The topic's partitions, as the cluster says. */
    int32_t partition_count;
    unsigned brokers_up;
    /* Every partition is served by a connected broker (true when there is none). */
    bool leaders_up;
    /* The longest time for which the leader of a partition has sent nothing, microseconds. */
    uint64_t leader_idle_us;
    /* Messages of the topic that were not read yet, as far as it is known. */
    uint64_t lag;
};

/* False when the text isn't what it should be. */
bool kafka_stats_read(const char *text, size_t length, const char *topic, struct kafka_stats *out) MUST_CHECK;

#endif
