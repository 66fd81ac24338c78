/*
 * librdkafka's statistics, read for the little that has no other non-blocking interface in 2.0: which partitions a topic has, and whether a
 * broker is connected. rd_kafka_metadata() waits for the answer, which the master's loop must not (invariant 7); the
 * statistics come as an event. The JSON is documented in librdkafka's STATISTICS.md. Pure: text in, numbers out.
 */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_STATS_H
#define OPALD_BROADCAST_KAFKA_KAFKA_STATS_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/json.h"

struct kafka_stats {
    bool topic_answered;     /* a broker has answered about the topic: a count of 0 is then its word */
    int32_t partition_count; /* the topic's, as the cluster says */
    unsigned brokers_up;
    bool leaders_up;  /* every partition is served by a connected broker (true when there is none) */
    int64_t connects; /* attempts to connect so far, at the broker with the most */
};

/* `document` keeps its memory from call to call. False when the text isn't what it should be. */
bool kafka_stats_read(struct json_document *document, const char *text, size_t length, const char *topic,
    struct kafka_stats *out);

#endif
