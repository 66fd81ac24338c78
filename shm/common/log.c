#include "shm/common/log.h"
#include "shm/common/loggers.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "shm/common/clock.h"
#include "shm/common/log_redact.h"
#include "shm/common/utf8.h"

#define LOG_TEXT_MAX     (16 * 1024)
#define LOG_NAME_MAX     40
#define LOG_POLL_MS      50 /* how long the first line may wait for a full pipe; the next ones don't */
#define LOG_COLOUR_TIME  "\033[32m"
#define LOG_COLOUR_NAME  "\033[34m"
#define LOG_COLOUR_RESET "\033[0m"

struct level_style {
    const char *name;
    /* to six places */
    const char *centred;
    const char *colour;
    const char *icon;
    /* loguru's */
    int number;
};

static const struct level_style levels[] = {
    [LOG_TRACE] = {"TRACE", "TRACE ", "\033[36m\033[1m", "\xe2\x9c\x8f\xef\xb8\x8f", 5},
    [LOG_DEBUG] = {"DEBUG", "DEBUG ", "\033[34m\033[1m", "\xf0\x9f\x90\x9e", 10},
    [LOG_INFO] = {"INFO", " INFO ", "\033[1m", "\xe2\x84\xb9\xef\xb8\x8f", 20},
    [LOG_WARNING] = {"WARNING", "WARNING", "\033[33m\033[1m", "\xe2\x9a\xa0\xef\xb8\x8f", 30},
    [LOG_ERROR] = {"ERROR", "ERROR ", "\033[31m\033[1m", "\xe2\x9d\x8c", 40},
    [LOG_CRITICAL] = {"CRITICAL", "CRITICAL", "\033[41m\033[1m", "\xe2\x98\xa0\xef\xb8\x8f", 50},
};

enum sink { SINK_FILE, SINK_PIPE, SINK_SOCKET };

/* The process's logging context. Written once, before there are threads; `lost` may be touched by any
 * thread. */
static struct {
    struct log_settings settings;
    uint64_t start_ns;
    /* lines that a full pipe did not take */
    uint64_t lost;
    enum sink sink;
    /* non-blocking descriptor of the same pipe; 0: none */
    int own;
} logging = {.settings = {.level = LOG_INFO}};

/* A reader of the log that stands still must not stop the server. O_NONBLOCK on the descriptor itself would
 * reach everybody who shares it (the shell, other programs), so a pipe is opened anew; where that is not
 * allowed each line asks first whether there is room. */
static void log_open_sink(void)
{
    int standard = logging.settings.to_stdout ? STDOUT_FILENO : STDERR_FILENO;
    char path[32];
    struct stat status;
    if (logging.own > 0)
        close(logging.own);
    logging.own = 0;
    logging.sink = SINK_FILE;
    if (fstat(standard, &status) < 0)
        return;
    if (S_ISSOCK(status.st_mode))
        logging.sink = SINK_SOCKET;
    if (!S_ISFIFO(status.st_mode))
        return;
    logging.sink = SINK_PIPE;
    snprintf(path, sizeof path, "/proc/self/fd/%d", standard);
    int own = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (own > STDERR_FILENO)
        logging.own = own;
    else if (own >= 0)
        close(own);
}

void log_configure(const struct log_settings *settings)
{
    logging.settings = *settings;
    logging.start_ns = clock_monotonic_ns();
    log_open_sink();
}

bool log_level_parse(const char *name, enum log_level *level)
{
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        if (strcasecmp(name, levels[i].name) == 0) {
            *level = (enum log_level)i;
            return true;
        }
    }
    if (strcasecmp(name, "SUCCESS") ==
        0) /* loguru's level between INFO and WARNING, which nothing here uses */
        *level = LOG_WARNING;
    else
        return false;
    return true;
}

bool log_enabled(enum log_level level)
{
    return level >= logging.settings.level;
}

/* ---- one line ---- */

/* How many bytes at `at` may stand in a line as they are; 0: they must be escaped. */
static size_t printable_length(const uint8_t *at, const uint8_t *end)
{
    if (at[0] < 0x80)
        return (at[0] >= 0x20 && at[0] != 0x7f) || at[0] == '\t' ? 1 : 0;
    size_t length = utf8_length(at, end);
    /* C1: U+0080 to U+009F. */
    return length == 2 && at[0] == 0xc2 && at[1] <= 0x9f ? 0 : length;
}

/* What a peer sends and names of files may end up in a line: no control character (C0, DEL, C1) reaches a
 * terminal, and the log stays UTF-8. */
static void append_printable(struct text *out, struct slice message)
{
    const uint8_t *at = (const uint8_t *)message.data, *end = at + message.length, *plain = at;
    while (at < end) {
        size_t length = printable_length(at, end);
        if (length > 0) {
            at += length;
            continue;
        }
        text_append(out, plain, (size_t)(at - plain));
        /* The second byte of a C1 character is its number. */
        if (utf8_length(at, end) == 2)
            at++;
        if (*at == '\n')
            text_append_string(out, "\\n");
        else if (*at == '\r')
            text_append_string(out, "\\r");
        else
            text_append_format(out, "\\x%02x", *at);
        plain = ++at;
    }
    text_append(out, plain, (size_t)(end - plain));
}

/* 40 places: "a.b.c.d" that is longer becomes "a...d", and if that is too long its first 37 and "...". */
static void append_name(struct text *out, const char *name)
{
    char shortened[256];
    const char *first = strchr(name, '.');
    const char *last = strrchr(name, '.');
    if (strlen(name) > LOG_NAME_MAX && first != last) {
        snprintf(shortened, sizeof shortened, "%.*s...%s", (int)(first - name), name, last + 1);
        name = shortened;
    }
    if (strlen(name) > LOG_NAME_MAX)
        text_append_format(out, "%.*s...", LOG_NAME_MAX - 3, name);
    else
        text_append_format(out, "%-*s", LOG_NAME_MAX, name);
}

static void append_line(struct text *out, enum log_level level, const char *logger, struct slice message)
{
    bool colorize = logging.settings.colorize;
    char time_text[40];
    clock_format_log(time_text, sizeof time_text);
    if (colorize)
        text_append_format(out, LOG_COLOUR_TIME "%s" LOG_COLOUR_RESET " | ", time_text);
    else
        text_append_format(out, "%s | ", time_text);
    if (logging.settings.include_pid)
        text_append_format(out, "%d | ", (int)getpid());
    if (colorize)
        text_append_string(out, LOG_COLOUR_NAME);
    append_name(out, logger);
    text_append_string(out, colorize ? LOG_COLOUR_RESET "|" : "|");
    if (colorize)
        text_append_string(out, levels[level].colour);
    text_append_format(out, "%s | ", levels[level].centred);
    text_append_slice(out, message);
    text_append_string(out, colorize ? LOG_COLOUR_RESET "\n" : "\n");
}

static void append_time_record(struct text *out)
{
    struct timeval now;
    struct tm parts;
    char seconds[24];
    char zone[8];
    gettimeofday(&now, NULL);
    localtime_r(&now.tv_sec, &parts);
    strftime(seconds, sizeof seconds, "%Y-%m-%d %H:%M:%S", &parts);
    strftime(zone, sizeof zone, "%z", &parts);
    text_append_format(out, "\"time\": {\"repr\": \"%s.%06ld%.3s:%s\", \"timestamp\": %lld.%06ld}", seconds,
        (long)now.tv_usec, zone, zone + 3, (long long)now.tv_sec, (long)now.tv_usec);
}

static void append_elapsed(struct text *out)
{
    uint64_t microseconds = (clock_monotonic_ns() - logging.start_ns) / 1000;
    uint64_t seconds = logging.start_ns ? microseconds / 1000000 : 0;
    uint64_t fraction = logging.start_ns ? microseconds % 1000000 : 0;
    uint64_t days = seconds / 86400;
    text_append_string(out, "\"elapsed\": {\"repr\": \"");
    if (days) /* as Python shows a timedelta */
        text_append_format(out, "%" PRIu64 " day%s, ", days, days == 1 ? "" : "s");
    text_append_format(out,
        "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64 ".%06" PRIu64 "\", \"seconds\": %" PRIu64 ".%06" PRIu64 "}",
        seconds % 86400 / 3600, seconds % 3600 / 60, seconds % 60, fraction, seconds, fraction);
}

/* loguru's record. There is no source position to tell: file, function, line are empty. */
static void append_serialized(
    struct text *out, enum log_level level, const char *logger, struct slice line, struct slice message)
{
    const char *module = strrchr(logger, '.');
    text_append_string(out, "{\"text\": ");
    text_append_json_utf8(out, line);
    text_append_string(out, ", \"record\": {");
    append_elapsed(out);
    text_append_string(out,
        ", \"exception\": null, \"extra\": {}, \"file\": {\"name\": \"\", \"path\": \"\"}, "
        "\"function\": \"\", ");
    text_append_format(out,
        "\"level\": {\"icon\": \"%s\", \"name\": \"%s\", \"no\": %d}, \"line\": 0, \"message\": ",
        levels[level].icon, levels[level].name, levels[level].number);
    text_append_json_utf8(out, message);
    text_append_string(out, ", \"module\": ");
    text_append_json_utf8(out, slice_from_string(module ? module + 1 : logger));
    text_append_string(out, ", \"name\": ");
    text_append_json_utf8(out, slice_from_string(logger));
    text_append_format(out,
        ", \"process\": {\"id\": %d, \"name\": \"MainProcess\"}, \"thread\": {\"id\": %ld, \"name\": "
        "\"%s\"}, ",
        (int)getpid(), syscall(SYS_gettid), syscall(SYS_gettid) == getpid() ? "MainThread" : "Thread");
    append_time_record(out);
    text_append_string(out, "}}\n");
}

/* ---- out ---- */

static int log_descriptor(void)
{
    if (logging.own > 0)
        return logging.own;
    return logging.settings.to_stdout ? STDOUT_FILENO : STDERR_FILENO;
}

static ssize_t write_some(int fd, struct slice bytes)
{
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    if (logging.sink == SINK_SOCKET)
        return send(fd, bytes.data, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (logging.sink == SINK_PIPE && !logging.own && poll(&ready, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    return write(fd, bytes.data, bytes.length);
}

/* One write for the whole line as long as the kernel takes it whole. A pipe that stays full loses the line,
 * which the next line that goes through tells; until then nobody waits for it again. */
static bool write_whole(int fd, struct slice bytes)
{
    /* relaxed: as below */
    int patience = __atomic_load_n(&logging.lost, __ATOMIC_RELAXED) ? 0 : LOG_POLL_MS;
    size_t written = 0;
    while (written < bytes.length) {
        ssize_t count = write_some(fd, (struct slice){bytes.data + written, bytes.length - written});
        if (count >= 0) {
            written += (size_t)count;
            continue;
        }
        if (errno == EINTR)
            continue;
        struct pollfd ready = {.fd = fd, .events = POLLOUT};
        if ((errno != EAGAIN && errno != EWOULDBLOCK) || poll(&ready, 1, patience) <= 0)
            return false;
    }
    return true;
}

static void emit(enum log_level level, const char *logger, struct slice raw)
{
    int fd = log_descriptor();
    struct text printable = {0};
    struct text message = {0};
    struct text line = {0};
    append_printable(&printable, raw);
    log_redact(&message, text_slice(&printable));
    append_line(&line, level, logger, text_slice(&message));
    if (logging.settings.serialize) {
        text_clear(&printable);
        append_serialized(&printable, level, logger, text_slice(&line), text_slice(&message));
    }
    /* relaxed: a count, nothing is published by it */
    if (!write_whole(fd, text_slice(logging.settings.serialize ? &printable : &line)))
        __atomic_fetch_add(&logging.lost, 1, __ATOMIC_RELAXED);
    text_free(&printable);
    text_free(&message);
    text_free(&line);
}

static void emit_lost(void)
{
    char message[80];
    int fd = log_descriptor();
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    if (poll(&ready, 1, 0) == 0)
        return; /* still full: the count stays */
    uint64_t lost = __atomic_exchange_n(&logging.lost, 0, __ATOMIC_RELAXED);
    if (!lost)
        return;
    snprintf(message, sizeof message, "%" PRIu64 " log lines were lost: nobody read them in time", lost);
    emit(LOG_WARNING, LOGGER_LOG, slice_from_string(message));
}

/* `suffix` goes behind the text, also when that is cut. */
static void log_write_list(
    enum log_level level, const char *logger, const char *suffix, const char *format, va_list args)
{
    char buffer[LOG_TEXT_MAX + 64];
    int saved_errno = errno;
    /* one more byte than is shown: it tells whether the cut is inside a character */
    int length = vsnprintf(buffer, LOG_TEXT_MAX + 2, format, args);
    size_t used = length < 0 ? 0 : (size_t)length;
    if (used > LOG_TEXT_MAX) {
        used = LOG_TEXT_MAX;
        while (used && utf8_is_continuation((uint8_t)buffer[used]))
            used--;
        memcpy(buffer + used, "...", 3);
        used += 3;
    }
    used += (size_t)snprintf(buffer + used, sizeof buffer - used, "%s", suffix);
    if (__atomic_load_n(&logging.lost, __ATOMIC_RELAXED))
        emit_lost();
    emit(level, logger, (struct slice){buffer, used});
    errno = saved_errno;
}

void log_write(enum log_level level, const char *logger, const char *format, ...)
{
    va_list args;
    if (!log_enabled(level))
        return;
    va_start(args, format);
    log_write_list(level, logger, "", format, args);
    va_end(args);
}

void log_write_limited(
    struct log_limiter *limiter, enum log_level level, const char *logger, const char *format, ...)
{
    char suffix[48] = "";
    va_list args;
    uint64_t now = clock_monotonic_ns();
    if (!log_enabled(level))
        return;
    if (now < limiter->next_ns) {
        limiter->suppressed++;
        return;
    }
    if (limiter->suppressed)
        snprintf(suffix, sizeof suffix, " (%" PRIu64 " more of these)", limiter->suppressed);
    limiter->next_ns = now + LOG_LIMIT_SECONDS * CLOCK_SECOND;
    limiter->suppressed = 0;
    va_start(args, format);
    log_write_list(level, logger, suffix, format, args);
    va_end(args);
}
