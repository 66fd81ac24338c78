/* What the whole host should know about the backbone. */
#ifndef OPALD_SHM_COMMON_BACKBONE_STATE_H
#define OPALD_SHM_COMMON_BACKBONE_STATE_H

#include <stdint.h>

enum backbone_state {
    BACKBONE_NONE,
    BACKBONE_CONNECTING,
    BACKBONE_UP,
    /* was up, is not */
    BACKBONE_GAP,
    /* given up (reconnecting is off, or the attempts are used up); final */
    BACKBONE_LOST,
};

/* Why the backbone is not up, as far as its backend can name it. */
enum backbone_trouble {
    BACKBONE_NO_TROUBLE,
    BACKBONE_DISCONNECTED,
    BACKBONE_SILENT,
    BACKBONE_NO_TOPIC,
    BACKBONE_POSITION_UNKNOWN,
    BACKBONE_TOPIC_COMPACTED,
    BACKBONE_READ_REFUSED,
    BACKBONE_WRITE_REFUSED,
    BACKBONE_THROTTLED,
    BACKBONE_NOT_ACKNOWLEDGED,
    BACKBONE_TROUBLE_COUNT,
};

struct backbone_health {
    enum backbone_trouble trouble;
    /* Events that the backbone has not acknowledged, and for how long the oldest waits. */
    uint64_t pending_events;
    uint64_t pending_ns;
    /* Messages that are in the backbone and were not read yet. */
    uint64_t lag;
};

/* In words, for people and for JSON as it is; "" for BACKBONE_NO_TROUBLE and for what is none. Static. */
const char *backbone_trouble_text(enum backbone_trouble trouble);

#endif
