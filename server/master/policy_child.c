#include "server/master/policy_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/object.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"
#include "shm/link/policy_socket.h"
#include "server/master/policy_start.h"
#include "server/master/restart_pace.h"
#include "shm/uplink.h"
#include "shm/worker_table.h"

#define POLICY_CHILD_MAGIC 0x70636864u

#define BACKOFF_FIRST_NS (500 * CLOCK_MILLISECOND)
#define BACKOFF_LAST_NS  (30 * CLOCK_SECOND)
#define TICK_MS          100
#define PAUSED_NS        (1 * CLOCK_SECOND) /* as supervisor.c */

struct policy_child {
    uint32_t magic;
    struct policy_child_settings settings;
    unsigned slot;
    /* 0: none */
    pid_t pid;
    bool killed;
    bool stopping;
    uint64_t started_ns;
    /* pid 0: when */
    uint64_t restart_ns;
    struct restart_pace pace;
    uint64_t ticked_ns;
    uint64_t resumed_ns;
    int listener;
    int poke;
    int lifeline_read;
    int lifeline_write;
    struct event *tick;
    char address[POLICY_ADDRESS_MAX];
};

bool policy_child_wanted(const struct config *config, const char **why)
{
    bool api = strcmp(config->policy_source_type, "API") == 0;
    const char *url = api ? config->policy_bundle_url : config->policy_repo_url;
    if (!config->repo_watcher_enabled || url)
        return config->repo_watcher_enabled;
    if (why)
        *why = api ? "POLICY_BUNDLE_URL is unset but policy watcher is enabled! disabling watcher."
                   : "POLICY_REPO_URL is unset but repo watcher is enabled! disabling watcher.";
    return false;
}

static void child_backoff(struct policy_child *child, uint64_t lived_ns)
{
    child->restart_ns = clock_monotonic_ns() + restart_pace_ended(&child->pace, lived_ns);
}

static void child_start(struct policy_child *child)
{
    struct segment *segment = child->settings.segment;
    struct error err = {0};
    const struct policy_descriptors descriptors = {.segment = segment_descriptors(segment, child->slot),
        .slot = child->slot,
        .lifeline = child->lifeline_read,
        .listener = child->listener,
        .poke = child->poke};
    child->started_ns = clock_monotonic_ns();
    child->killed = false;
    if (uplink_prepare(segment, child->slot, &err) < 0) {
        log_write(LOG_ERROR, LOGGER_MASTER, "cannot start the policy process: %s", err.text);
        child_backoff(child, 0);
        return;
    }
    worker_table_next_incarnation(segment, child->slot);
    worker_table_beat(segment, child->slot, child->started_ns);
    router_attach_publisher(child->settings.router, child->slot);
    child->pid = policy_start(child->settings.argv, child->settings.argc, &descriptors, &err);
    if (child->pid < 0) {
        log_write(LOG_ERROR, LOGGER_MASTER, "%s", err.text);
        child->pid = 0;
        child_backoff(child, 0);
        return;
    }
    worker_table_set_pid(segment, child->slot, (int32_t)child->pid);
    log_write(LOG_INFO, LOGGER_MASTER, "started policy process %d", (int)child->pid);
}

static void child_describe_end(int status, char *out, size_t size)
{
    int written = WIFEXITED(status) ? snprintf(out, size, "exited with status %d", WEXITSTATUS(status))
                                    : snprintf(out, size, "was killed by signal %d (%s)", WTERMSIG(status),
                                          strsignal(WTERMSIG(status)));
    if (written < 0)
        out[0] = '\0';
}

bool policy_child_ended(struct policy_child *child, pid_t pid, int status)
{
    char how[128];
    if (child->pid <= 0 || pid != child->pid)
        return false;
    struct segment *segment = child->settings.segment;
    child->pid = 0;
    worker_table_set_pid(segment, child->slot, 0);
    /* What it had running would go on by itself: a git that waits for a network, say. */
    int32_t group = worker_table_child_group(segment, child->slot);
    if (group > 1)
        kill(-group, SIGKILL);
    router_detach_publisher(child->settings.router, child->slot);
    if (child->stopping && WIFSIGNALED(status) &&
        WTERMSIG(status) == SIGTERM) /* it watches the signal once it runs */
        snprintf(how, sizeof how, "was asked to end while it still started, and did");
    else
        child_describe_end(status, how, sizeof how);
    log_write(child->stopping ? LOG_INFO : LOG_ERROR, LOGGER_MASTER, "policy process %d %s%s", (int)pid, how,
        child->stopping ? "" : "; starting a new one");
    if (child->stopping) {
        child->settings.stopped(child->settings.context);
        return true;
    }
    counter_add(segment, COUNTER_MASTER, COUNTER_POLICY_PROCESS_DIED, 1);
    child_backoff(child, clock_monotonic_ns() - child->started_ns);
    return true;
}

void policy_child_kill(struct policy_child *child, const char *why)
{
    if (child->pid <= 0 || child->killed)
        return;
    child->killed = true;
    log_write(LOG_ERROR, LOGGER_MASTER, "killing policy process %d: %s", (int)child->pid, why);
    kill(child->pid, SIGKILL);
}

static void child_on_tick(evutil_socket_t descriptor, short what, void *context)
{
    struct policy_child *child = object_cast(struct policy_child, POLICY_CHILD_MAGIC, context);
    uint64_t now = clock_monotonic_ns();
    (void)descriptor;
    (void)what;
    if (now - child->ticked_ns > PAUSED_NS)
        child->resumed_ns = now;
    child->ticked_ns = now;
    if (child->stopping)
        return;
    if (child->pid <= 0) {
        if (now >= child->restart_ns)
            child_start(child);
        return;
    }
    uint64_t beat = worker_table_heartbeat(child->settings.segment, child->slot);
    if (beat < child->resumed_ns)
        beat = child->resumed_ns;
    if (now > beat &&
        (double)(now - beat) > child->settings.config->worker_hang_seconds * (double)CLOCK_SECOND)
        policy_child_kill(child, "no heartbeat within the limit");
}

struct policy_child *policy_child_open(const struct policy_child_settings *settings, struct error *err)
{
    struct policy_child *child = memory_allocate(sizeof *child);
    child->magic = POLICY_CHILD_MAGIC;
    const struct timeval interval = {0, TICK_MS * 1000};
    int pipe_ends[2];
    child->settings = *settings;
    child->slot = segment_slot_count(settings->segment) - 1;
    child->lifeline_read = child->lifeline_write = -1;
    child->pace = (struct restart_pace){.first_ns = BACKOFF_FIRST_NS, .most_ns = BACKOFF_LAST_NS};
    child->poke = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    child->listener = policy_socket_listen(child->address, err);
    if (child->listener < 0 || child->poke < 0 || pipe2(pipe_ends, O_CLOEXEC) < 0) {
        if (child->listener >= 0)
            error_set_errno(err, errno, "cannot make the descriptors of the policy process");
        policy_child_close(child);
        return NULL;
    }
    child->lifeline_read = pipe_ends[0];
    child->lifeline_write = pipe_ends[1];
    child->tick = event_new(settings->base, -1, EV_PERSIST, child_on_tick, child);
    event_add(child->tick, &interval);
    child->ticked_ns = clock_monotonic_ns();
    child_start(child);
    return child;
}

void policy_child_close(struct policy_child *child)
{
    const int descriptors[] = {child->listener, child->poke, child->lifeline_read, child->lifeline_write};
    if (child->tick)
        event_free(child->tick);
    for (size_t i = 0; i < sizeof descriptors / sizeof *descriptors; i++)
        if (descriptors[i] >= 0)
            close(descriptors[i]);
    child->magic = 0;
    free(child);
}

const char *policy_child_address(const struct policy_child *child)
{
    return child->address;
}

void policy_child_poke(struct policy_child *child)
{
    const uint64_t one = 1;
    /* Full only when it was poked 2^64 times and read nothing: then it knows. */
    (void)!write(child->poke, &one, sizeof one);
}

void policy_child_stop(struct policy_child *child)
{
    if (child->stopping)
        return;
    child->stopping = true;
    if (child->pid > 0)
        kill(child->pid, SIGTERM);
    else
        child->settings.stopped(child->settings.context);
}

bool policy_child_has_stopped(const struct policy_child *child)
{
    return child->stopping && child->pid <= 0;
}
