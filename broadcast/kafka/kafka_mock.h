/* kafka+mock://: librdkafka's mock cluster (one broker, one topic with one partition) inside this process.
 * For trials and tests only: it forgets everything at the end, and keeps 5 MiB of messages. */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_MOCK_H
#define OPALD_BROADCAST_KAFKA_KAFKA_MOCK_H

#include "shm/common/error.h"
#include "shm/common/object.h"

struct kafka_mock;

struct kafka_mock *kafka_mock_open(const char *topic, struct error *err) MUST_CHECK;
/* "127.0.0.1:port", valid while open. */
const char *kafka_mock_brokers(const struct kafka_mock *mock);
void kafka_mock_close(struct kafka_mock *mock);

#endif
