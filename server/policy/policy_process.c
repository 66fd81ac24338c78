#include "server/policy/policy_process.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"
#include "shm/link/publisher.h"
#include "server/policy/bundle_service.h"
#include "server/policy/source/job.h"
#include "server/policy/source/policy_context.h"
#include "server/policy/source/policy_source.h"

#define POLICY_PROCESS_MAGIC UINT32_C(0x706f6c70)
#define HEARTBEAT_MS         500
#define FLUSH_MS             10
#define PUBLISH_QUEUE_MAX    (64 * 1024 * 1024)

struct policy_process {
    uint32_t magic;
    struct policy policy;
    struct policy_server *server;
    struct bundle_service *bundles;
    struct policy_source *source;
    int lifeline;
    int poke;
    struct event *lifeline_event;
    struct event *poke_event;
    struct event *heartbeat;
    /* Sends what the uplink had no room for. */
    struct event *flush;
    struct event *signals[3];
};

static struct policy_process *process_of(void *context)
{
    return object_cast(struct policy_process, POLICY_PROCESS_MAGIC, context);
}

/* The store first, so that no worker asks for a bundle of a commit that the store does not know yet. */
static void process_on_head_changed(void *context)
{
    struct policy_process *process = process_of(context);
    bundle_service_set_head(process->bundles, process->policy.repository, process->policy.head.hash);
    policy_server_set_head(process->server, &process->policy.head);
}

/* ---- what comes in ---- */

static void process_on_webhook(void *context)
{
    policy_source_check(process_of(context)->source);
}

static void process_on_bundle_request(void *context, policy_peer peer, uint64_t id, struct slice body)
{
    bundle_service_request(process_of(context)->bundles, peer, id, body);
}

static void process_on_peer_gone(void *context, policy_peer peer)
{
    (void)context;
    (void)peer;
}

static void process_on_poke(evutil_socket_t descriptor, short what, void *context)
{
    struct policy_process *process = process_of(context);
    uint64_t count;
    (void)what;
    if (read(descriptor, &count, sizeof count) == (ssize_t)sizeof count)
        process_on_webhook(process);
}

static void process_on_heartbeat(evutil_socket_t descriptor, short what, void *context)
{
    const struct policy_process *process = process_of(context);
    (void)descriptor;
    (void)what;
    worker_table_beat(process->policy.segment, process->policy.slot, clock_monotonic_ns());
}

static void process_on_flush(evutil_socket_t descriptor, short what, void *context)
{
    struct policy_process *process = process_of(context);
    (void)descriptor;
    (void)what;
    if (publisher_is_blocked(process->policy.publisher))
        publisher_flush(process->policy.publisher);
}

/* Readable means end of file: no process ever writes. */
static void process_on_lifeline(evutil_socket_t descriptor, short what, void *context)
{
    struct policy_process *process = process_of(context);
    char byte;
    (void)what;
    ssize_t length = read(descriptor, &byte, 1);
    if (length == 0 || (length < 0 && errno != EAGAIN && errno != EINTR)) {
        log_write(LOG_ERROR, LOGGER_POLICY, "the master is gone: the policy process ends");
        job_kill_all(&process->policy);
        _exit(1);
    }
}

static void process_on_signal(evutil_socket_t number, short what, void *context)
{
    struct policy_process *process = process_of(context);
    (void)number;
    (void)what;
    event_base_loopbreak(process->policy.base);
}

/* ---- start and end ---- */

static struct event *process_event(
    struct policy_process *process, int descriptor, int what, event_callback_fn callback)
{
    struct event *event = event_new(process->policy.base, descriptor, (short)what, callback, process);
    if (!event)
        abort(); /* only out of memory */
    return event;
}

static void process_open(struct policy_process *process, const struct policy_descriptors *descriptors)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGQUIT};
    struct policy *policy = &process->policy;
    const struct timeval beat = {0, HEARTBEAT_MS * 1000};
    const struct timeval flush = {0, FLUSH_MS * 1000};
    const struct policy_server_hooks hooks = {.webhook = process_on_webhook,
        .bundle_request = process_on_bundle_request,
        .peer_gone = process_on_peer_gone,
        .context = process};
    process->lifeline = descriptors->lifeline;
    process->poke = descriptors->poke;
    evutil_make_socket_nonblocking(process->lifeline);
    evutil_make_socket_closeonexec(process->lifeline);
    evutil_make_socket_closeonexec(process->poke);
    evutil_make_socket_closeonexec(descriptors->listener);
    process->lifeline_event =
        process_event(process, process->lifeline, EV_READ | EV_PERSIST, process_on_lifeline);
    process->poke_event = process_event(process, process->poke, EV_READ | EV_PERSIST, process_on_poke);
    process->heartbeat = process_event(process, -1, EV_PERSIST, process_on_heartbeat);
    process->flush = process_event(process, -1, EV_PERSIST, process_on_flush);
    event_add(process->lifeline_event, NULL);
    event_add(process->poke_event, NULL);
    event_add(process->heartbeat, &beat);
    event_add(process->flush, &flush);
    for (size_t i = 0; i < 3; i++) {
        process->signals[i] = process_event(process, numbers[i], EV_SIGNAL | EV_PERSIST, process_on_signal);
        event_add(process->signals[i], NULL);
    }
    policy->publisher = publisher_open(policy->segment, policy->slot, PUBLISH_QUEUE_MAX);
    process->server = policy_server_open(policy->base, descriptors->listener, policy->segment, &hooks);
    process->bundles = bundle_service_open(policy, process->server);
    process->source = policy_source_open(policy);
}

static void process_close(struct policy_process *process)
{
    struct policy *policy = &process->policy;
    policy_source_close(process->source);
    job_kill_all(policy);
    bundle_service_close(process->bundles);
    policy_server_close(process->server);
    publisher_flush(policy->publisher);
    publisher_close(policy->publisher);
    event_free(process->lifeline_event);
    event_free(process->poke_event);
    event_free(process->heartbeat);
    event_free(process->flush);
    for (size_t i = 0; i < 3; i++)
        event_free(process->signals[i]);
    close(process->lifeline);
    close(process->poke);
    free(policy->repository);
}

/* --as-policy is the first argument. */
static void process_keep_arguments(struct policy *policy, int argc, char **argv)
{
    policy->argv = memory_allocate(sizeof *policy->argv * ((size_t)argc + 1));
    for (int i = 0; i < argc; i++)
        if (i != 1)
            policy->argv[policy->argc++] = argv[i];
}

int policy_process_main(
    const struct config *config, const struct policy_descriptors *descriptors, int argc, char **argv)
{
    struct error err = {0};
    struct policy_process *process = memory_allocate(sizeof *process);
    struct policy *policy = &process->policy;
    int status = 1;
    signal(SIGPIPE, SIG_IGN);
    /* Not KILL, as for workers: with the master gone, only this process can end its children's children. */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    process->magic = POLICY_PROCESS_MAGIC;
    process_keep_arguments(policy, argc, argv);
    policy->config = config;
    policy->head_changed = process_on_head_changed;
    policy->context = process;
    policy->slot = descriptors->slot;
    policy->segment = segment_attach(&descriptors->segment, descriptors->slot, &err);
    policy->base = event_base_new();
    if (!policy->segment) {
        log_write(LOG_CRITICAL, LOGGER_POLICY, "the policy process cannot start: %s", err.text);
    } else if (!policy->base) {
        log_write(LOG_CRITICAL, LOGGER_POLICY, "the policy process cannot start: no event loop");
    } else {
        log_write(LOG_INFO, LOGGER_POLICY, "Launching policy watcher");
        process_open(process, descriptors);
        event_base_dispatch(policy->base);
        status = policy_source_failed(process->source) ? 1 : 0;
        log_write(LOG_INFO, LOGGER_POLICY, "Stopping policy watcher");
        process_close(process);
    }
    if (policy->base)
        event_base_free(policy->base);
    if (policy->segment)
        segment_close(policy->segment);
    free(policy->argv);
    process->magic = 0;
    free(process);
    return status;
}
