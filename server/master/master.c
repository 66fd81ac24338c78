/*
 * The master's life: STARTING (workers not all accepting yet) -> SERVING -> STOPPING (TERM: workers drain) ->
 * end. Everything happens in one libevent loop; nothing in it blocks after the start.
 *
 * Order at the start: sockets first (a wrong port fails before anything else exists), then shared memory, the
 * router with the backbone, the workers. Order at the end: workers, then what is queued for the backbone, so
 * that events the workers took in while draining still reach the other servers.
 */
#include "server/master/master.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/object.h"
#include "shm/common/text.h"
#include "shm/common/loggers.h"
#include "server/master/listener.h"
#include "server/master/policy_child.h"
#include "server/router/router.h"
#include "server/master/service_notify.h"
#include "server/statistics/statistics_service.h"
#include "server/master/statsd.h"
#include "server/master/supervisor.h"
#include "server/master/tls_reload.h"
#include "shm/worker_table.h"
#include "worker/auth/auth_keys.h"

#define MASTER_MAGIC 0x6d617374u

#define SIGNAL_COUNT 9
/* How long the quick stop (INT, QUIT) waits before it kills. */
#define QUICK_STOP_SECONDS 2
/* How often the start looks whether the backbone is there. */
#define START_POLL_MS 20
/* What the backbone's queue may still take after the workers' end, in milliseconds, when the grace time is
 * used up. */
#define FLUSH_LEAST_MS 1000

/* WATCHDOG=1 goes out each quarter of what the service manager allows, so that it has half of it even when
 * a tick comes a little early and the next one is taken. */
#define WATCHDOG_PARTS 4

enum master_state { MASTER_STARTING, MASTER_SERVING, MASTER_STOPPING };

struct master {
    uint32_t magic;
    const struct config *config;
    enum master_state state;
    struct event_base *base;
    struct listeners listeners;
    struct segment *segment;
    struct router *router;
    /* NULL: OPAL_STATISTICS_ENABLED is off */
    struct statistics_service *statistics;
    struct supervisor *supervisor;
    /* NULL: no policies */
    struct policy_child *policy;
    /* of auth_keys_give: what each worker gets; 0: none */
    int keys;
    /* NULL: plain listeners */
    struct tls_reload *tls;
    bool workers_stopped;
    struct service_notify notify;
    struct event *signals[SIGNAL_COUNT];
    /* the stop has taken long enough */
    struct event *grace;
    /* waits for the backbone before the workers are started */
    struct event *start;
    /* each second, or more often for a short watchdog: STATUS= and WATCHDOG=1 */
    struct event *report;
    /* NULL: metrics are not sent anywhere */
    struct statsd *statsd;
    /* the reference's session keepalive on the backbone */
    struct event *keepalive;
    uint64_t start_deadline_ns;
    uint64_t stop_deadline_ns;
    /* could not start the workers */
    bool failed;
    uint64_t watchdog_sent_ns;
    /* told twice to stop */
    bool at_once;
    int argc;
    char **argv;
    char status_sent[256];
};

/* ---- the service manager ---- */

static void master_report(struct master *master)
{
    static const char *const backbone_names[] = {[BACKBONE_NONE] = "no backbone",
        [BACKBONE_CONNECTING] = "backbone connecting",
        [BACKBONE_UP] = "backbone up",
        [BACKBONE_GAP] = "backbone away",
        [BACKBONE_LOST] = "backbone lost"};
    static const char *const state_names[] = {
        [MASTER_STARTING] = "starting", [MASTER_SERVING] = "serving", [MASTER_STOPPING] = "stopping"};
    uint64_t now = clock_monotonic_ns();
    char status[256];
    uint32_t connections = 0;
    if (master->notify.socket < 0 || !master->supervisor)
        return;
    for (unsigned slot = 0; slot < segment_slot_count(master->segment); slot++)
        connections += worker_table_connections(master->segment, slot);
    int written = snprintf(status, sizeof status, "STATUS=%s: %u of %u workers, %u connections, %s",
        state_names[master->state], supervisor_ready(master->supervisor),
        supervisor_wanted(master->supervisor), connections,
        backbone_names[backbone_state_read(master->segment)]);
    if (written > 0 && strcmp(status, master->status_sent) != 0) {
        service_notify_send(&master->notify, status);
        memcpy(master->status_sent, status, sizeof status);
    }
    /* Only while the workers beat: a master that lives while nobody serves must not look healthy. While
     * stopping the grace timer is the judge. */
    if (master->notify.watchdog_ns &&
        now - master->watchdog_sent_ns >= master->notify.watchdog_ns / WATCHDOG_PARTS &&
        (master->state == MASTER_STOPPING || supervisor_healthy(master->supervisor))) {
        service_notify_send(&master->notify, "WATCHDOG=1");
        master->watchdog_sent_ns = now;
    }
}

static void master_on_report(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    master_report(object_cast(struct master, MASTER_MAGIC, context));
}

/* ---- stopping ---- */

static void master_on_grace(evutil_socket_t descriptor, short what, void *context)
{
    struct master *master = object_cast(struct master, MASTER_MAGIC, context);
    (void)descriptor;
    (void)what;
    log_write(LOG_WARNING, LOGGER_MASTER, "the grace time is over: killing the workers that are left");
    supervisor_kill_all(master->supervisor);
    if (master->policy)
        policy_child_kill(master->policy, "the grace time is over");
}

static void master_end_if_alone(struct master *master)
{
    if (master->workers_stopped && (!master->policy || policy_child_has_stopped(master->policy)))
        event_base_loopbreak(master->base);
}

static void master_on_stopped(void *context)
{
    struct master *master = object_cast(struct master, MASTER_MAGIC, context);
    master->workers_stopped = true;
    master_end_if_alone(master);
}

static void master_on_policy_stopped(void *context)
{
    master_end_if_alone(object_cast(struct master, MASTER_MAGIC, context));
}

static void master_stop(struct master *master, int signal_number)
{
    bool quick = signal_number != SIGTERM;
    double grace = quick ? QUICK_STOP_SECONDS : master->config->grace_seconds;
    struct timeval after = clock_timeval(grace);
    if (master->state == MASTER_STOPPING) {
        log_write(LOG_WARNING, LOGGER_MASTER, "signal %d again: ending at once", signal_number);
        if (master->supervisor)
            supervisor_kill_all(master->supervisor);
        if (master->policy)
            policy_child_kill(master->policy, "told to end at once");
        master->at_once = true;
        return;
    }
    log_write(LOG_INFO, LOGGER_MASTER,
        "triggered shutdown event: signal %d, closing clients with 1012 within %.1f s", signal_number, grace);
    master->state = MASTER_STOPPING;
    master->stop_deadline_ns = clock_monotonic_ns() + (uint64_t)(grace * (double)CLOCK_SECOND);
    service_notify_send(&master->notify, "STOPPING=1");
    listeners_close(&master->listeners);
    event_add(master->grace, &after);
    if (master->policy)
        policy_child_stop(master->policy);
    if (master->supervisor)
        supervisor_stop(master->supervisor, quick ? SIGQUIT : SIGTERM);
    else /* still waiting for the backbone */
        master_on_stopped(master);
}

static void master_on_ready(void *context)
{
    struct master *master = object_cast(struct master, MASTER_MAGIC, context);
    if (master->state != MASTER_STARTING)
        return;
    master->state = MASTER_SERVING;
    for (int i = 0; i < master->listeners.count; i++) {
        char where[128];
        listeners_describe(&master->listeners, i, where, sizeof where);
        log_write(LOG_INFO, LOGGER_MASTER, "listening on %s://%s with %u workers",
            master->tls ? "https" : "http", where, supervisor_ready(master->supervisor));
    }
    log_write(LOG_INFO, LOGGER_MASTER, "Application startup complete.");
    service_notify_send(&master->notify, "READY=1");
    master_report(master);
}

/* ---- signals ---- */

static void master_reap(struct master *master)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (!WIFEXITED(status) && !WIFSIGNALED(status))
            continue;
        if (master->policy && policy_child_ended(master->policy, pid, status))
            continue;
        if (master->supervisor)
            supervisor_ended(master->supervisor, pid, status);
    }
}

static void master_on_signal(evutil_socket_t signal_number, short what, void *context)
{
    struct master *master = object_cast(struct master, MASTER_MAGIC, context);
    (void)what;
    if (!master->supervisor && (signal_number == SIGTTIN || signal_number == SIGTTOU))
        return; /* no worker yet */
    switch ((int)signal_number) {
    case SIGCHLD:
        master_reap(master);
        break;
    case SIGTERM:
    case SIGINT:
    case SIGQUIT:
        master_stop(master, (int)signal_number);
        break;
    case SIGTTIN:
        supervisor_change(master->supervisor, +1);
        break;
    case SIGTTOU:
        supervisor_change(master->supervisor, -1);
        break;
    case SIGHUP:
        if (master->tls && master->state != MASTER_STOPPING) {
            tls_reload_start(master->tls);
            break;
        }
        /* fall through */
    default: /* HUP, USR1, USR2: must not end the process, which is what they do by default */
        log_write(LOG_INFO, LOGGER_MASTER,
            "signal %d: nothing to reload or reopen (the log goes to the standard streams)",
            (int)signal_number);
        break;
    }
}

static void master_watch_signals(struct master *master)
{
    static const int numbers[SIGNAL_COUNT] = {
        SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGTTIN, SIGTTOU, SIGHUP, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < SIGNAL_COUNT; i++) {
        master->signals[i] = evsignal_new(master->base, numbers[i], master_on_signal, master);
        event_add(master->signals[i], NULL);
    }
    signal(SIGPIPE, SIG_IGN);
}

/* ---- start ---- */

static void master_on_keepalive(evutil_socket_t descriptor, short what, void *context)
{
    struct master *master = object_cast(struct master, MASTER_MAGIC, context);
    (void)descriptor;
    (void)what;
    if (router_publish(master->router, slice_from_string(master->config->broadcast.keepalive_topic),
            SLICE_LITERAL("null")) < 0)
        log_write(LOG_WARNING, LOGGER_MASTER,
            "no room on the ring for the session keepalive; the next one comes in its turn");
}

static void master_start_keepalive(struct master *master)
{
    struct timeval interval = {(time_t)master->config->broadcast.keepalive_interval, 0};
    if (!master->config->broadcast.uri || master->config->broadcast.keepalive_interval <= 0)
        return;
    master->keepalive = event_new(master->base, -1, EV_PERSIST, master_on_keepalive, master);
    event_add(master->keepalive, &interval);
    log_write(LOG_INFO, LOGGER_MASTER,
        "started broadcaster keepalive task: topic is '%s', interval is %lld seconds",
        master->config->broadcast.keepalive_topic, (long long)master->config->broadcast.keepalive_interval);
}

static void master_worker_stuck(void *context, unsigned slot, const char *why)
{
    struct master *master = object_cast(struct master, MASTER_MAGIC, context);
    if (slot + 1 == segment_slot_count(master->segment))
        policy_child_kill(master->policy, why);
    else if (master->supervisor) /* not while it is being opened */
        supervisor_kill_stuck(master->supervisor, slot, why);
}

static void master_on_webhook(void *context)
{
    struct master *master = object_cast(struct master, MASTER_MAGIC, context);
    if (master->policy)
        policy_child_poke(master->policy);
}

static void master_backbone_given_up(void *context)
{
    struct master *master = object_cast(struct master, MASTER_MAGIC, context);
    if (master->state == MASTER_STOPPING)
        return;
    log_write(
        LOG_ERROR, LOGGER_MASTER, "Broadcaster gave up reconnecting to the backbone; restarting this server");
    master->failed = true;
    master_stop(master, SIGTERM);
}

static void master_on_hopeless(evutil_socket_t descriptor, short what, void *context)
{
    struct master *master = object_cast(struct master, MASTER_MAGIC, context);
    (void)descriptor;
    (void)what;
    if (master->state != MASTER_STOPPING)
        master_stop(master, SIGQUIT);
}

/* From the loop, not from here: the supervisor is in the middle of something. */
static void master_workers_failed(void *context)
{
    const struct timeval now = {0};
    struct master *master = object_cast(struct master, MASTER_MAGIC, context);
    log_write(LOG_CRITICAL, LOGGER_MASTER, "no worker can start: ending after %u attempts of each",
        master->config->worker_start_attempts);
    master->failed = true;
    event_base_once(master->base, -1, EV_TIMEOUT, master_on_hopeless, master, &now);
}

static void master_on_certificate(void *context)
{
    struct master *master = object_cast(struct master, MASTER_MAGIC, context);
    if (master->supervisor)
        supervisor_reload(master->supervisor);
}

static void master_raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* Clients are taken once the backbone is heard: an event that another server publishes before that would
 * reach none of them, and they would not know. A backbone that is away must not keep the host's own clients
 * waiting, hence the limit (router_serving). */
static void master_on_start(evutil_socket_t descriptor, short what, void *context)
{
    struct master *master = object_cast(struct master, MASTER_MAGIC, context);
    struct error err = {0};
    const struct supervisor_settings workers = {.base = master->base,
        .config = master->config,
        .segment = master->segment,
        .router = master->router,
        .listeners = &master->listeners,
        .keys = master->keys,
        .tls_store = tls_reload_store(master->tls),
        .policy_address = master->policy ? policy_child_address(master->policy) : "",
        .argv = master->argv,
        .argc = master->argc,
        .ready = master_on_ready,
        .failed = master_workers_failed,
        .stopped = master_on_stopped,
        .context = master};
    (void)descriptor;
    (void)what;
    if (backbone_state_read(master->segment) == BACKBONE_CONNECTING &&
        clock_monotonic_ns() < master->start_deadline_ns)
        return;
    event_del(master->start);
    if (backbone_state_read(master->segment) == BACKBONE_CONNECTING)
        log_write(LOG_WARNING, LOGGER_MASTER,
            "the backbone is not there after %.1f s: taking clients without it",
            master->config->broadcast.start_wait_seconds);
    router_serving(master->router);
    master->supervisor = supervisor_open(&workers, &err);
    if (!master->supervisor) {
        log_write(LOG_CRITICAL, LOGGER_MASTER, "cannot start: %s", err.text);
        master->failed = true;
        event_base_loopbreak(master->base);
    }
}

/* Before the workers, so that the clone is there the sooner. */
static int master_open_policy(struct master *master, struct error *err)
{
    const struct policy_child_settings settings = {.base = master->base,
        .config = master->config,
        .segment = master->segment,
        .router = master->router,
        .argv = master->argv,
        .argc = master->argc,
        .stopped = master_on_policy_stopped,
        .context = master};
    const char *why = NULL;
    if (policy_child_wanted(master->config, &why)) {
        master->policy = policy_child_open(&settings, err);
        return master->policy ? 0 : -1;
    }
    if (why)
        log_write(LOG_WARNING, LOGGER_MASTER, "%s", why);
    return 0;
}

/* ---- statistics ---- */

static void master_on_event(void *context, const struct router_event *event)
{
    const struct master *master = object_cast(struct master, MASTER_MAGIC, context);
    if (master->statistics)
        statistics_service_event(master->statistics, event);
}

static void master_on_asked(void *context, unsigned slot, uint32_t number, bool brief)
{
    const struct master *master = object_cast(struct master, MASTER_MAGIC, context);
    if (master->statistics)
        statistics_service_asked(master->statistics, slot, number, brief);
}

static void master_on_worker_gone(void *context, unsigned slot)
{
    const struct master *master = object_cast(struct master, MASTER_MAGIC, context);
    if (master->statistics)
        statistics_service_worker_gone(master->statistics, slot);
}

static void master_on_missed(void *context)
{
    const struct master *master = object_cast(struct master, MASTER_MAGIC, context);
    if (master->statistics)
        statistics_service_missed(master->statistics);
}

static int master_handoff(void *context, unsigned slot)
{
    const struct master *master = object_cast(struct master, MASTER_MAGIC, context);
    return master->supervisor ? supervisor_handoff(master->supervisor, slot) : -1;
}

/* Each worker gets these, also one that starts when the files they came from have changed. */
static int master_open_keys(struct master *master, struct error *err)
{
    struct auth_keys keys = {0};
    if (auth_keys_load(&keys, master->config, err) == 0)
        master->keys = auth_keys_give(&keys, err);
    else
        master->keys = -1;
    auth_keys_free(&keys);
    return master->keys < 0 ? -1 : 0;
}

static int master_open(struct master *master, int argc, char **argv, struct error *err)
{
    const struct config *config = master->config;
    const struct timeval each_poll = {0, START_POLL_MS * 1000};
    struct router_hooks hooks = {.worker_stuck = master_worker_stuck,
        .webhook = master_on_webhook,
        .backbone_given_up = master_backbone_given_up,
        .context = master};
    if (listeners_open(&master->listeners, config, err) < 0)
        return -1;
    if (master_open_keys(master, err) < 0)
        return -1;
    master_raise_descriptor_limit();
    master->segment = segment_create(&config->memory, err);
    if (!master->segment)
        return -1;
    master->base = event_base_new();
    if (!master->base)
        return error_set(err, ENOMEM, "cannot make the event loop");
    /* The signals before the first child: none of its ends may be missed. */
    master_watch_signals(master);
    if (config->tls_certificate) {
        master->tls = tls_reload_open(master->base, config, master_on_certificate, master, err);
        if (!master->tls)
            return -1;
    }
    master->grace = event_new(master->base, -1, 0, master_on_grace, master);
    master->report = event_new(master->base, -1, EV_PERSIST, master_on_report, master);
    if (config->statistics.enabled) {
        hooks.event = master_on_event;
        hooks.asked = master_on_asked;
        hooks.worker_gone = master_on_worker_gone;
        hooks.missed = master_on_missed;
    }
    master->router = router_open(master->base, config, master->segment, &hooks, err);
    if (!master->router)
        return -1;
    if (config->statistics.enabled)
        master->statistics = statistics_service_open(
            master->base, config, master->segment, master->router, master_handoff, master);
    master->argc = argc;
    master->argv = argv;
    if (master_open_policy(master, err) < 0)
        return -1;
    if (config->enable_metrics)
        master->statsd = statsd_open(master->base, config, master->segment);
    else
        log_write(LOG_INFO, LOGGER_MASTER, "DogStatsD metrics disabled");
    master->start = event_new(master->base, -1, EV_PERSIST, master_on_start, master);
    master->start_deadline_ns =
        clock_monotonic_ns() + (uint64_t)(config->broadcast.start_wait_seconds * (double)CLOCK_SECOND);
    event_add(master->start, &each_poll);
    event_active(master->start, EV_TIMEOUT, 0);
    return 0;
}

static void master_close(struct master *master)
{
    if (master->keys > 0)
        close(master->keys);
    if (master->router)
        router_take_rest(master->router);
    if (master->supervisor)
        supervisor_close(master->supervisor);
    if (master->policy)
        policy_child_close(master->policy);
    if (master->router) {
        uint64_t now = clock_monotonic_ns();
        uint64_t left =
            master->stop_deadline_ns > now ? (master->stop_deadline_ns - now) / CLOCK_MILLISECOND : 0;
        if (master->statistics)
            statistics_service_flush(master->statistics);
        router_close(master->router, master->at_once         ? 0
                                     : left > FLUSH_LEAST_MS ? (int)left
                                                             : FLUSH_LEAST_MS);
    }
    statistics_service_close(master->statistics);
    statsd_close(master->statsd);
    for (size_t i = 0; i < SIGNAL_COUNT; i++)
        if (master->signals[i])
            event_free(master->signals[i]);
    if (master->grace)
        event_free(master->grace);
    if (master->start)
        event_free(master->start);
    if (master->report)
        event_free(master->report);
    if (master->keepalive)
        event_free(master->keepalive);
    tls_reload_close(master->tls);
    if (master->base)
        event_base_free(master->base);
    if (master->segment)
        segment_close(master->segment);
    listeners_close(&master->listeners);
    service_notify_close(&master->notify);
}

int master_run(const struct config *config, int argc, char **argv)
{
    struct master master = {.magic = MASTER_MAGIC, .config = config, .notify = {.socket = -1}};
    struct error err = {0};
    uint64_t report_us = 1000000;

    if (config->auth_private_key)
        log_write(LOG_INFO, LOGGER_MASTER,
            "OPAL is running in secure mode - will verify API requests with JWT tokens.");
    else
        log_write(LOG_WARNING, LOGGER_MASTER,
            "OPAL was not provided with JWT encryption keys, cannot verify api requests!");
    if (config->broadcast.uri)
        log_write(LOG_INFO, LOGGER_MASTER,
            "Initializing reconnecting broadcaster for server<->server communication");
    else
        log_write(LOG_INFO, LOGGER_MASTER, "Pub/Sub broadcaster is off");
    log_write(LOG_INFO, LOGGER_MASTER, "*** OPAL Server Startup *** opald %s, pid %d, %u workers",
        OPALD_VERSION, (int)getpid(), config->workers);
    service_notify_open(&master.notify);
    if (master_open(&master, argc, argv, &err) < 0) {
        log_write(LOG_CRITICAL, LOGGER_MASTER, "cannot start: %s", err.text);
        master_close(&master);
        return 1;
    }
    master_start_keepalive(&master);
    if (master.notify.watchdog_ns && master.notify.watchdog_ns / WATCHDOG_PARTS < CLOCK_SECOND)
        report_us = master.notify.watchdog_ns / WATCHDOG_PARTS / 1000 + 1;
    struct timeval interval = {(time_t)(report_us / 1000000), (suseconds_t)(report_us % 1000000)};
    event_add(master.report, &interval);
    event_base_dispatch(master.base);
    log_write(LOG_INFO, LOGGER_MASTER, "all workers have ended");
    master_close(&master);
    log_write(LOG_INFO, LOGGER_MASTER, "opald has stopped");
    return master.failed ? 1 : 0;
}
