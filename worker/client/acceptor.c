/*
 * All workers accept from the same listening sockets, so a connection is never stuck in the queue of a dead or busy worker. That alone
 * spreads them badly: whoever is awake takes all. So a worker that has clearly more connections than the least loaded one gives the
 * accepted socket to that one (SCM_RIGHTS over its SOCK_SEQPACKET pair). What cannot be given is kept; what was given is kept by the
 * receiver, whatever its own count, so that nothing travels twice.
 */
#include "worker/client/acceptor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"
#include "worker/client/context.h"
#include "worker/client/inquiry.h"

#define ACCEPTOR_BATCH     16 /* per wake-up, then the others get their turn */
#define ACCEPTOR_SLACK_MIN 4
#define ACCEPTOR_PAUSE_MS  100 /* after an error that is likely to stay */
/* A worker that has not beaten for this long, five beats, gets no connections. */
#define ACCEPTOR_BEAT_NS CLOCK_SECOND

struct acceptor {
    struct worker *worker;
    struct event *listeners[WORKER_LISTENERS_MAX];
    int descriptors[WORKER_LISTENERS_MAX];
    int count;
    struct event *receive;
    int handoff_receive;
    int handoff_send[SEGMENT_SLOTS_MAX];
    unsigned slot_count;
    uint64_t now_ns; /* of this batch */
    uint32_t loads
        [SEGMENT_SLOTS_MAX]; /* of this batch: what the table says, what is on its way and what was given since */
    int message_cost; /* what one connection on its way takes of a socket's buffer, in the kernel's bytes */
    struct event *resume;
    int spare; /* kept open for the moment when descriptors run out */
    struct log_limiter full;
    struct log_limiter failed;
};

/* ---- spreading ---- */

static bool acceptor_slot_open(const struct acceptor *acceptor, unsigned slot)
{
    const struct segment *segment = acceptor->worker->segment;
    if (slot == acceptor->worker->slot)
        return true;
    /* A stopped worker has few connections and would be given all the new ones, which nobody would serve. */
    return worker_table_state(segment, slot) == WORKER_READY && acceptor->handoff_send[slot] >= 0 &&
           worker_table_heartbeat(segment, slot) + ACCEPTOR_BEAT_NS > acceptor->now_ns;
}

static bool acceptor_give(int to, int fd)
{
    return handoff_message_send(to, &(struct handoff_message){.kind = HANDOFF_CONNECTION}, fd);
}

/* What the kernel counts for one message with a descriptor in it. */
static int acceptor_message_cost(void)
{
    int pair[2], cost = 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return 0;
    if (!acceptor_give(pair[0], pair[1]) || ioctl(pair[0], SIOCOUTQ, &cost) < 0)
        cost = 0;
    close(pair[0]);
    close(pair[1]);
    return cost;
}

/* Connections that were given to the slot, by whomever, and that it has not taken yet: all workers send through the same socket, whose
 * buffer tells. Without these several workers would fill the emptiest one far beyond the others. */
static uint32_t acceptor_on_the_way(const struct acceptor *acceptor, unsigned slot)
{
    int bytes = 0;
    if (acceptor->message_cost <= 0 || acceptor->handoff_send[slot] < 0 ||
        ioctl(acceptor->handoff_send[slot], SIOCOUTQ, &bytes) < 0 || bytes < 0)
        return 0;
    return (uint32_t)(bytes / acceptor->message_cost);
}

static uint64_t acceptor_load_all(struct acceptor *acceptor)
{
    uint64_t total = 0;
    acceptor->now_ns = clock_monotonic_ns();
    for (unsigned slot = 0; slot < acceptor->slot_count; slot++) {
        acceptor->loads[slot] = worker_table_connections(acceptor->worker->segment, slot);
        if (worker_table_state(acceptor->worker->segment, slot) == WORKER_READY)
            acceptor->loads[slot] += acceptor_on_the_way(acceptor, slot);
        total += acceptor->loads[slot];
    }
    return total;
}

/* The slot that should have the next connection: this worker's own unless another has clearly fewer. */
static unsigned acceptor_choose(const struct acceptor *acceptor)
{
    const struct worker *worker = acceptor->worker;
    unsigned least = worker->slot, live = 0;
    uint64_t total = 0;
    for (unsigned slot = 0; slot < acceptor->slot_count; slot++) {
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
    return acceptor->loads[worker->slot] > acceptor->loads[least] + slack ? least : worker->slot;
}

bool acceptor_send(
    const struct acceptor *acceptor, unsigned slot, const struct handoff_message *message, int fd)
{
    return slot < acceptor->slot_count && acceptor->handoff_send[slot] >= 0 &&
           handoff_message_send(acceptor->handoff_send[slot], message, fd);
}

/* ---- accepting ---- */

static void acceptor_pause(struct acceptor *acceptor)
{
    struct timeval pause = {.tv_usec = ACCEPTOR_PAUSE_MS * 1000};
    for (int i = 0; i < acceptor->count; i++)
        event_del(acceptor->listeners[i]);
    event_add(acceptor->resume, &pause);
}

static void acceptor_on_resume(evutil_socket_t fd, short what, void *argument)
{
    struct acceptor *acceptor = argument;
    (void)fd;
    (void)what;
    if (acceptor->spare < 0)
        acceptor->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (int i = 0; i < acceptor->count; i++)
        event_add(acceptor->listeners[i], NULL);
}

/* No descriptor is left: the one kept in reserve lets the connection be taken and closed, so that its client knows. */
static void acceptor_out_of_descriptors(struct acceptor *acceptor, int listener)
{
    struct worker *worker = acceptor->worker;
    log_write_limited(
        &acceptor->failed, LOG_ERROR, LOGGER_WORKER, "Cannot accept connections: %s", strerror(errno));
    if (acceptor->spare >= 0) {
        close(acceptor->spare);
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            close(fd);
            worker_count(worker, COUNTER_CONNECTIONS_REFUSED_LIMIT, 1);
        }
        acceptor->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    acceptor_pause(acceptor);
}

static void acceptor_place(struct acceptor *acceptor, int fd)
{
    struct worker *worker = acceptor->worker;
    worker_count(worker, COUNTER_CONNECTIONS_ACCEPTED, 1);
    unsigned slot = acceptor_choose(acceptor);
    if (slot != worker->slot && acceptor_give(acceptor->handoff_send[slot], fd)) {
        close(fd);
        acceptor->loads[slot]++;
        worker_count(worker, COUNTER_CONNECTIONS_HANDED, 1);
        return;
    }
    connection_open(worker, fd);
    acceptor->loads[worker->slot]++;
}

static void acceptor_on_listener(evutil_socket_t listener, short what, void *argument)
{
    struct acceptor *acceptor = argument;
    struct worker *worker = acceptor->worker;
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
        if (total++ >= (uint64_t)worker->config->connections_max) {
            worker_count(worker, COUNTER_CONNECTIONS_REFUSED_LIMIT, 1);
            close(fd);
            log_write_limited(&acceptor->full, LOG_WARNING, LOGGER_WORKER,
                "Connection refused: the limit of %lld connections is reached",
                (long long)worker->config->connections_max);
            continue;
        }
        acceptor_place(acceptor, fd);
    }
}

/* ---- receiving ---- */

static void acceptor_on_receive(evutil_socket_t from, short what, void *argument)
{
    struct acceptor *acceptor = argument;
    (void)what;
    for (int i = 0; i < ACCEPTOR_BATCH; i++) {
        struct handoff_message handed = {0};
        int fd;
        if (!handoff_message_receive(from, &handed, &fd))
            return;
        if (handed.kind != HANDOFF_CONNECTION) {
            inquiry_received(acceptor->worker->inquiry, &handed, fd);
            continue;
        }
        if (fd >= 0) {
            connection_open(acceptor->worker, fd);
            continue;
        }
        /* no descriptor was left for it: the kernel has closed it */
        worker_count(acceptor->worker, COUNTER_CONNECTIONS_REFUSED_LIMIT, 1);
        log_write_limited(&acceptor->failed, LOG_ERROR, LOGGER_WORKER,
            "A connection from another worker is lost: no descriptor is left for it");
    }
}

/* ---- life ---- */

static struct event *acceptor_event(struct acceptor *acceptor, int fd, event_callback_fn callback)
{
    struct event *event = event_new(
        acceptor->worker->base, fd, (short)(fd >= 0 ? EV_READ | EV_PERSIST : 0), callback, acceptor);
    if (!event)
        abort(); /* only out of memory */
    return event;
}

struct acceptor *acceptor_open(struct worker *worker, const struct worker_descriptors *descriptors)
{
    struct acceptor *acceptor = memory_allocate(sizeof(*acceptor));
    acceptor->worker = worker;
    acceptor->count = descriptors->listener_count;
    acceptor->slot_count = descriptors->slot_count;
    acceptor->handoff_receive = descriptors->handoff_receive;
    acceptor->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    acceptor->message_cost = acceptor_message_cost();
    acceptor->resume = acceptor_event(acceptor, -1, acceptor_on_resume);
    for (unsigned slot = 0; slot < acceptor->slot_count; slot++)
        acceptor->handoff_send[slot] = descriptors->handoff_send[slot];
    for (int i = 0; i < acceptor->count; i++) {
        acceptor->descriptors[i] = descriptors->listeners[i];
        evutil_make_socket_nonblocking(acceptor->descriptors[i]);
        acceptor->listeners[i] = acceptor_event(acceptor, acceptor->descriptors[i], acceptor_on_listener);
        event_add(acceptor->listeners[i], NULL);
    }
    if (acceptor->handoff_receive >= 0) {
        acceptor->receive = acceptor_event(acceptor, acceptor->handoff_receive, acceptor_on_receive);
        event_add(acceptor->receive, NULL);
    }
    return acceptor;
}

void acceptor_stop(struct acceptor *acceptor)
{
    event_del(acceptor->resume);
    for (int i = 0; i < acceptor->count; i++) {
        event_free(acceptor->listeners[i]);
        close(acceptor->descriptors[i]);
    }
    acceptor->count = 0;
}

void acceptor_close(struct acceptor *acceptor)
{
    acceptor_stop(acceptor);
    event_free(acceptor->resume);
    if (acceptor->receive) {
        event_free(acceptor->receive);
        close(acceptor->handoff_receive);
    }
    for (unsigned slot = 0; slot < acceptor->slot_count; slot++)
        if (acceptor->handoff_send[slot] >= 0)
            close(acceptor->handoff_send[slot]);
    if (acceptor->spare >= 0)
        close(acceptor->spare);
    free(acceptor);
}
