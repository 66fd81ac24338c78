/*
 * Log lines in the reference's format (loguru default of opal-server 0.9.9):
 *   2026-11-24T02:57:13.790739+0000 | opald.worker                            | INFO  | message
 * One write(2) a line, so that lines of several processes don't mix. Secrets: userinfo in URLs becomes ***@
 * and sensitive query values *** here, at the sink, whoever logs.
 */
#ifndef OPALD_SHM_COMMON_LOG_H
#define OPALD_SHM_COMMON_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/object.h"

enum log_level { LOG_TRACE, LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR, LOG_CRITICAL };

struct log_settings {
    enum log_level level;
    bool include_pid;
    bool colorize;
    /* one JSON object a line, {"text": ..., "record": {...}} */
    bool serialize;
    /* OPAL_LOG_PIPE_TO_STDERR=false */
    bool to_stdout;
};

/* Once per process, before the first line; `settings` is copied. */
void log_configure(const struct log_settings *settings);
MUST_CHECK bool log_level_parse(const char *name, enum log_level *level); /* "INFO", any case */
bool log_enabled(enum log_level level);

/* `logger` names the module ("opald.worker"); the text is printf-formatted, cut at 16 KiB, line feeds
 * inside become "\n" text. */
void log_write(enum log_level level, const char *logger, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A limiter lets the first line through and then one per `LOG_LIMIT_SECONDS`, with "(N more of these)"
 * appended. Zero-initialise; one per place and reason, static or in the context. */
#define LOG_LIMIT_SECONDS 10
struct log_limiter {
    uint64_t next_ns;
    uint64_t suppressed;
};
void log_write_limited(struct log_limiter *limiter, enum log_level level, const char *logger,
    const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
