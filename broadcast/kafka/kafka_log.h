/* librdkafka's own log lines in our log: same level, limited by kind of line so that an outage does not flood
 * it. */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_LOG_H
#define OPALD_BROADCAST_KAFKA_KAFKA_LOG_H

#include "shm/common/log.h"

#define KAFKA_LOG_LIMITERS 32

struct kafka_log {
    struct log_limiter limiters[KAFKA_LOG_LIMITERS];
};

/* `level` is syslog's number; `facility` librdkafka's name of the kind of line. Loop thread only
 * (log.queue=true). */
void kafka_log_write(
    struct kafka_log *log, const char *who, int level, const char *facility, const char *text);

#endif
