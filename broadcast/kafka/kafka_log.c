#include "broadcast/kafka/kafka_log.h"

#include <string.h>
#include "shm/common/loggers.h"

#define KAFKA_LOG_WARNING 4
#define KAFKA_LOG_DEBUG   7

/* syslog.h's names clash with enum log_level's, so its numbers stand here: 0 to 2 worse than an error, 3
 * error, 4 warning, 5 notice, 6 information, 7 debug. */
static enum log_level kafka_log_level(int level)
{
    static const enum log_level levels[] = {
        LOG_CRITICAL, LOG_CRITICAL, LOG_CRITICAL, LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_INFO, LOG_DEBUG};
    return levels[level < 0 ? 0 : level > 7 ? 7 : level];
}

/* Two lines whose weight for an operator isn't what librdkafka says. */
static int kafka_log_weigh(int level, const char *facility, const char *text)
{
    /* We chose that property, and the producer's file head says why; nothing to worry about at each start. */
    if (strcmp(facility, "CONFWARN") == 0 && strstr(text, "enable.gapless.guarantee is experimental"))
        return KAFKA_LOG_DEBUG;
    /* A mere disconnect to librdkafka, but it will never work. */
    if (strcmp(facility, "FAIL") == 0 && level > KAFKA_LOG_WARNING &&
        strstr(text, "incorrect security.protocol"))
        return KAFKA_LOG_WARNING;
    return level;
}

void kafka_log_write(
    struct kafka_log *log, const char *who, int level, const char *facility, const char *text)
{
    level = kafka_log_weigh(level, facility, text);
    enum log_level ours = kafka_log_level(level);
    if (ours == LOG_DEBUG) {
        log_write(LOG_DEBUG, LOGGER_BROADCAST, "Kafka %s: %s: %s", who, facility, text);
        return;
    }
    unsigned hash = (unsigned)level;
    for (const char *c = facility; *c; c++)
        hash = hash * 31 + (unsigned char)*c;
    log_write_limited(&log->limiters[hash % KAFKA_LOG_LIMITERS], ours, LOGGER_BROADCAST, "Kafka %s: %s: %s",
        who, facility, text);
}
