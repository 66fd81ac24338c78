#include "broadcast/kafka_log.h"

/* syslog.h's names clash with enum log_level's, so its numbers stand here: 0 to 2 worse than an error, 3 error, 4 warning,
 * 5 notice, 6 information, 7 debug. */
static enum log_level kafka_log_level(int level)
{
    static const enum log_level levels[] = {
        LOG_CRITICAL, LOG_CRITICAL, LOG_CRITICAL, LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_INFO, LOG_DEBUG};
    return levels[level < 0 ? 0 : level > 7 ? 7 : level];
}

void kafka_log_write(
    struct kafka_log *log, const char *who, int level, const char *facility, const char *text)
{
    enum log_level ours = kafka_log_level(level);
    if (ours == LOG_DEBUG) {
        log_write(LOG_DEBUG, KAFKA_LOGGER, "Kafka %s: %s: %s", who, facility, text);
        return;
    }
    unsigned hash = (unsigned)level;
    for (const char *c = facility; *c; c++)
        hash = hash * 31 + (unsigned char)*c;
    log_write_limited(&log->limiters[hash % KAFKA_LOG_LIMITERS], ours, KAFKA_LOGGER, "Kafka %s: %s: %s", who,
        facility, text);
}
