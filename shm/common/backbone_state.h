/* What the whole host should know about the backbone. */
#ifndef OPALD_SHM_COMMON_BACKBONE_STATE_H
#define OPALD_SHM_COMMON_BACKBONE_STATE_H

enum backbone_state {
    BACKBONE_NONE,
    BACKBONE_CONNECTING,
    BACKBONE_UP,
    /* was up, is not */
    BACKBONE_GAP,
    /* given up (reconnecting is off, or the attempts are used up); final */
    BACKBONE_LOST,
};

#endif
