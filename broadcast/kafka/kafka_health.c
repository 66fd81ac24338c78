#include "broadcast/kafka/kafka_health.h"

static enum backbone_trouble health_judge_reading(const struct kafka_signs *signs, uint64_t now_ns)
{
    if (signs->topic_missing)
        return BACKBONE_NO_TOPIC;
    if (!signs->connected)
        return BACKBONE_DISCONNECTED;
    if (signs->read_refused)
        return BACKBONE_READ_REFUSED;
    if (signs->silent_for_ns > KAFKA_HEALTH_LIMIT_NS)
        return BACKBONE_SILENT;
    if (signs->unsettled_ns && (!signs->was_settled || now_ns - signs->unsettled_ns > KAFKA_UNSETTLED_NS))
        return BACKBONE_POSITION_UNKNOWN;
    return BACKBONE_NO_TROUBLE;
}

static enum backbone_trouble health_judge_writing(const struct kafka_signs *signs, uint64_t now_ns)
{
    if (signs->topic_compacted)
        return BACKBONE_TOPIC_COMPACTED;
    if (signs->write_refused)
        return BACKBONE_WRITE_REFUSED;
    if (!signs->oldest_ns || now_ns - signs->oldest_ns <= KAFKA_HEALTH_LIMIT_NS)
        return BACKBONE_NO_TROUBLE;
    if (signs->throttled_ns && now_ns - signs->throttled_ns <= KAFKA_HEALTH_LIMIT_NS)
        return BACKBONE_THROTTLED;
    return BACKBONE_NOT_ACKNOWLEDGED;
}

enum backbone_trouble kafka_health_judge(const struct kafka_signs *signs, uint64_t now_ns)
{
    enum backbone_trouble reading = health_judge_reading(signs, now_ns);
    return reading != BACKBONE_NO_TROUBLE ? reading : health_judge_writing(signs, now_ns);
}
