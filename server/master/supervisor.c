#include "server/master/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/object.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"
#include "server/master/handoff.h"
#include "server/master/restart_pace.h"
#include "server/master/worker_start.h"
#include "shm/uplink.h"
#include "shm/worker_table.h"

#define SUPERVISOR_MAGIC 0x73757076u

#define BACKOFF_FIRST_NS (100 * CLOCK_MILLISECOND)
#define BACKOFF_LAST_NS  (10 * CLOCK_SECOND)
#define TICK_MS          100
/* A tick that comes so late says that this process did not run (a paused container or machine): nor did the
 * workers, so their heartbeats are judged from then on only. */
#define PAUSED_NS (1 * CLOCK_SECOND)
/* Beats come five times a second: a worker that was silent for so long is stopped or very busy, and what
 * was given to it lately waits. */
#define SILENT_NS (1200 * CLOCK_MILLISECOND)
/* A worker may be stopped for a while between choosing where a connection goes and sending it there. */
#define STRAND_NS (60 * CLOCK_SECOND)

enum slot_state { SLOT_EMPTY, SLOT_RUNNING, SLOT_BACKOFF, SLOT_RETIRING };

struct slot {
    enum slot_state state;
    pid_t pid;
    uint64_t started_ns;
    /* SLOT_BACKOFF: when */
    uint64_t restart_ns;
    /* when its last worker did; 0: it had none */
    uint64_t ended_ns;
    struct restart_pace pace;
    /* a SIGKILL is on its way: don't send and count another */
    bool killed;
    /* asked to end by it before it was ready, when it may not watch signals yet; 0: not */
    int early_signal;
    int handoff_receive;
    int handoff_send;
};

struct supervisor {
    uint32_t magic;
    struct supervisor_settings settings;
    struct slot slots[SEGMENT_SLOTS_MAX];
    unsigned slot_count;
    unsigned wanted;
    /* the workers' end */
    int lifeline_read;
    /* held open, never written: closes with the master */
    int lifeline_write;
    struct event *tick;
    /* the last tick */
    uint64_t ticked_ns;
    /* the end of the last pause; 0: none */
    uint64_t resumed_ns;
    bool announced_ready;
    /* a worker has taken clients at some time */
    bool was_ready;
    bool gave_up;
    bool stopping;
    bool announced_stopped;
};

/* True when no worker has ever taken clients, and each has died at its start as often as is allowed. */
static bool supervisor_is_hopeless(const struct supervisor *supervisor)
{
    unsigned attempts = supervisor->settings.config->worker_start_attempts;
    if (!attempts || supervisor->was_ready)
        return false;
    for (unsigned i = 0; i < supervisor->wanted; i++)
        if (supervisor->slots[i].pace.young_deaths < attempts)
            return false;
    return true;
}

/* The slot's worker has ended after `lived_ns`, or could not be started (0). */
static void supervisor_backoff(struct supervisor *supervisor, unsigned number, uint64_t lived_ns)
{
    struct slot *slot = &supervisor->slots[number];
    uint64_t delay = restart_pace_ended(&slot->pace, lived_ns);
    if (delay)
        log_write(LOG_WARNING, LOGGER_MASTER,
            "worker slot %u has died young %u times in a row: the next start is in %.1f s", number,
            slot->pace.young_deaths, (double)delay / (double)CLOCK_SECOND);
    slot->state = SLOT_BACKOFF;
    slot->restart_ns = clock_monotonic_ns() + delay;
    if (!supervisor->gave_up && supervisor_is_hopeless(supervisor)) {
        supervisor->gave_up = true;
        supervisor->settings.failed(supervisor->settings.context);
    }
}

static void supervisor_start(struct supervisor *supervisor, unsigned number)
{
    struct slot *slot = &supervisor->slots[number];
    struct segment *segment = supervisor->settings.segment;
    struct worker_descriptors descriptors = {
        .segment = segment_descriptors(segment, number),
        .slot = number,
        .listener_count = supervisor->settings.listeners->count,
        .tls_store = supervisor->settings.tls_store,
        .lifeline = supervisor->lifeline_read,
        .keys = supervisor->settings.keys,
        .handoff_receive = slot->handoff_receive,
        .slot_count = supervisor->slot_count,
    };
    struct error err = {0};
    for (int i = 0; i < descriptors.listener_count; i++)
        descriptors.listeners[i] = supervisor->settings.listeners->descriptors[i];
    for (unsigned i = 0; i < supervisor->slot_count; i++)
        descriptors.handoff_send[i] = supervisor->slots[i].handoff_send;
    snprintf(descriptors.policy_address, sizeof descriptors.policy_address, "%s",
        supervisor->settings.policy_address);

    slot->started_ns = clock_monotonic_ns();
    slot->killed = false;
    slot->early_signal = 0;
    if (uplink_prepare(segment, number, &err) < 0) {
        log_write(LOG_ERROR, LOGGER_MASTER, "cannot start a worker in slot %u: %s", number, err.text);
        supervisor_backoff(supervisor, number, 0);
        return;
    }
    worker_table_next_incarnation(segment, number);
    worker_table_set_connections(segment, number, 0);
    worker_table_beat(segment, number, slot->started_ns);
    worker_table_set_state(segment, number, WORKER_STARTING);
    /* From here on the ring keeps events for it: it misses none of those that come in while it starts. */
    router_attach_worker(supervisor->settings.router, number);
    slot->pid = worker_start(supervisor->settings.argv, supervisor->settings.argc, &descriptors, &err);
    if (slot->pid < 0) {
        log_write(LOG_ERROR, LOGGER_MASTER, "%s (slot %u)", err.text, number);
        worker_table_set_state(segment, number, WORKER_FREE);
        router_detach_worker(supervisor->settings.router, number);
        supervisor_backoff(supervisor, number, 0);
        return;
    }
    slot->state = SLOT_RUNNING;
    worker_table_set_pid(segment, number, (int32_t)slot->pid);
    counter_add(segment, COUNTER_MASTER, COUNTER_WORKERS_STARTED, 1);
    log_write(LOG_INFO, LOGGER_MASTER, "started worker %d in slot %u", (int)slot->pid, number);
}

static void supervisor_describe_end(int status, char *out, size_t size)
{
    int written;
    if (WIFEXITED(status))
        written = snprintf(out, size, "exited with status %d", WEXITSTATUS(status));
    else
        written = snprintf(
            out, size, "was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    if (written < 0)
        out[0] = '\0';
}

static void supervisor_ask_to_end(struct supervisor *supervisor, unsigned number, int signal_number)
{
    struct slot *slot = &supervisor->slots[number];
    if (worker_table_state(supervisor->settings.segment, number) == WORKER_STARTING)
        slot->early_signal = signal_number;
    kill(slot->pid, signal_number);
}

static void supervisor_slot_ended(struct supervisor *supervisor, unsigned number, int status)
{
    struct slot *slot = &supervisor->slots[number];
    struct segment *segment = supervisor->settings.segment;
    enum slot_state was = slot->state;
    char how[128];
    if (slot->early_signal && WIFSIGNALED(status) && WTERMSIG(status) == slot->early_signal)
        snprintf(how, sizeof how, "was asked to end while it still started, and did");
    else
        supervisor_describe_end(status, how, sizeof how);
    worker_table_set_state(segment, number, WORKER_DEAD);
    worker_table_set_connections(segment, number, 0);
    router_detach_worker(supervisor->settings.router, number);
    bool expected = was == SLOT_RETIRING || supervisor->stopping;
    log_write(expected ? LOG_INFO : LOG_ERROR, LOGGER_MASTER, "worker %d in slot %u %s%s", (int)slot->pid,
        number, how, expected ? "" : "; its clients find another worker, starting a new one");
    slot->pid = 0;
    slot->ended_ns = clock_monotonic_ns();
    worker_table_set_pid(segment, number, 0);
    if (expected) {
        slot->state = SLOT_EMPTY;
        worker_table_set_state(segment, number, WORKER_FREE);
        return;
    }
    counter_add(segment, COUNTER_MASTER, COUNTER_WORKERS_DIED, 1);
    supervisor_backoff(supervisor, number, slot->ended_ns - slot->started_ns);
    if (!supervisor->stopping && slot->restart_ns <= clock_monotonic_ns())
        supervisor_start(supervisor, number);
}

static void supervisor_check_stopped(struct supervisor *supervisor)
{
    if (!supervisor->stopping || supervisor->announced_stopped)
        return;
    for (unsigned i = 0; i < supervisor->slot_count; i++)
        if (supervisor->slots[i].pid > 0)
            return;
    supervisor->announced_stopped = true;
    supervisor->settings.stopped(supervisor->settings.context);
}

void supervisor_ended(struct supervisor *supervisor, pid_t pid, int status)
{
    for (unsigned i = 0; i < supervisor->slot_count; i++)
        if (supervisor->slots[i].pid == pid)
            supervisor_slot_ended(supervisor, i, status);
    supervisor_check_stopped(supervisor);
}

void supervisor_kill_stuck(struct supervisor *supervisor, unsigned number, const char *why)
{
    struct slot *slot = &supervisor->slots[number];
    if (slot->pid <= 0 || slot->killed)
        return;
    slot->killed = true;
    log_write(LOG_ERROR, LOGGER_MASTER, "killing worker %d in slot %u: %s", (int)slot->pid, number, why);
    counter_add(supervisor->settings.segment, COUNTER_MASTER, COUNTER_WORKERS_KILLED_STUCK, 1);
    kill(slot->pid, SIGKILL);
}

/* How long the slot's worker has not beaten. */
static uint64_t supervisor_silence_ns(const struct supervisor *supervisor, unsigned number, uint64_t now)
{
    uint64_t beat = worker_table_heartbeat(supervisor->settings.segment, number);
    if (beat < supervisor->resumed_ns)
        beat = supervisor->resumed_ns;
    return beat > now ? 0 : now - beat;
}

static bool supervisor_heart_beats(const struct supervisor *supervisor, unsigned number, uint64_t now)
{
    return (double)supervisor_silence_ns(supervisor, number, now) <
           supervisor->settings.config->worker_hang_seconds * (double)CLOCK_SECOND;
}

/* A worker that takes connections and does so at once. UINT_MAX: none. */
static unsigned supervisor_find_lively(const struct supervisor *supervisor, uint64_t now)
{
    for (unsigned i = 0; i < supervisor->slot_count; i++)
        if (supervisor->slots[i].state == SLOT_RUNNING &&
            worker_table_state(supervisor->settings.segment, i) == WORKER_READY &&
            supervisor_silence_ns(supervisor, i, now) < SILENT_NS)
            return i;
    return UINT_MAX;
}

/* Connections may be on their way to a worker that takes none any more, or not for a while: another gets
 * them. Without another they wait for the slot's worker, if there will be one. */
static void supervisor_rescue_connections(struct supervisor *supervisor, unsigned number, uint64_t now)
{
    const struct slot *slot = &supervisor->slots[number];
    unsigned to = supervisor_find_lively(supervisor, now);
    if (to != UINT_MAX)
        handoff_rescue(slot->handoff_receive, supervisor->slots[to].handoff_send);
    else if (supervisor->stopping)
        handoff_rescue(slot->handoff_receive, -1);
}

/* A free slot is given nothing once the others have seen in the table that it is free, so there is nothing
 * to look for later. */
static bool supervisor_may_strand(const struct supervisor *supervisor, unsigned number, uint64_t now)
{
    const struct slot *slot = &supervisor->slots[number];
    if (slot->pid > 0)
        return supervisor_silence_ns(supervisor, number, now) > SILENT_NS;
    return slot->ended_ns != 0 && (slot->state != SLOT_EMPTY || now - slot->ended_ns < STRAND_NS);
}

static void supervisor_on_tick(evutil_socket_t descriptor, short what, void *context)
{
    struct supervisor *supervisor = object_cast(struct supervisor, SUPERVISOR_MAGIC, context);
    uint64_t now = clock_monotonic_ns();
    (void)descriptor;
    (void)what;
    if (now - supervisor->ticked_ns > PAUSED_NS) {
        log_write(LOG_WARNING, LOGGER_MASTER,
            "the master did not run for %.1f s: the workers' heartbeats count from now on",
            (double)(now - supervisor->ticked_ns) / (double)CLOCK_SECOND);
        supervisor->resumed_ns = now;
    }
    supervisor->ticked_ns = now;
    master_heartbeat_write(supervisor->settings.segment, now);
    for (unsigned i = 0; i < supervisor->slot_count; i++) {
        struct slot *slot = &supervisor->slots[i];
        if (slot->state == SLOT_BACKOFF && now >= slot->restart_ns && !supervisor->stopping)
            supervisor_start(supervisor, i);
        else if (slot->pid > 0 && !supervisor_heart_beats(supervisor, i, now))
            supervisor_kill_stuck(supervisor, i, "no heartbeat within the limit");
        else if (supervisor_may_strand(supervisor, i, now))
            supervisor_rescue_connections(supervisor, i, now);
    }
    if (!supervisor->was_ready)
        supervisor->was_ready = supervisor_ready(supervisor) > 0;
    if (!supervisor->announced_ready && !supervisor->stopping &&
        supervisor_ready(supervisor) >= supervisor->wanted) {
        supervisor->announced_ready = true;
        supervisor->settings.ready(supervisor->settings.context);
    }
}

static int supervisor_open_descriptors(struct supervisor *supervisor, struct error *err)
{
    int pipe_ends[2];
    if (pipe2(pipe_ends, O_CLOEXEC) < 0)
        return error_set_errno(err, errno, "cannot make the workers' lifeline");
    supervisor->lifeline_read = pipe_ends[0];
    supervisor->lifeline_write = pipe_ends[1];
    for (unsigned i = 0; i < supervisor->slot_count; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
            return error_set_errno(err, errno, "cannot make the sockets that spread connections");
        supervisor->slots[i].handoff_receive = pair[0];
        supervisor->slots[i].handoff_send = pair[1];
    }
    return 0;
}

struct supervisor *supervisor_open(const struct supervisor_settings *settings, struct error *err)
{
    struct supervisor *supervisor = memory_allocate(sizeof *supervisor);
    supervisor->magic = SUPERVISOR_MAGIC;
    struct timeval interval = {0, TICK_MS * 1000};
    supervisor->settings = *settings;
    supervisor->slot_count = settings->config->workers_max;
    supervisor->wanted = settings->config->workers;
    supervisor->lifeline_read = supervisor->lifeline_write = -1;
    for (unsigned i = 0; i < supervisor->slot_count; i++)
        supervisor->slots[i] = (struct slot){.handoff_receive = -1,
            .handoff_send = -1,
            .pace = {.first_ns = BACKOFF_FIRST_NS, .most_ns = BACKOFF_LAST_NS}};
    if (supervisor_open_descriptors(supervisor, err) < 0) {
        supervisor_close(supervisor);
        return NULL;
    }
    supervisor->tick = event_new(settings->base, -1, EV_PERSIST, supervisor_on_tick, supervisor);
    event_add(supervisor->tick, &interval);
    supervisor->ticked_ns = clock_monotonic_ns();
    for (unsigned i = 0; i < supervisor->wanted; i++)
        supervisor_start(supervisor, i);
    return supervisor;
}

void supervisor_close(struct supervisor *supervisor)
{
    if (supervisor->tick)
        event_free(supervisor->tick);
    for (unsigned i = 0; i < supervisor->slot_count; i++) {
        if (supervisor->slots[i].handoff_receive >= 0)
            close(supervisor->slots[i].handoff_receive);
        if (supervisor->slots[i].handoff_send >= 0)
            close(supervisor->slots[i].handoff_send);
    }
    if (supervisor->lifeline_read >= 0)
        close(supervisor->lifeline_read);
    if (supervisor->lifeline_write >= 0)
        close(supervisor->lifeline_write);
    supervisor->magic = 0;
    free(supervisor);
}

void supervisor_change(struct supervisor *supervisor, int by)
{
    if (supervisor->stopping)
        return;
    if (by > 0 && supervisor->wanted >= supervisor->slot_count) {
        log_write(LOG_WARNING, LOGGER_MASTER,
            "no worker added: there are %u already, the most that OPAL_WORKERS_MAX allows",
            supervisor->wanted);
        return;
    }
    if (by < 0 && supervisor->wanted <= 1) {
        log_write(LOG_WARNING, LOGGER_MASTER, "no worker removed: one must stay");
        return;
    }
    if (by > 0) {
        unsigned number = 0; /* a slot whose worker is still retiring is not free yet */
        while (number < supervisor->slot_count && supervisor->slots[number].state != SLOT_EMPTY)
            number++;
        if (number == supervisor->slot_count) {
            log_write(
                LOG_WARNING, LOGGER_MASTER, "no worker added: all slots are still in use, try again shortly");
            return;
        }
        supervisor->wanted++;
        supervisor->slots[number].pace.young_deaths = 0;
        supervisor_start(supervisor, number);
    } else {
        unsigned number = supervisor->slot_count;
        while (number-- > 0)
            if (supervisor->slots[number].state == SLOT_RUNNING ||
                supervisor->slots[number].state == SLOT_BACKOFF)
                break;
        supervisor->wanted--;
        if (supervisor->slots[number].state == SLOT_BACKOFF) {
            supervisor->slots[number].state = SLOT_EMPTY;
        } else {
            supervisor->slots[number].state = SLOT_RETIRING;
            supervisor_ask_to_end(supervisor, number, SIGTERM);
            worker_table_set_state(supervisor->settings.segment, number, WORKER_DRAINING);
        }
    }
    log_write(LOG_INFO, LOGGER_MASTER, "%u workers wanted", supervisor->wanted);
}

/* One that is starting looks by itself once it is ready. */
void supervisor_reload(struct supervisor *supervisor)
{
    for (unsigned i = 0; i < supervisor->slot_count; i++)
        if (supervisor->slots[i].pid > 0 &&
            worker_table_state(supervisor->settings.segment, i) == WORKER_READY)
            kill(supervisor->slots[i].pid, SIGHUP);
}

void supervisor_stop(struct supervisor *supervisor, int signal_number)
{
    supervisor->stopping = true;
    for (unsigned i = 0; i < supervisor->slot_count; i++)
        if (supervisor->slots[i].pid > 0)
            supervisor_ask_to_end(supervisor, i, signal_number);
        else
            supervisor->slots[i].state = SLOT_EMPTY;
    supervisor_check_stopped(supervisor);
}

void supervisor_kill_all(struct supervisor *supervisor)
{
    for (unsigned i = 0; i < supervisor->slot_count; i++)
        if (supervisor->slots[i].pid > 0)
            kill(supervisor->slots[i].pid, SIGKILL);
}

unsigned supervisor_wanted(const struct supervisor *supervisor)
{
    return supervisor->wanted;
}

int supervisor_handoff(const struct supervisor *supervisor, unsigned slot)
{
    return slot < SEGMENT_SLOTS_MAX ? supervisor->slots[slot].handoff_send : -1;
}

unsigned supervisor_ready(const struct supervisor *supervisor)
{
    unsigned ready = 0;
    for (unsigned i = 0; i < supervisor->slot_count; i++)
        if (supervisor->slots[i].state == SLOT_RUNNING &&
            worker_table_state(supervisor->settings.segment, i) == WORKER_READY)
            ready++;
    return ready;
}

bool supervisor_healthy(const struct supervisor *supervisor)
{
    uint64_t now = clock_monotonic_ns();
    if (supervisor_ready(supervisor) < supervisor->wanted)
        return false;
    for (unsigned i = 0; i < supervisor->slot_count; i++)
        if (supervisor->slots[i].state == SLOT_RUNNING && !supervisor_heart_beats(supervisor, i, now))
            return false;
    return true;
}
