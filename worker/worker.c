/*
 * The life of a worker process:
 *
 *   attach the shared memory -> listen -> READY -> [TERM: DRAINING, close clients at a pace] -> exit 0
 *
 * It ends at once when the master is gone (the lifeline pipe ends, and as a second belt the kernel's
 * parent-death signal), on INT, QUIT and a second TERM. What it leaves behind (the listening sockets, its
 * committed publishes, its counters) belongs to the master.
 */
#include "worker/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/figures.h"
#include "shm/link/publisher.h"
#include "shm/worker_table.h"
#include "worker/client/acceptor.h"
#include "worker/client/connection_http.h"
#include "worker/client/connections.h"
#include "worker/client/paced_closing.h"
#include "worker/client/websocket_stage.h"
#include "worker/topics/subscriptions.h"
#include "worker/worker_parts.h"

#define WORKER_PROCESS_MAGIC    UINT32_C(0x30272e25)
#define WORKER_HEARTBEAT_MS     200
#define WORKER_DRAIN_TICK_MS    20
#define WORKER_DRAIN_PER_SECOND 500.0 /* websockets closed when stopping, at least */

/* The process's context: signal handlers of libevent run in the loop, so nothing here is touched
 * asynchronously. */
struct worker_process {
    uint32_t magic;
    struct worker_parts parts;
    int lifeline;
    bool draining;
    uint64_t drain_end_ns;
    struct event *lifeline_event;
    struct event *heartbeat_event;
    struct event *drain_event;
    struct event *terminate_event;
    struct event *interrupt_event;
    struct event *quit_event;
    struct event *reload_event;
};

static struct worker_process *process_of(void *argument)
{
    return object_cast(struct worker_process, WORKER_PROCESS_MAGIC, argument);
}

/* ---- the loop's own events ---- */

/* What GET /metrics shows of this worker. */
static void worker_show(const struct worker_parts *parts)
{
    struct segment *segment = parts->counters.segment;
    unsigned slot = parts->counters.slot;
    gauge_write(segment, slot, GAUGE_CLIENTS, websocket_stage_count(parts->websocket_stage));
    gauge_write(segment, slot, GAUGE_SUBSCRIPTIONS, subscriptions_count(parts->subscriptions));
    gauge_write(segment, slot, GAUGE_TOPICS, subscriptions_topic_count(parts->subscriptions));
    gauge_write(segment, slot, GAUGE_QUEUE_BYTES, parts->ledger.held);
}

static void worker_beat(const struct worker_parts *parts)
{
    worker_table_beat(parts->counters.segment, parts->counters.slot, clock_monotonic_ns());
    worker_show(parts);
}

static void worker_on_heartbeat(evutil_socket_t fd, short what, void *argument)
{
    struct worker_parts *parts = &process_of(argument)->parts;
    (void)fd;
    (void)what;
    worker_beat(parts);
    http_stage_trim(parts->http_stage);
}

/* Readable means end of file: nobody ever writes. */
static void worker_on_lifeline(evutil_socket_t fd, short what, void *argument)
{
    char byte;
    (void)what;
    (void)argument;
    ssize_t length = read(fd, &byte, 1);
    if (length == 0 || (length < 0 && errno != EAGAIN && errno != EINTR)) {
        log_write(LOG_ERROR, LOGGER_WORKER, "The master is gone: this worker ends");
        _exit(1);
    }
}

static void worker_on_quick_end(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    event_base_loopbreak(process_of(argument)->parts.base);
}

static void worker_on_reload(evutil_socket_t fd, short what, void *argument)
{
    struct error err = {0};
    (void)fd;
    (void)what;
    if (worker_parts_reload_tls(&process_of(argument)->parts, &err) < 0) /* the master has checked it */
        log_write(LOG_ERROR, LOGGER_WORKER, "The certificate stays as it was: %s", err.text);
}

/* ---- stopping ---- */

static void worker_on_drain(evutil_socket_t fd, short what, void *argument)
{
    struct worker_process *process = process_of(argument);
    struct worker_parts *parts = &process->parts;
    bool late = clock_monotonic_ns() >= process->drain_end_ns;
    uint32_t left = connections_count(parts->connections);
    (void)fd;
    (void)what;
    if (left > 0 && !late)
        return;
    if (publisher_is_blocked(parts->publisher) && !late) {
        publisher_flush(parts->publisher);
        return;
    }
    if (late)
        log_write(LOG_WARNING, LOGGER_WORKER, "Grace time is over: ending with %u connection(s) open", left);
    connections_stop(parts->connections);
    event_base_loopbreak(parts->base);
}

static void worker_drain(struct worker_process *process)
{
    struct worker_parts *parts = &process->parts;
    double grace = parts->config->grace_seconds;
    double margin = grace / 10 < 1 ? grace / 10 : 1; /* the master kills at the end of the grace time */
    process->draining = true;
    process->drain_end_ns = clock_monotonic_ns() + (uint64_t)((grace - margin) * (double)CLOCK_SECOND);
    log_write(LOG_INFO, LOGGER_WORKER, "Trigger worker graceful shutdown");
    worker_table_set_state(parts->counters.segment, parts->counters.slot, WORKER_DRAINING);
    acceptor_stop(parts->acceptor);
    connections_drain(parts->connections);
    double pace = grace > 0 ? (double)connections_count(parts->connections) / (grace / 2) : 0;
    if (pace < WORKER_DRAIN_PER_SECOND)
        pace = WORKER_DRAIN_PER_SECOND;
    paced_closing_start(parts->paced_closing, pace, false, "Shutdown");
    event_add(process->drain_event, &(const struct timeval){.tv_usec = WORKER_DRAIN_TICK_MS * 1000});
}

static void worker_on_terminate(evutil_socket_t fd, short what, void *argument)
{
    struct worker_process *process = process_of(argument);
    if (process->draining)
        worker_on_quick_end(fd, what, argument);
    else
        worker_drain(process);
}

/* ---- start and end ---- */

static void worker_prepare_process(void)
{
    struct rlimit files;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN); /* until it can be followed: what it would tell is read at the start */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static struct event *process_event(
    struct worker_process *process, int fd, short what, event_callback_fn callback)
{
    struct event *event = event_new(process->parts.base, fd, what, callback, process);
    if (!event)
        abort(); /* only out of memory */
    return event;
}

static struct event *process_signal(struct worker_process *process, int number, event_callback_fn callback)
{
    struct event *event = process_event(process, number, EV_SIGNAL | EV_PERSIST, callback);
    event_add(event, NULL);
    return event;
}

static void worker_watch(struct worker_process *process)
{
    evutil_make_socket_nonblocking(process->lifeline);
    process->lifeline_event =
        process_event(process, process->lifeline, EV_READ | EV_PERSIST, worker_on_lifeline);
    process->heartbeat_event = process_event(process, -1, EV_PERSIST, worker_on_heartbeat);
    process->drain_event = process_event(process, -1, EV_PERSIST, worker_on_drain);
    process->terminate_event = process_signal(process, SIGTERM, worker_on_terminate);
    process->interrupt_event = process_signal(process, SIGINT, worker_on_quick_end);
    process->quit_event = process_signal(process, SIGQUIT, worker_on_quick_end);
    process->reload_event = process_signal(process, SIGHUP, worker_on_reload);
    event_add(process->lifeline_event, NULL);
    event_add(process->heartbeat_event, &(const struct timeval){.tv_usec = WORKER_HEARTBEAT_MS * 1000});
}

static void worker_unwatch(struct worker_process *process)
{
    event_free(process->lifeline_event);
    event_free(process->heartbeat_event);
    event_free(process->drain_event);
    event_free(process->terminate_event);
    event_free(process->interrupt_event);
    event_free(process->quit_event);
    event_free(process->reload_event);
}

static void worker_run(struct worker_process *process)
{
    struct worker_parts *parts = &process->parts;
    struct segment *segment = parts->counters.segment;
    unsigned slot = parts->counters.slot;
    worker_watch(process);
    worker_beat(parts);
    worker_table_set_connections(segment, slot, connections_count(parts->connections));
    worker_table_set_state(segment, slot, WORKER_READY);
    /* a reload before READY was not told to this worker */
    worker_on_reload(-1, 0, process);
    log_write(LOG_INFO, LOGGER_WORKER, "Worker %u started, pid %d", slot, (int)getpid());
    event_base_dispatch(parts->base);
    worker_table_set_state(segment, slot, WORKER_DRAINING);
    worker_unwatch(process);
}

int worker_main(const struct config *config, const struct worker_descriptors *descriptors)
{
    struct error err = {0};
    struct worker_process *process = memory_allocate(sizeof *process);
    int status = 1;
    process->magic = WORKER_PROCESS_MAGIC;
    process->lifeline = descriptors->lifeline;
    worker_prepare_process();
    if (worker_parts_open(&process->parts, config, descriptors, &err) < 0) {
        log_write(LOG_CRITICAL, LOGGER_WORKER, "Worker %u cannot start: %s", descriptors->slot, err.text);
    } else {
        worker_run(process);
        status = 0;
    }
    worker_parts_close(&process->parts);
    close(process->lifeline);
    if (status == 0)
        log_write(LOG_INFO, LOGGER_WORKER, "Worker %u ended", descriptors->slot);
    process->magic = 0;
    free(process);
    return status;
}
