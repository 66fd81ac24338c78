/*
 * All workers accept from the same listening sockets, so a connection is never stuck in the queue of a dead
 * or busy worker. That alone spreads them badly: the worker that is awake takes all. So a worker that has
 * clearly more connections than the least loaded one gives the accepted socket to that one (SCM_RIGHTS,
 * peers.h). What cannot be given is kept; what was given is kept by the receiver, whatever its own count, so
 * that nothing travels twice.
 */
#include "worker/client/acceptor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/worker_table.h"

#define ACCEPTOR_MAGIC     UINT32_C(0xacce7013)
#define ACCEPTOR_BATCH     16 /* per wake-up, then the others get their turn */
#define ACCEPTOR_SLACK_MIN 4
#define ACCEPTOR_PAUSE_MS  100 /* after an error that is likely to stay */
/* A worker that has not beaten for this long, five beats, gets no connections. */
#define ACCEPTOR_BEAT_NS CLOCK_SECOND

struct acceptor_listener {
    int fd;
    struct event *event;
};

struct acceptor {
    uint32_t magic;
    struct acceptor_settings settings;
    struct acceptor_listener *listeners;
    int count;
    /* of this batch */
    uint64_t now_ns;
    /* of this batch: what the table says, what is on its way and what was given since */
    uint32_t loads[SEGMENT_SLOTS_MAX];
    struct event *resume;
    /* kept open for the moment when descriptors run out */
    int spare;
    struct log_limiter full;
    struct log_limiter failed;
};

static void acceptor_count(const struct acceptor *acceptor, enum counter counter)
{
    counter_add(acceptor->settings.segment, acceptor->settings.slot, counter, 1);
}

/* ---- spreading ---- */

static bool acceptor_slot_open(const struct acceptor *acceptor, unsigned slot)
{
    const struct segment *segment = acceptor->settings.segment;
    if (slot == acceptor->settings.slot)
        return true;
    /* A stopped worker has few connections and would be given all the new ones, which nobody would serve. */
    return worker_table_state(segment, slot) == WORKER_READY && peers_has(acceptor->settings.peers, slot) &&
           worker_table_heartbeat(segment, slot) + ACCEPTOR_BEAT_NS > acceptor->now_ns;
}

/* What is on its way counts too: otherwise several workers would fill the emptiest one far beyond the
 * others. */
static uint64_t acceptor_load_all(struct acceptor *acceptor)
{
    const struct segment *segment = acceptor->settings.segment;
    uint64_t total = 0;
    acceptor->now_ns = clock_monotonic_ns();
    for (unsigned slot = 0; slot < acceptor->settings.slot_count; slot++) {
        acceptor->loads[slot] = worker_table_connections(segment, slot);
        if (worker_table_state(segment, slot) == WORKER_READY)
            acceptor->loads[slot] += peers_on_the_way(acceptor->settings.peers, slot);
        total += acceptor->loads[slot];
    }
    return total;
}

/* The slot that should have the next connection: this worker's own unless another has clearly fewer. */
static unsigned acceptor_choose(const struct acceptor *acceptor)
{
    unsigned own = acceptor->settings.slot, least = own, live = 0;
    uint64_t total = 0;
    for (unsigned slot = 0; slot < acceptor->settings.slot_count; slot++) {
        if (!acceptor_slot_open(acceptor, slot))
            continue;
        live++;
        total += acceptor->loads[slot];
        if (acceptor->loads[slot] < acceptor->loads[least])
            least = slot;
    }
    uint64_t slack = live > 0 ? total / live / 16 : 0;
    if (slack < ACCEPTOR_SLACK_MIN)
        slack = ACCEPTOR_SLACK_MIN;
    return acceptor->loads[own] > acceptor->loads[least] + slack ? least : own;
}

/* ---- accepting ---- */

static void acceptor_pause(struct acceptor *acceptor)
{
    const struct timeval pause = {.tv_usec = ACCEPTOR_PAUSE_MS * 1000};
    for (int i = 0; i < acceptor->count; i++)
        event_del(acceptor->listeners[i].event);
    event_add(acceptor->resume, &pause);
}

static int acceptor_make_spare(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void acceptor_on_resume(evutil_socket_t fd, short what, void *argument)
{
    struct acceptor *acceptor = object_cast(struct acceptor, ACCEPTOR_MAGIC, argument);
    (void)fd;
    (void)what;
    if (acceptor->spare < 0)
        acceptor->spare = acceptor_make_spare();
    for (int i = 0; i < acceptor->count; i++)
        event_add(acceptor->listeners[i].event, NULL);
}

/* No descriptor is left: the one kept in reserve lets the connection be taken and closed, so that its client
 * knows. */
static void acceptor_out_of_descriptors(struct acceptor *acceptor, int listener)
{
    log_write_limited(
        &acceptor->failed, LOG_ERROR, LOGGER_WORKER, "Cannot accept connections: %s", strerror(errno));
    if (acceptor->spare >= 0) {
        close(acceptor->spare);
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            close(fd);
            acceptor_count(acceptor, COUNTER_CONNECTIONS_REFUSED_LIMIT);
        }
        acceptor->spare = acceptor_make_spare();
    }
    acceptor_pause(acceptor);
}

/* Gives the connection to the worker that should have it. */
static void acceptor_place(struct acceptor *acceptor, int fd)
{
    const struct handoff_message message = {.kind = HANDOFF_CONNECTION};
    unsigned slot = acceptor_choose(acceptor);
    acceptor_count(acceptor, COUNTER_CONNECTIONS_ACCEPTED);
    if (slot != acceptor->settings.slot && peers_send(acceptor->settings.peers, slot, &message, fd)) {
        close(fd);
        acceptor->loads[slot]++;
        acceptor_count(acceptor, COUNTER_CONNECTIONS_HANDED);
        return;
    }
    acceptor->settings.accepted(acceptor->settings.context, fd);
    acceptor->loads[acceptor->settings.slot]++;
}

static void acceptor_refuse(struct acceptor *acceptor, int fd)
{
    acceptor_count(acceptor, COUNTER_CONNECTIONS_REFUSED_LIMIT);
    close(fd);
    log_write_limited(&acceptor->full, LOG_WARNING, LOGGER_WORKER,
        "Connection refused: the limit of %llu connections is reached",
        (unsigned long long)acceptor->settings.connections_max);
}

static void acceptor_on_listener(evutil_socket_t listener, short what, void *argument)
{
    struct acceptor *acceptor = object_cast(struct acceptor, ACCEPTOR_MAGIC, argument);
    uint64_t total = acceptor_load_all(acceptor);
    (void)what;
    for (int i = 0; i < ACCEPTOR_BATCH; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            if (errno == EMFILE || errno == ENFILE) {
                acceptor_out_of_descriptors(acceptor, listener);
            } else if (errno != EAGAIN && errno != EWOULDBLOCK) {
                log_write_limited(&acceptor->failed, LOG_ERROR, LOGGER_WORKER,
                    "Cannot accept connections: %s", strerror(errno));
                acceptor_pause(acceptor);
            }
            return;
        }
        if (total++ >= acceptor->settings.connections_max)
            acceptor_refuse(acceptor, fd);
        else
            acceptor_place(acceptor, fd);
    }
}

/* A connection that another worker gives. */
static void acceptor_received(void *context, const struct handoff_message *message, int fd)
{
    struct acceptor *acceptor = object_cast(struct acceptor, ACCEPTOR_MAGIC, context);
    (void)message;
    if (fd >= 0) {
        acceptor->settings.accepted(acceptor->settings.context, fd);
        return;
    }
    /* no descriptor was left for it: the kernel has closed it */
    acceptor_count(acceptor, COUNTER_CONNECTIONS_REFUSED_LIMIT);
    log_write_limited(&acceptor->failed, LOG_ERROR, LOGGER_WORKER,
        "A connection from another worker is lost: no descriptor is left for it");
}

/* ---- life ---- */

static struct event *acceptor_event(struct acceptor *acceptor, int fd, short what, event_callback_fn callback)
{
    struct event *event = event_new(acceptor->settings.base, fd, what, callback, acceptor);
    if (!event)
        abort(); /* only out of memory */
    return event;
}

struct acceptor *acceptor_open(const struct acceptor_settings *settings)
{
    struct acceptor *acceptor = memory_allocate(sizeof *acceptor);
    acceptor->magic = ACCEPTOR_MAGIC;
    acceptor->settings = *settings;
    acceptor->count = settings->listener_count;
    acceptor->listeners = memory_allocate((size_t)acceptor->count * sizeof *acceptor->listeners);
    acceptor->spare = acceptor_make_spare();
    acceptor->resume = acceptor_event(acceptor, -1, 0, acceptor_on_resume);
    for (int i = 0; i < acceptor->count; i++) {
        struct acceptor_listener *listener = &acceptor->listeners[i];
        listener->fd = settings->listeners[i];
        evutil_make_socket_nonblocking(listener->fd);
        listener->event = acceptor_event(acceptor, listener->fd, EV_READ | EV_PERSIST, acceptor_on_listener);
        event_add(listener->event, NULL);
    }
    peers_register(settings->peers, HANDOFF_CONNECTION, acceptor_received, acceptor);
    return acceptor;
}

void acceptor_stop(struct acceptor *acceptor)
{
    event_del(acceptor->resume);
    for (int i = 0; i < acceptor->count; i++) {
        event_free(acceptor->listeners[i].event);
        close(acceptor->listeners[i].fd);
    }
    acceptor->count = 0;
}

void acceptor_close(struct acceptor *acceptor)
{
    acceptor_stop(acceptor);
    peers_register(acceptor->settings.peers, HANDOFF_CONNECTION, NULL, NULL);
    event_free(acceptor->resume);
    if (acceptor->spare >= 0)
        close(acceptor->spare);
    free(acceptor->listeners);
    acceptor->magic = 0;
    free(acceptor);
}
