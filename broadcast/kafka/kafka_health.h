/* Does it work in both directions? Pure: what was seen and the time go in, the trouble comes out. */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_HEALTH_H
#define OPALD_BROADCAST_KAFKA_KAFKA_HEALTH_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/backbone_state.h"
#include "shm/common/clock.h"

/* For so long a direction may show no sign of life. */
#define KAFKA_HEALTH_LIMIT_NS (10 * CLOCK_SECOND)
/* A position that is looked up or checked for longer than this is an outage. */
#define KAFKA_UNSETTLED_NS (2 * CLOCK_SECOND)

struct kafka_signs {
    bool connected;
    bool topic_missing;
    bool topic_compacted;
    bool read_refused;
    bool write_refused;
    /* Positions were known before; else they must be known at once. */
    bool was_settled;
    /* Since when a position is not known, when the oldest event was handed in that is not acknowledged, when
     * a quota delayed something last; 0: never. */
    uint64_t unsettled_ns;
    uint64_t oldest_ns;
    uint64_t throttled_ns;
    /* How long the broker that leads the topic has sent nothing. */
    uint64_t silent_for_ns;
};

enum backbone_trouble kafka_health_judge(const struct kafka_signs *signs, uint64_t now_ns);

#endif
