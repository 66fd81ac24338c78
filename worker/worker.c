/*
 * The life of a worker process:
 *
 *   attach the shared memory -> listen -> READY -> [TERM: DRAINING, close clients at a pace] -> exit 0
 *
 * It ends at once when the master is gone (the lifeline pipe ends, and as a second belt the kernel's parent-death signal), on INT, QUIT
 * and a second TERM. Whatever it leaves behind (the listening sockets, its committed publishes, its counters) belongs to the master.
 */
#include "worker/worker.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "shm/common/network.h"
#include "shm/common/rate_limit.h"
#include "shm/common/loggers.h"
#include "shm/figures.h"
#include "worker/client/acceptor.h"
#include "worker/client/peers.h"
#include "worker/auth/auth.h"
#include "worker/client/paced_closing.h"
#include "worker/client/context.h"
#include "worker/api/data_sources.h"
#include "worker/api/api_services.h"
#include "worker/api/http_docs.h"
#include "worker/api/routes.h"
#include "worker/fanout/fanout.h"
#include "worker/policy/bundle_cache.h"
#include "worker/policy/policy_services.h"
#include "worker/net/refusal_pace.h"
#include "worker/net/poller.h"
#include "worker/net/pool.h"
#include "worker/client/inquiry.h"
#include "worker/policy/webhook_params.h"
#include "worker/net/tls.h"
#include "worker/net/tls_store.h"

#define WORKER_HEARTBEAT_MS      200
#define WORKER_CLOSE_SECONDS     10.0 /* for the peer's close frame after ours; the reference's value */
#define WORKER_LINGER_SECONDS    2.0
#define WORKER_FRESH_SECONDS     0.5
#define WORKER_DRAIN_TICK_MS     20
#define WORKER_DRAIN_PER_SECOND  500.0 /* websockets closed when stopping, at least */
#define WORKER_TRIM_PEAK         256
#define WORKER_CACHE_LINE        64
#define WORKER_PUBLISH_QUEUE_MAX (64 * 1024 * 1024)

struct worker_events {
    struct event *lifeline;
    struct event *heartbeat;
    struct event *drain;
    struct event *terminate;
    struct event *interrupt;
    struct event *quit;
    struct event *reload;
};

/* The process's context: signal handlers of libevent run in the loop, so nothing here is touched asynchronously. */
struct worker_process {
    struct worker worker;
    struct worker_events events;
    struct rate_limits load_limits;
    struct http_docs *docs;
    struct api_services api;
    struct policy_services policy;
    int lifeline;
    uint64_t drain_end_ns;
};

static struct event *process_event(
    struct worker_process *process, int fd, int what, event_callback_fn callback)
{
    struct event *event = event_new(process->worker.base, fd, (short)what, callback, process);
    if (!event)
        abort(); /* only out of memory */
    return event;
}

static struct timeval milliseconds(int64_t count)
{
    return (struct timeval){.tv_sec = count / 1000, .tv_usec = count % 1000 * 1000};
}

/* ---- the loop's own events ---- */

static void worker_on_settle(evutil_socket_t fd, short what, void *argument)
{
    struct worker_process *process = argument;
    (void)fd;
    (void)what;
    connection_settle_all(&process->worker);
}

/* An HTTP session is some kilobytes of heap, nearly all of which go back when the connection becomes a websocket. After thousands at once
 * (every client reconnects) the allocator would keep what it got; it takes milliseconds to give it back, once. */
static void worker_trim(struct worker *worker)
{
    if (worker->http_peak < WORKER_TRIM_PEAK || worker->http_count > worker->http_peak / 8)
        return;
    worker->http_peak = worker->http_count;
    malloc_trim(0);
}

/* What GET /metrics shows of this worker. */
static void worker_show(const struct worker *worker)
{
    gauge_write(worker->segment, worker->slot, GAUGE_CLIENTS, worker->connection_count - worker->http_count);
    gauge_write(
        worker->segment, worker->slot, GAUGE_SUBSCRIPTIONS, subscriptions_count(worker->subscriptions));
    gauge_write(
        worker->segment, worker->slot, GAUGE_TOPICS, subscriptions_topic_count(worker->subscriptions));
    gauge_write(worker->segment, worker->slot, GAUGE_QUEUE_BYTES, worker->held_bytes);
}

static void worker_on_heartbeat(evutil_socket_t fd, short what, void *argument)
{
    struct worker_process *process = argument;
    (void)fd;
    (void)what;
    worker_table_beat(process->worker.segment, process->worker.slot, clock_monotonic_ns());
    worker_show(&process->worker);
    worker_trim(&process->worker);
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
    struct worker_process *process = argument;
    (void)fd;
    (void)what;
    event_base_loopbreak(process->worker.base);
}

static void worker_on_drain(evutil_socket_t fd, short what, void *argument)
{
    struct worker_process *process = argument;
    struct worker *worker = &process->worker;
    bool late = clock_monotonic_ns() >= process->drain_end_ns;
    (void)fd;
    (void)what;
    if (worker->connection_count > 0 && !late)
        return;
    if (publisher_is_blocked(worker->publisher) && !late) {
        publisher_flush(worker->publisher);
        return;
    }
    if (late)
        log_write(LOG_WARNING, LOGGER_WORKER, "Grace time is over: ending with %u connection(s) open",
            worker->connection_count);
    for (struct connection *at = worker->connections; at; at = at->next)
        if (at->state == CONNECTION_HTTP)
            connection_http_stop(at);
    event_base_loopbreak(worker->base);
}

static void worker_drain(struct worker_process *process)
{
    struct worker *worker = &process->worker;
    double grace = worker->config->grace_seconds;
    double margin = grace / 10 < 1 ? grace / 10 : 1; /* the master kills at the end of the grace time */
    struct timeval tick = milliseconds(WORKER_DRAIN_TICK_MS);
    worker->draining = true;
    process->drain_end_ns = clock_monotonic_ns() + (uint64_t)((grace - margin) * (double)CLOCK_SECOND);
    log_write(LOG_INFO, LOGGER_WORKER, "Trigger worker graceful shutdown");
    worker_table_set_state(worker->segment, worker->slot, WORKER_DRAINING);
    acceptor_stop(worker->acceptor);
    for (struct connection *at = worker->connections; at; at = at->next)
        if (at->state == CONNECTION_HTTP)
            connection_http_drain(at);
    double pace = grace > 0 ? (double)worker->connection_count / (grace / 2) : 0;
    paced_closing_start(worker->paced_closing,
        pace > WORKER_DRAIN_PER_SECOND ? pace : WORKER_DRAIN_PER_SECOND, false, "Shutdown");
    event_add(process->events.drain, &tick);
}

static void worker_on_terminate(evutil_socket_t fd, short what, void *argument)
{
    struct worker_process *process = argument;
    if (process->worker.draining)
        worker_on_quick_end(fd, what, argument);
    else
        worker_drain(process);
}

static int worker_read_tls(struct worker *worker, struct error *err)
{
    struct tls_material material;
    if (tls_store_read(worker->tls_store, &material, err) < 0)
        return -1;
    int result = 0;
    if (worker->tls)
        result = tls_server_reload(worker->tls, &material, err);
    else if (!(worker->tls = tls_server_open(worker->config, &material, &worker->held_bytes, err)))
        result = -1;
    tls_material_free(&material);
    return result;
}

static void worker_on_reload(evutil_socket_t fd, short what, void *argument)
{
    struct worker_process *process = argument;
    struct error err = {0};
    (void)fd;
    (void)what;
    if (process->worker.tls && worker_read_tls(&process->worker, &err) < 0) /* the master has checked it */
        log_write(LOG_ERROR, LOGGER_WORKER, "The certificate stays as it was: %s", err.text);
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

static void worker_set_durations(struct worker *worker)
{
    const struct config *config = worker->config;
    struct deadlines *deadlines = worker->deadlines;
    deadlines_set_duration(deadlines, DEADLINE_ENTRANCE, config->tls_handshake_timeout);
    deadlines_set_duration(deadlines, DEADLINE_HTTP_HEAD, config->http_header_timeout);
    deadlines_set_duration(deadlines, DEADLINE_HTTP_BODY, config->http_body_timeout);
    deadlines_set_duration(deadlines, DEADLINE_HTTP_IDLE, config->http_keepalive_timeout);
    deadlines_set_duration(deadlines, DEADLINE_BACKBONE, config->publish_wait_seconds);
    deadlines_set_duration(deadlines, DEADLINE_REFUSAL, config->auth_refusal_delay);
    deadlines_set_duration(deadlines, DEADLINE_PING, config->websocket_ping_interval);
    for (unsigned i = 0; i < DEADLINE_FIRST_PINGS; i++)
        deadlines_set_duration(deadlines, DEADLINE_FIRST_PING + i,
            config->websocket_ping_interval * (0.5 + 0.5 * (i + 1) / DEADLINE_FIRST_PINGS));
    deadlines_set_duration(deadlines, DEADLINE_PONG, config->websocket_ping_timeout);
    deadlines_set_duration(deadlines, DEADLINE_CLOSE, WORKER_CLOSE_SECONDS);
    deadlines_set_duration(deadlines, DEADLINE_LINGER, WORKER_LINGER_SECONDS);
    deadlines_set_duration(deadlines, DEADLINE_FRESH, WORKER_FRESH_SECONDS);
    deadlines_set_duration(deadlines, DEADLINE_STALL, config->client_queue_max_seconds);
}

static void worker_on_accepted(void *context, int fd)
{
    connection_open(context, fd);
}

static void worker_open(struct worker_process *process, const struct worker_descriptors *descriptors)
{
    struct worker *worker = &process->worker;
    struct error err = {0};
    worker->incarnation = worker_table_incarnation(worker->segment, worker->slot);
    worker->settle_event = process_event(process, -1, 0, worker_on_settle);
    worker->read_buffer = memory_allocate(WORKER_READ_BUFFER);
    const struct config *config = worker->config;
    worker->held_bytes_max = (uint64_t)(config->clients_memory_max_bytes > config->client_queue_max_bytes
                                            ? config->clients_memory_max_bytes
                                            : config->client_queue_max_bytes);
    worker->poller = poller_open(worker->base, connection_ready, &err);
    if (!worker->poller)
        abort();
    worker->connection_pool = pool_open(sizeof(struct connection), WORKER_CACHE_LINE);
    worker->subscriptions = subscriptions_open(&worker->held_bytes);
    worker->deadlines = deadlines_open(worker->base, connection_deadline_expired, worker);
    worker_set_durations(worker);
    worker->publisher = publisher_open(worker->segment, worker->slot, WORKER_PUBLISH_QUEUE_MAX);
    worker->paced_closing = paced_closing_open(worker);
    const struct config_list *proxies = &worker->config->proxy_protocol_from;
    if (network_list_parse(&worker->proxies, proxies->items, proxies->count, &err) < 0)
        log_write(LOG_ERROR, LOGGER_WORKER, "%s", err.text);                /* the master has checked it */
    if (data_sources_load(worker->config, &worker->data_sources, &err) < 0) /* the master has checked it */
        log_write(LOG_ERROR, LOGGER_WORKER, "%s", err.text);
    worker->bundles = bundle_cache_open(worker->base, worker->config, descriptors->policy_address);
    worker->policy = bundle_cache_client(worker->bundles);
    if (worker->config->client_load_limit_notation &&
        rate_limits_parse(worker->config->client_load_limit_notation, &process->load_limits, &err) < 0)
        log_write(LOG_ERROR, LOGGER_WORKER, "%s", err.text); /* the master has checked it */
    process->docs = http_docs_make(worker->config);
    worker->webhook = webhook_params_load(worker->config, &err);
    if (!worker->webhook)
        log_write(LOG_ERROR, LOGGER_WORKER, "%s", err.text);
    worker->peers = peers_open(
        worker->base, descriptors->handoff_receive, descriptors->handoff_send, descriptors->slot_count);
    worker->inquiry = inquiry_open(worker);
    process->api = (struct api_services){
        .data_sources = worker->data_sources,
        .load_limits = &process->load_limits,
        .docs = process->docs,
        .ask = inquiry_ask,
        .inquiry = worker->inquiry,
    };
    process->policy = (struct policy_services){
        .client = worker->policy,
        .bundles = worker->bundles,
        .webhook = worker->webhook,
    };
    worker->services = (struct http_services){
        .config = worker->config,
        .segment = worker->segment,
        .slot = worker->slot,
        .routes = &api_routes,
        .auth = worker->auth,
        .publisher = worker->publisher,
        .api = &process->api,
        .policy = &process->policy,
    };
    worker->forwarders = memory_allocate(sizeof *worker->forwarders);
    const struct config_list *forwarders = &worker->config->forwarded_allow_ips;
    if (network_list_parse(worker->forwarders, forwarders->items, forwarders->count, &err) < 0)
        log_write(LOG_ERROR, LOGGER_WORKER, "%s", err.text); /* the master has checked it */
    worker->fanout = fanout_open(worker);
    worker->refusals = memory_allocate(sizeof *worker->refusals);

    struct worker_events *events = &process->events;
    struct timeval beat = milliseconds(WORKER_HEARTBEAT_MS);
    process->lifeline = descriptors->lifeline;
    evutil_make_socket_nonblocking(process->lifeline);
    events->lifeline = process_event(process, process->lifeline, EV_READ | EV_PERSIST, worker_on_lifeline);
    events->heartbeat = process_event(process, -1, EV_PERSIST, worker_on_heartbeat);
    events->drain = process_event(process, -1, EV_PERSIST, worker_on_drain);
    events->terminate = process_event(process, SIGTERM, EV_SIGNAL | EV_PERSIST, worker_on_terminate);
    events->interrupt = process_event(process, SIGINT, EV_SIGNAL | EV_PERSIST, worker_on_quick_end);
    events->quit = process_event(process, SIGQUIT, EV_SIGNAL | EV_PERSIST, worker_on_quick_end);
    event_add(events->lifeline, NULL);
    event_add(events->heartbeat, &beat);
    event_add(events->terminate, NULL);
    event_add(events->interrupt, NULL);
    event_add(events->quit, NULL);
    events->reload = process_event(process, SIGHUP, EV_SIGNAL | EV_PERSIST, worker_on_reload);
    event_add(events->reload, NULL);

    worker->acceptor = acceptor_open(&(struct acceptor_settings){
        .base = worker->base,
        .segment = worker->segment,
        .slot = worker->slot,
        .slot_count = descriptors->slot_count,
        .listeners = descriptors->listeners,
        .listener_count = descriptors->listener_count,
        .peers = worker->peers,
        .connections_max = worker->config->connections_max,
        .accepted = worker_on_accepted,
        .context = worker,
    });
    worker_table_beat(worker->segment, worker->slot, clock_monotonic_ns());
    worker_table_set_connections(worker->segment, worker->slot, 0);
    worker_show(worker);
    worker_table_set_state(worker->segment, worker->slot, WORKER_READY);
    /* a reload before READY was not told to this worker */
    worker_on_reload(-1, 0, process);
}

static void worker_close(struct worker_process *process)
{
    struct worker *worker = &process->worker;
    struct worker_events *events = &process->events;
    worker_table_set_state(worker->segment, worker->slot, WORKER_DRAINING);
    acceptor_close(worker->acceptor);
    worker->acceptor = NULL;
    for (struct connection *at = worker->connections; at; at = at->next)
        connection_kill(at);
    connection_settle_all(worker);
    fanout_close(worker->fanout);
    paced_closing_close(worker->paced_closing);
    publisher_close(worker->publisher);
    bundle_cache_close(worker->bundles);
    webhook_params_free(worker->webhook);
    data_sources_free(worker->data_sources);
    http_docs_free(process->docs);
    inquiry_close(worker->inquiry);
    peers_close(worker->peers);
    deadlines_close(worker->deadlines);
    subscriptions_close(worker->subscriptions);
    pool_close(worker->connection_pool);
    poller_close(worker->poller);
    event_free(worker->settle_event);
    event_free(events->lifeline);
    event_free(events->heartbeat);
    event_free(events->drain);
    event_free(events->terminate);
    event_free(events->interrupt);
    event_free(events->quit);
    event_free(events->reload);
    close(process->lifeline);
    rpc_message_free(&worker->rpc);
    rpc_topics_free(&worker->topics);
    text_free(&worker->reply);
    text_free(&worker->scratch);
    free(worker->read_buffer);
    free(worker->refusals);
    network_list_free(worker->forwarders);
    free(worker->forwarders);
    tls_server_close(worker->tls);
    network_list_free(&worker->proxies);
    if (worker->tls_store >= 0)
        close(worker->tls_store);
}

int worker_main(const struct config *config, const struct worker_descriptors *descriptors)
{
    struct error err = {0};
    struct worker_process *process = memory_allocate(sizeof(*process));
    struct worker *worker = &process->worker;
    int status = 1;
    worker_prepare_process();
    worker->config = config;
    worker->slot = descriptors->slot;
    worker->segment = segment_attach(&descriptors->segment, descriptors->slot, &err);
    worker->base = event_base_new();
    worker->tls_store = descriptors->tls_store;
    bool has_tls = worker->tls_store < 0 || worker_read_tls(worker, &err) == 0;
    bool has_auth = worker->segment && auth_open(config, descriptors->keys, &worker->auth, &err) == 0;
    if (!worker->segment) {
        log_write(LOG_CRITICAL, LOGGER_WORKER, "Worker %u cannot start: %s", descriptors->slot, err.text);
    } else if (!worker->base) {
        log_write(LOG_CRITICAL, LOGGER_WORKER, "Worker %u cannot start: no event loop", descriptors->slot);
    } else if (!has_tls) {
        log_write(LOG_CRITICAL, LOGGER_WORKER, "Worker %u cannot start: %s", descriptors->slot, err.text);
    } else if (!has_auth) { /* without its keys it would serve everybody */
        log_write(LOG_CRITICAL, LOGGER_WORKER, "Worker %u cannot start: %s", descriptors->slot, err.text);
    } else {
        worker_open(process, descriptors);
        log_write(LOG_INFO, LOGGER_WORKER, "Worker %u started, pid %d", worker->slot, (int)getpid());
        event_base_dispatch(worker->base);
        worker_close(process);
        log_write(LOG_INFO, LOGGER_WORKER, "Worker %u ended", worker->slot);
        status = 0;
    }
    auth_close(worker->auth);
    if (worker->base)
        event_base_free(worker->base);
    if (worker->segment)
        segment_close(worker->segment);
    free(process);
    return status;
}
