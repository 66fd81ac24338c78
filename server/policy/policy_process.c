#include "server/policy/policy_process.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"
#include "server/policy/bundle_service.h"
#include "server/policy/source/job.h"
#include "server/policy/source/policy_context.h"
#include "server/policy/source/policy_source.h"
#include "shm/link/publisher.h"

#define HEARTBEAT_MS      500
#define FLUSH_MS          10
#define PUBLISH_QUEUE_MAX (64 * 1024 * 1024)

struct policy_process {
    struct policy policy;
    int lifeline;
    int poke;
    struct event *lifeline_event;
    struct event *poke_event;
    struct event *heartbeat;
    struct event *flush; /* what the uplink had no room for */
    struct event *signals[3];
};

void policy_set_head(struct policy *policy, const char *repository, const char *hash)
{
    char *previous = policy->repository;
    policy->repository = memory_copy_string(repository);
    free(previous);
    policy->head = (struct policy_head){.state = POLICY_READY};
    memcpy(policy->head.hash, hash, strnlen(hash, POLICY_HASH_LENGTH));
    bundle_service_set_head(policy->bundles, policy->repository, policy->head.hash);
    policy_server_set_head(policy->server, &policy->head);
}

/* ---- what comes in ---- */

static void process_on_webhook(void *context)
{
    struct policy *policy = context;
    policy_source_check(policy->source);
}

static void process_on_bundle_request(void *context, policy_peer peer, uint64_t id, struct slice body)
{
    struct policy *policy = context;
    bundle_service_request(policy->bundles, peer, id, body);
}

static void process_on_peer_gone(void *context, policy_peer peer)
{
    (void)context;
    (void)peer;
}

static void process_on_poke(evutil_socket_t descriptor, short what, void *context)
{
    struct policy_process *process = context;
    uint64_t count;
    (void)what;
    if (read(descriptor, &count, sizeof count) == (ssize_t)sizeof count)
        process_on_webhook(&process->policy);
}

static void process_on_heartbeat(evutil_socket_t descriptor, short what, void *context)
{
    const struct policy_process *process = context;
    (void)descriptor;
    (void)what;
    worker_table_beat(process->policy.segment, process->policy.slot, clock_monotonic_ns());
}

static void process_on_flush(evutil_socket_t descriptor, short what, void *context)
{
    struct policy_process *process = context;
    (void)descriptor;
    (void)what;
    if (publisher_is_blocked(process->policy.publisher))
        publisher_flush(process->policy.publisher);
}

/* Readable means end of file: nobody ever writes. */
static void process_on_lifeline(evutil_socket_t descriptor, short what, void *context)
{
    struct policy_process *process = context;
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
    struct policy_process *process = context;
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
        .context = policy};
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
    policy->server = policy_server_open(policy->base, descriptors->listener, policy->segment, &hooks);
    policy->bundles = bundle_service_open(policy);
    policy->source = policy_source_open(policy);
}

static void process_close(struct policy_process *process)
{
    struct policy *policy = &process->policy;
    policy_source_close(policy->source);
    job_kill_all(policy);
    bundle_service_close(policy->bundles);
    policy_server_close(policy->server);
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
    /* Not KILL, as for workers: it has to end its children's children, which nobody else would, with the master gone. */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    process_keep_arguments(policy, argc, argv);
    policy->config = config;
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
        status = policy_source_failed(policy->source) ? 1 : 0;
        log_write(LOG_INFO, LOGGER_POLICY, "Stopping policy watcher");
        process_close(process);
    }
    if (policy->base)
        event_base_free(policy->base);
    if (policy->segment)
        segment_close(policy->segment);
    free(policy->argv);
    free(process);
    return status;
}
