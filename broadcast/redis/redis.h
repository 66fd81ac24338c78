/* redis://, rediss://: PUBLISH and SUBSCRIBE. */
#ifndef OPALD_BROADCAST_REDIS_REDIS_H
#define OPALD_BROADCAST_REDIS_REDIS_H

#include "broadcast/backend/backend.h"

extern const struct broadcast_backend broadcast_redis;

#endif
