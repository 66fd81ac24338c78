#include "shm/common/backbone_state.h"

const char *backbone_trouble_text(enum backbone_trouble trouble)
{
    static const char *const texts[BACKBONE_TROUBLE_COUNT] = {
        [BACKBONE_NO_TROUBLE] = "",
        [BACKBONE_DISCONNECTED] = "no connection to the broker that leads the topic",
        [BACKBONE_SILENT] = "the broker that leads the topic does not answer",
        [BACKBONE_NO_TOPIC] = "there is no such topic",
        [BACKBONE_POSITION_UNKNOWN] = "it is not known where to go on reading",
        [BACKBONE_TOPIC_COMPACTED] = "the topic is compacted",
        [BACKBONE_READ_REFUSED] = "this user may not read the topic",
        [BACKBONE_WRITE_REFUSED] = "this user may not write to the topic",
        [BACKBONE_THROTTLED] = "a quota delays events",
        [BACKBONE_NOT_ACKNOWLEDGED] = "events wait too long for their acknowledgement",
    };
    return (unsigned)trouble < BACKBONE_TROUBLE_COUNT ? texts[trouble] : "";
}
