/* What the configuration says of the backbone, in the backbone's words. */
#ifndef OPALD_SERVER_ROUTER_BACKBONE_SETTINGS_H
#define OPALD_SERVER_ROUTER_BACKBONE_SETTINGS_H

#include "broadcast/broadcast.h"
#include "shm/common/config.h"

/* Points into `config` and `notifier_id`. check-config asks with the same settings. */
struct broadcast_settings backbone_settings(const struct config *config, const char *notifier_id);

#endif
