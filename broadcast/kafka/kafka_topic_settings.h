/* What this server must know of its topic's settings, and what is wrong with them. Pure. */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_TOPIC_SETTINGS_H
#define OPALD_BROADCAST_KAFKA_KAFKA_TOPIC_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/text.h"

struct kafka_topic_settings {
    /* The broker has told them. */
    bool known;
    /* cleanup.policy has compact: records without a key are refused, and records that were not read are
     * removed. */
    bool compacted;
    /* It was compacted at any time since the start. */
    bool was_compacted;
    /* max.message.bytes, 0: not known */
    uint64_t message_max;
    /* retention.ms and retention.bytes, -1: no limit */
    int64_t retention_ms;
    int64_t retention_bytes;
    int64_t min_in_sync;
};

/* Takes one setting, by Kafka's name; what does not matter here is passed over. */
void kafka_topic_settings_take(struct kafka_topic_settings *settings, const char *name, const char *value);
/* Appends what is wrong, one sentence per line, with the command that mends it. Nothing when all is well. */
void kafka_topic_settings_check(
    const struct kafka_topic_settings *settings, const char *topic, const char *brokers, struct text *out);

#endif
