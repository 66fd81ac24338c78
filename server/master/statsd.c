#include "server/master/statsd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broadcast/net/resolver.h"
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"
#include "shm/common/text.h"
#include "shm/common/loggers.h"
#include "shm/figures.h"
#include "shm/worker_table.h"

#define STATSD_MAGIC 0x73746174u
#define PREFIX       "permit.opal."
#define PACKET_BYTES 1432 /* DogStatsD's own limit: fits an Ethernet frame */

struct statsd {
    uint32_t magic;
    const struct config *config;
    const struct segment *segment;
    struct event_base *base;
    struct event *tick;
    /* while the name is looked up */
    struct resolver *resolver;
    /* -1: the agent's address is not known (yet) */
    int socket;
    /* "startup" was sent */
    bool started;
    struct text packet;
    /* of each counter, what the agent has been told */
    uint64_t sent[COUNTER_COUNT];
    struct log_limiter unreachable;
};

/* ---- packets ---- */

static void drop_socket(struct statsd *statsd, int error)
{
    log_write_limited(&statsd->unreachable, LOG_WARNING, LOGGER_STATSD,
        "Error submitting packet: %s, dropping the packet (DogStatsD agent at %s:%d)", strerror(error),
        statsd->config->statsd_host, statsd->config->statsd_port);
    close(statsd->socket);
    statsd->socket = -1;
}

static void flush(struct statsd *statsd)
{
    if (statsd->packet.length > 0 && statsd->socket >= 0 &&
        send(statsd->socket, statsd->packet.data, statsd->packet.length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
        errno != EAGAIN && errno != EINTR)
        drop_socket(statsd, errno);
    text_clear(&statsd->packet);
}

static void add_line(struct statsd *statsd, const struct text *line)
{
    if (statsd->packet.length + line->length + 1 > PACKET_BYTES)
        flush(statsd);
    if (statsd->packet.length > 0)
        text_append_char(&statsd->packet, '\n');
    text_append(&statsd->packet, line->data, line->length);
}

/* `name` is a metric's, perhaps with labels: events{direction="published"} becomes events and the tag
 * direction:published. */
static void add_metric(struct statsd *statsd, const char *name, uint64_t value, const char *type)
{
    struct text line = {0};
    size_t length = strcspn(name, "{");
    text_append_format(&line, PREFIX "opald.%.*s:%" PRIu64 "|%s", (int)length, name, value, type);
    if (name[length] == '{') {
        text_append_string(&line, "|#");
        for (const char *byte = name + length + 1; *byte && *byte != '}'; byte++)
            if (*byte != '"')
                text_append_char(&line, *byte == '=' ? ':' : *byte);
    }
    add_line(statsd, &line);
    text_free(&line);
}

/* ---- what is sent ---- */

static void add_startup(struct statsd *statsd)
{
    struct text line = {0};
    if (statsd->started)
        return;
    statsd->started = true;
    text_append_string(&line, PREFIX "startup:1|c");
    add_line(statsd, &line);
    text_free(&line);
}

static void add_backbone(struct statsd *statsd)
{
    enum backbone_state state = backbone_state_read(statsd->segment);
    struct text line = {0};
    if (state == BACKBONE_NONE)
        return;
    text_append_format(&line, PREFIX "opal_server.broadcaster_reader_healthy:%d|g|#pid:%d",
        state == BACKBONE_UP, (int)getpid());
    add_line(statsd, &line);
    text_free(&line);
    add_metric(statsd, "backbone_up", state == BACKBONE_UP, "g");
}

static void add_counters(struct statsd *statsd)
{
    for (int i = 0; i < COUNTER_COUNT; i++) {
        uint64_t sum = counter_sum(statsd->segment, (enum counter)i);
        if (sum > statsd->sent[i])
            add_metric(statsd, counter_name((enum counter)i), sum - statsd->sent[i], "c");
        statsd->sent[i] = sum;
    }
}

static void add_gauges(struct statsd *statsd)
{
    uint64_t connections = 0;
    uint64_t ready = 0;
    for (unsigned slot = 0; slot < segment_slot_count(statsd->segment); slot++) {
        connections += worker_table_connections(statsd->segment, slot);
        ready += worker_table_state(statsd->segment, slot) == WORKER_READY;
    }
    add_metric(statsd, "connections", connections, "g");
    add_metric(statsd, "workers_ready", ready, "g");
#define ADD_GAUGE(enumerator, name, help) \
    add_metric(statsd, name, gauge_sum(statsd->segment, GAUGE_##enumerator), "g");
    GAUGES(ADD_GAUGE)
#undef ADD_GAUGE
}

static void send_all(struct statsd *statsd)
{
    if (statsd->socket < 0)
        return;
    add_startup(statsd);
    add_backbone(statsd);
    add_counters(statsd);
    add_gauges(statsd);
    flush(statsd);
}

/* ---- the agent's address ---- */

/* A socket to `address`, or -1. */
static int open_socket(const struct resolver_address *address)
{
    int fd = socket(address->address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, (const struct sockaddr *)&address->address, address->length) == 0)
        return fd;
    close(fd);
    return -1;
}

/* On this host an empty packet tells at once when nothing listens there; elsewhere nobody knows, which is
 * good enough. */
static bool is_refused(int fd)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (send(fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return errno == ECONNREFUSED;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == ECONNREFUSED;
}

/* The first address where something listens; without one, the first that can be used. */
static int choose_socket(const struct resolver_address *addresses, size_t count)
{
    int fallback = -1;
    for (size_t i = 0; i < count; i++) {
        int fd = open_socket(&addresses[i]);
        if (fd < 0)
            continue;
        if (!is_refused(fd)) {
            if (fallback >= 0)
                close(fallback);
            return fd;
        }
        if (fallback < 0)
            fallback = fd;
        else
            close(fd);
    }
    return fallback;
}

static void on_resolved(
    void *context, const struct resolver_address *addresses, size_t count, const char *failure)
{
    struct statsd *statsd = object_cast(struct statsd, STATSD_MAGIC, context);
    statsd->resolver = NULL;
    statsd->socket = choose_socket(addresses, count);
    if (statsd->socket < 0)
        log_write_limited(&statsd->unreachable, LOG_WARNING, LOGGER_STATSD,
            "no DogStatsD agent at %s: %s; the next attempt comes in %g s", statsd->config->statsd_host,
            failure ? failure : "no address can be used", statsd->config->statsd_interval);
    send_all(statsd);
}

static void on_tick(evutil_socket_t descriptor, short what, void *context)
{
    struct statsd *statsd = object_cast(struct statsd, STATSD_MAGIC, context);
    (void)descriptor;
    (void)what;
    if (statsd->socket >= 0)
        send_all(statsd);
    else if (!statsd->resolver)
        statsd->resolver = resolver_start(
            statsd->base, statsd->config->statsd_host, statsd->config->statsd_port, on_resolved, statsd);
}

struct statsd *statsd_open(
    struct event_base *base, const struct config *config, const struct segment *segment)
{
    struct statsd *statsd = memory_allocate(sizeof *statsd);
    statsd->magic = STATSD_MAGIC;
    double interval = config->statsd_interval;
    struct timeval each = clock_timeval(interval);
    statsd->config = config;
    statsd->segment = segment;
    statsd->base = base;
    statsd->socket = -1;
    statsd->tick = event_new(base, -1, EV_PERSIST, on_tick, statsd);
    if (!statsd->tick)
        abort(); /* only out of memory */
    event_add(statsd->tick, &each);
    log_write(LOG_INFO, LOGGER_STATSD, "DogStatsD metrics enabled; statsd: %s:%d", config->statsd_host,
        config->statsd_port);
    on_tick(-1, 0, statsd);
    return statsd;
}

void statsd_close(struct statsd *statsd)
{
    if (!statsd)
        return;
    send_all(statsd);
    resolver_cancel(statsd->resolver);
    event_free(statsd->tick);
    if (statsd->socket >= 0)
        close(statsd->socket);
    text_free(&statsd->packet);
    statsd->magic = 0;
    free(statsd);
}
