/*
 * Opens one backbone, of any kind, and speaks it by lines, for test_kafka_backend.py,
 * test_redis_backbone.py and test_postgres_backbone.py.
 *   kafka_driver URI CHANNEL NOTIFIER_ID [option=value ...]
 * In:  publish TOPIC JSON | ask TOPIC JSON (publishes with a token: 1, 2, ...) | flood TOPIC COUNT | pause |
 *      resume | counts | close
 * Out: event TOPIC[,TOPIC] TIME DATA | state NAME | gap MILLISECONDS WHY | refused NAME |
 *      acknowledged TOKEN OK | counts ... | closed UNSENT
 * TIME is CLOCK_MONOTONIC in ns. The log goes to standard error.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broadcast/broadcast.h"
#include "shm/common/clock.h"
#include "shm/common/log.h"

struct driver {
    struct event_base *base;
    struct broadcast *broadcast;
    struct text input;
    bool paused;
    unsigned batches;
    unsigned offers_refused;
    /* of the last `ask` */
    uint64_t token;
    uint64_t counts[BROADCAST_COUNT_TOO_LARGE + 1];
};

static bool on_event(void *context, const struct notification *notification)
{
    struct driver *driver = context;
    if (driver->paused) {
        driver->offers_refused++;
        return false;
    }
    printf("event ");
    for (uint32_t i = 0; i < notification->topic_count; i++)
        printf("%s%.*s", i ? "," : "", (int)notification->topics[i].length, notification->topics[i].data);
    printf(
        " %" PRIu64 " %.*s\n", clock_monotonic_ns(), (int)notification->data.length, notification->data.data);
    return true;
}

static void on_state(void *context, enum backbone_state state)
{
    static const char *const names[] = {"NONE", "CONNECTING", "UP", "GAP", "LOST"};
    (void)context;
    printf("state %s\n", names[state]);
}

static void on_gap(void *context, uint64_t gap_ns, const char *why)
{
    (void)context;
    printf("gap %" PRIu64 " %s\n", gap_ns / CLOCK_MILLISECOND, why);
}

static void on_count(void *context, enum broadcast_count what, uint64_t amount)
{
    struct driver *driver = context;
    driver->counts[what] += amount;
}

static void on_batch_end(void *context)
{
    struct driver *driver = context;
    driver->batches++;
}

static void on_acknowledged(void *context, uint64_t token, bool ok)
{
    (void)context;
    printf("acknowledged %" PRIu64 " %d\n", token, ok);
}

static void publish(struct driver *driver, struct slice topic, struct slice data, uint64_t token)
{
    if (broadcast_publish(driver->broadcast, topic, data, token) < 0)
        printf("refused %s\n", errno == ENOBUFS    ? "ENOBUFS"
                               : errno == EMSGSIZE ? "EMSGSIZE"
                                                   : strerror(errno));
}

static void print_counts(const struct driver *driver)
{
    printf("counts sent=%" PRIu64 " send_failed=%" PRIu64 " own=%" PRIu64 " rejected=%" PRIu64
           " reconnect=%" PRIu64 " too_large=%" PRIu64 " batches=%u offers_refused=%u\n",
        driver->counts[BROADCAST_COUNT_SENT], driver->counts[BROADCAST_COUNT_SEND_FAILED],
        driver->counts[BROADCAST_COUNT_OWN], driver->counts[BROADCAST_COUNT_REJECTED],
        driver->counts[BROADCAST_COUNT_RECONNECT], driver->counts[BROADCAST_COUNT_TOO_LARGE], driver->batches,
        driver->offers_refused);
}

static void obey(struct driver *driver, char *line)
{
    char *rest = strchr(line, ' ');
    char *data = rest ? strchr(rest + 1, ' ') : NULL;
    if (rest)
        *rest++ = '\0';
    if (data)
        *data++ = '\0';
    if (strcmp(line, "publish") == 0 && data) {
        publish(driver, slice_from_string(rest), slice_from_string(data), 0);
    } else if (strcmp(line, "ask") == 0 && data) {
        publish(driver, slice_from_string(rest), slice_from_string(data), ++driver->token);
    } else if (strcmp(line, "stamp") == 0 && rest) { /* publishes the time */
        char now[32];
        snprintf(now, sizeof now, "%" PRIu64, clock_monotonic_ns());
        publish(driver, slice_from_string(rest), slice_from_string(now), 0);
    } else if (strcmp(line, "flood") == 0 && data) {
        for (long i = 0, count = strtol(data, NULL, 10); i < count; i++) {
            char number[32];
            snprintf(number, sizeof number, "%ld", i);
            publish(driver, slice_from_string(rest), slice_from_string(number), 0);
        }
    } else if (strcmp(line, "pause") == 0) {
        driver->paused = true;
    } else if (strcmp(line, "resume") == 0) {
        driver->paused = false;
        broadcast_resume(driver->broadcast);
    } else if (strcmp(line, "counts") == 0) {
        print_counts(driver);
    } else if (strcmp(line, "close") == 0) {
        event_base_loopbreak(driver->base);
    } else {
        printf("what? %s\n", line);
    }
}

static void on_input(evutil_socket_t descriptor, short what, void *context)
{
    struct driver *driver = context;
    char *end;
    (void)what;
    char *place = text_reserve(&driver->input, 65536);
    ssize_t got = read(descriptor, place, 65536);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            event_base_loopbreak(driver->base);
        return;
    }
    driver->input.length += (size_t)got;
    char *line = driver->input.data;
    while ((end = memchr(line, '\n', driver->input.length - (size_t)(line - driver->input.data)))) {
        *end = '\0';
        obey(driver, line);
        line = end + 1;
    }
    size_t rest = driver->input.length - (size_t)(line - driver->input.data);
    memmove(driver->input.data, line, rest);
    driver->input.length = rest;
}

static double option(int argc, char **argv, const char *name, double otherwise)
{
    for (int i = 4; i < argc; i++)
        if (strncmp(argv[i], name, strlen(name)) == 0 && argv[i][strlen(name)] == '=')
            return strtod(argv[i] + strlen(name) + 1, NULL);
    return otherwise;
}

int main(int argc, char **argv)
{
    static const struct broadcast_callbacks callbacks = {.event = on_event,
        .state = on_state,
        .gap = on_gap,
        .count = on_count,
        .batch_end = on_batch_end,
        .acknowledged = on_acknowledged};
    struct driver driver = {0};
    struct error err = {0};
    if (argc < 4) {
        fprintf(stderr, "usage: kafka_driver URI CHANNEL NOTIFIER_ID [option=value ...]\n");
        return 2;
    }
    bool debug = option(argc, argv, "debug", 0) > 0;
    log_configure(&(struct log_settings){.level = debug ? LOG_DEBUG : LOG_INFO});
    signal(SIGPIPE, SIG_IGN); /* as the master does */
    setvbuf(stdout, NULL, _IOLBF, 1 << 16);
    const struct event_limits limits = {
        .event_max_bytes = (size_t)option(argc, argv, "event_max_bytes", 1 << 20), .json_max_depth = 200};
    const struct broadcast_settings settings = {
        .uri = argv[1],
        .channel = argv[2],
        .notifier_id = argv[3],
        .limits = &limits,
        .queue_max_bytes = (size_t)option(argc, argv, "queue_max_bytes", 64 << 20),
        .queue_max_messages = (size_t)option(argc, argv, "queue_max_messages", 100000),
        .reconnect_backoff_min = option(argc, argv, "backoff_min", 0.1),
        .reconnect_backoff_max = option(argc, argv, "backoff_max", 1),
        .replay_buffer_size = (size_t)option(argc, argv, "replay", 10000),
        .settle_seconds = option(argc, argv, "settle", 2),
        .heartbeat_deadline = option(argc, argv, "deadline", 60),
        .reconnect_max_retries = (int64_t)option(argc, argv, "max_retries", 0),
        .reconnect_enabled = option(argc, argv, "no_reconnect", 0) <= 0,
        .kafka_config = getenv("DRIVER_KAFKA_CONFIG"),
        .postgres_schema = getenv("DRIVER_SCHEMA") ? getenv("DRIVER_SCHEMA") : "opald",
    };
    driver.base = event_base_new();
    driver.broadcast = broadcast_open(driver.base, &settings, &callbacks, &driver, &err);
    if (!driver.broadcast) {
        printf("error %s\n", err.text);
        event_base_free(driver.base);
        return 2;
    }
    fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
    struct event *input = event_new(driver.base, STDIN_FILENO, EV_READ | EV_PERSIST, on_input, &driver);
    event_add(input, NULL);
    event_base_dispatch(driver.base);
    size_t unsent = broadcast_close(driver.broadcast, (int)option(argc, argv, "grace_ms", 3000));
    print_counts(&driver);
    printf("closed %zu\n", unsent);
    event_free(input);
    event_base_free(driver.base);
    text_free(&driver.input);
    return 0;
}
