#include "server/router/backbone_settings.h"

struct broadcast_settings backbone_settings(const struct config *config, const char *notifier_id)
{
    return (struct broadcast_settings){
        .uri = config->broadcast_uri,
        .channel = config->broadcast_channel_name,
        .notifier_id = notifier_id,
        .event_max_bytes = (size_t)config->event_max_bytes,
        .json_max_depth = (unsigned)config->json_max_depth,
        .queue_max_bytes = (size_t)config->kafka_queue_max_bytes,
        .queue_max_messages = (size_t)config->kafka_queue_max_messages,
        .reconnect_backoff_min = config->broadcast_reconnect_backoff_min_seconds,
        .reconnect_backoff_max = config->broadcast_reconnect_backoff_max_seconds,
        .debug = config->log.level <= LOG_DEBUG,
        .reconnect_max_retries = config->broadcast_reconnect_max_retries,
        .no_reconnect = !config->broadcast_reconnect_enabled,
        .replay_buffer_size = (size_t)config->broadcast_replay_buffer_size,
        .settle_seconds = config->broadcast_resync_settle_seconds,
        .heartbeat_deadline = config->broadcast_heartbeat_seconds,
        .postgres_schema = config->broadcast_postgres_schema,
        .kafka_config = config->kafka_config,
        .kafka_create_topic = config->kafka_create_topic,
    };
}
