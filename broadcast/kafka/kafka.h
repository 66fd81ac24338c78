/* kafka://, kafka+mock://: librdkafka. */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_H
#define OPALD_BROADCAST_KAFKA_KAFKA_H

#include "broadcast/backend/backend.h"

extern const struct broadcast_backend broadcast_kafka;

#endif
