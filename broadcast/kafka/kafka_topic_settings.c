#include "broadcast/kafka/kafka_topic_settings.h"

#include <stdlib.h>
#include <string.h>

#define RETENTION_LEAST_MS 60000

void kafka_topic_settings_take(struct kafka_topic_settings *settings, const char *name, const char *value)
{
    if (strcmp(name, "cleanup.policy") == 0) {
        settings->compacted = strstr(value, "compact") != NULL;
        settings->was_compacted = settings->was_compacted || settings->compacted;
    } else if (strcmp(name, "max.message.bytes") == 0) {
        settings->message_max = strtoull(value, NULL, 10);
    } else if (strcmp(name, "retention.ms") == 0) {
        settings->retention_ms = strtoll(value, NULL, 10);
    } else if (strcmp(name, "retention.bytes") == 0) {
        settings->retention_bytes = strtoll(value, NULL, 10);
    } else if (strcmp(name, "min.insync.replicas") == 0) {
        settings->min_in_sync = strtoll(value, NULL, 10);
    }
}

static void settings_advise(
    struct text *out, const char *topic, const char *brokers, const char *what, const char *setting)
{
    text_append_format(out,
        "%s. Mend it with: kafka-configs.sh --bootstrap-server %s --alter --entity-type topics "
        "--entity-name %s --add-config %s\n",
        what, brokers, topic, setting);
}

void kafka_topic_settings_check(
    const struct kafka_topic_settings *settings, const char *topic, const char *brokers, struct text *out)
{
    if (!settings->known)
        return;
    if (settings->compacted)
        settings_advise(out, topic, brokers,
            "the topic is compacted: Kafka refuses events, which have no key, and removes events that were "
            "not read; this server is not ready",
            "cleanup.policy=delete");
    if (settings->retention_ms >= 0 && settings->retention_ms < RETENTION_LEAST_MS)
        settings_advise(out, topic, brokers,
            "the topic keeps events for less than a minute: a server that is away for longer loses them, and "
            "its clients refetch",
            "retention.ms=86400000");
}
