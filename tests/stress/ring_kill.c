/*
 * ring_kill [seconds [seed]]: processes that are killed (SIGKILL) and stopped (SIGSTOP, SIGCONT) at every point between two
 * stores, first each point by itself, then at random points and at any instruction.
 *
 *   writer    the ring's writer is a child here; another one takes over from its position. Readers: no gap, no bad byte, no
 *             lost wake-up.
 *   workers   the master (this process) writes the ring and drains the uplinks; workers read and commit. Readers as above; no
 *             committed uplink record is lost or doubled; a dead worker is replaced at the tail; a stopped one holds the
 *             writer up, nothing is overwritten, and it is killed and replaced, or goes on where it was.
 *   doorbell  a worker stopped in the middle of ringing doesn't keep another from waking the master.
 *
 * The points are SHM_POINT in shm/, which this build (-DSHM_POINTS) turns into calls of shm_point below.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include "tests/stress/stress.h"
#include "shm/ring.h"
#include "shm/uplink.h"
#include "shm/worker_table.h"

#ifndef SHM_POINTS
#error "build with -DSHM_POINTS"
#endif

#define RING_BYTES   65536u
#define UPLINK_BYTES 4096u
#define WORKERS      4u
#define SALT         1u
#define TYPE_END     RING_RESYNC
#define WRITER       WORKERS /* index of the writer child among the actors */
#define ACTORS       (WORKERS + 1)
#define NO_POINT     (-1)
/* A running process gets nowhere for that long: something is lost. */
#define STUCK_NS (5 * CLOCK_SECOND)
/* A stopped reader holds up a full ring for that long: it is killed and replaced. */
#define STALL_NS (20 * CLOCK_MILLISECOND)

/* Shared by all processes of the test, beside the segment. */
struct actor {
    _Atomic int point; /* armed: the process gets `signal` when it passes it for the `countdown`th time */
    _Atomic int countdown;
    _Atomic int signal;
    _Atomic uint64_t committed;       /* uplink records, of this incarnation, whose commit returned */
    _Atomic uint64_t committed_until; /* uplink position after the last of them */
    _Atomic uint64_t read;            /* ring records, ever */
};

struct stage {
    struct actor actors[ACTORS];
    _Atomic uint64_t woken_through; /* every wake-up for ring records before it is done */
    _Atomic bool stop;
    _Atomic uint64_t passed[SHM_POINT_COUNT];
    _Atomic uint64_t killed[SHM_POINT_COUNT];
    _Atomic uint64_t stopped[SHM_POINT_COUNT];
};

static struct stage *stage;
static struct segment *segment;
static struct actor *self; /* NULL in the test's own process */
static uint64_t seed;
static uint64_t killed_anywhere;
static uint64_t stopped_anywhere;
static uint64_t replaced_stuck;

static const char *const point_names[] = {
#define POINT_NAME(name) #name,
    SHM_POINT_LIST(POINT_NAME)
#undef POINT_NAME
};

void shm_point(enum shm_point point)
{
    atomic_fetch_add_explicit(&stage->passed[point], 1, memory_order_relaxed);
    if (self == NULL)
        return;
    /* Widens the window in which the writer's record meets a reader that lies down. */
    if (point == SHM_POINT_READER_LYING && stress_random(&seed, 4) == 0)
        stress_pause(1);
    if (atomic_load(&self->point) != (int)point || atomic_fetch_sub(&self->countdown, 1) != 1)
        return;
    atomic_store(&self->point, NO_POINT);
    int signal_number = atomic_load(&self->signal);
    atomic_fetch_add(signal_number == SIGKILL ? &stage->killed[point] : &stage->stopped[point], 1);
    kill(getpid(), signal_number);
}

static void arm(unsigned actor, int point, int countdown, int signal_number)
{
    struct actor *target = &stage->actors[actor];
    atomic_store(&target->countdown, countdown);
    atomic_store(&target->signal, signal_number);
    atomic_store(&target->point, point);
}

static void disarm(unsigned actor)
{
    atomic_store(&stage->actors[actor].point, NO_POINT);
}

/* ---- a reader, in its own process with its own mapping ---- */

static void reader_compare(unsigned slot, const struct ring_record *record, uint64_t *expected)
{
    uint32_t length = stress_length(*expected, SALT, RING_BYTES / 8 - 8);
    uint64_t position = stress_position(*expected, length, RING_BYTES);
    if (record->length != length || record->position != position)
        STRESS_FAIL("reader %u: gap: a record of %u bytes at %llu, expected %u at %llu", slot, record->length,
            (unsigned long long)record->position, length, (unsigned long long)position);
    if (!stress_matches(record->body, record->length, position, SALT))
        STRESS_FAIL("reader %u: bad bytes at %llu", slot, (unsigned long long)position);
    *expected = position + layout_record_size(length);
}

/* Waits a little. A sleeper that should have been woken is a failure: the writer has done all wake-ups up to a position
 * behind ours, and there is none in the eventfd. */
static void reader_wait(unsigned slot, struct ring_reader *reader, int fd, uint64_t expected)
{
    if (stress_readable(fd, 2)) {
        ring_reader_awake(reader);
        return;
    }
    uint64_t through = atomic_load(&stage->woken_through);
    if (through > expected && !stress_readable(fd, 0))
        STRESS_FAIL("reader %u sleeps at %llu, all are woken up to %llu: a lost wake-up", slot,
            (unsigned long long)expected, (unsigned long long)through);
}

static void uplink_put(unsigned slot, struct uplink *uplink)
{
    struct actor *actor = &stage->actors[slot];
    uint64_t tail = atomic_load(&segment_entry(segment, slot)->uplink_tail);
    uint32_t length = stress_length(tail, slot, uplink_body_max(uplink));
    void *body = uplink_reserve(uplink, 1, length);
    if (body == NULL)
        return;
    uint64_t position = stress_position(tail, length, UPLINK_BYTES);
    stress_fill(body, length, position, slot);
    uplink_commit(uplink);
    atomic_fetch_add(&actor->committed, 1);
    atomic_store(&actor->committed_until, position + layout_record_size(length));
}

/* With `publishes` it is a whole worker. Ends by the record TYPE_END. */
static void worker_run(unsigned slot, struct segment_descriptors descriptors, bool publishes)
{
    struct error err = {0};
    struct segment *master_view = segment;
    segment = segment_attach(&descriptors, slot, &err);
    if (segment == NULL)
        STRESS_FAIL("%s", err.text);
    munmap(master_view->base, master_view->base_bytes); /* nothing of the master's view is left */
    struct ring_reader *reader = ring_reader_open(segment, slot);
    struct uplink *uplink = uplink_open(segment, slot);
    uint64_t expected = atomic_load(&segment_entry(segment, slot)->ring_cell);
    uint64_t random = seed;
    for (;;) {
        struct ring_record record;
        bool more = false;
        for (uint32_t budget = stress_random(&random, 20) + 1; budget > 0; budget--) {
            more = ring_reader_next(reader, &record);
            if (!more)
                break;
            if (record.type == TYPE_END)
                _exit(0);
            reader_compare(slot, &record, &expected);
            atomic_fetch_add(&self->read, 1);
        }
        ring_reader_release(reader);
        if (publishes && stress_random(&random, 3) == 0)
            uplink_put(slot, uplink);
        if (!more && ring_reader_sleep(reader))
            reader_wait(slot, reader, segment_own_eventfd(segment), expected);
    }
}

/* Forks an actor. The child dies with the test. */
static pid_t actor_fork(unsigned actor)
{
    pid_t parent = getpid();
    uint64_t child_seed = stress_mix(++seed);
    disarm(actor);
    pid_t pid = fork();
    if (pid < 0)
        STRESS_FAIL("fork: %s", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        self = &stage->actors[actor];
        seed = child_seed;
    }
    return pid;
}

static pid_t worker_start(unsigned slot, bool publishes)
{
    struct segment_descriptors d = segment_descriptors(segment, slot);
    pid_t pid = actor_fork(slot);
    if (pid == 0) {
        d.memory = fcntl(d.memory, F_DUPFD_CLOEXEC, 0);
        worker_run(slot, d, publishes);
    }
    return pid;
}

/* ---- the writer ---- */

static bool writer_put(struct ring_writer *writer)
{
    uint64_t tail = ring_writer_tail(writer);
    uint32_t length = stress_length(tail, SALT, ring_writer_body_max(writer));
    void *body = ring_writer_reserve(writer, RING_EVENT, length);
    if (body == NULL)
        return false;
    stress_fill(body, length, stress_position(tail, length, RING_BYTES), SALT);
    ring_writer_commit(writer);
    return true;
}

static void writer_wake(struct ring_writer *writer)
{
    ring_writer_wake(writer);
    atomic_store(&stage->woken_through, ring_writer_tail(writer));
}

static void writer_run(void)
{
    struct ring_writer *writer = ring_writer_open(segment);
    uint64_t since = clock_monotonic_ns();
    while (!atomic_load(&stage->stop)) {
        bool room = true;
        for (uint32_t i = stress_random(&seed, 30); i > 0 && room; i--) {
            room = writer_put(writer);
            if (room)
                since = clock_monotonic_ns();
        }
        writer_wake(writer);
        if (clock_monotonic_ns() - since > STUCK_NS)
            STRESS_FAIL("readers that run hold up the writer");
        stress_pause(stress_random(&seed, 60)); /* readers fall asleep */
    }
    _exit(0);
}

static pid_t writer_start(void)
{
    pid_t pid = actor_fork(WRITER);
    if (pid == 0)
        writer_run();
    return pid;
}

/* ---- the test's side ---- */

static void stage_open(void)
{
    stage = mmap(NULL, sizeof *stage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (stage == MAP_FAILED)
        STRESS_FAIL("mmap: %s", strerror(errno));
}

static void scene_open(struct ring_writer **writer)
{
    struct error err = {0};
    struct segment_settings settings = {
        .ring_bytes = RING_BYTES, .uplink_bytes = UPLINK_BYTES, .slots = WORKERS};
    segment = segment_create(&settings, &err);
    if (segment == NULL)
        STRESS_FAIL("%s", err.text);
    *writer = ring_writer_open(segment);
    for (unsigned slot = 0; slot < WORKERS; slot++) {
        if (segment_prepare_slot(segment, slot, &err) < 0)
            STRESS_FAIL("%s", err.text);
        ring_writer_activate(*writer, slot);
    }
    atomic_store(&stage->stop, false);
    atomic_store(&stage->woken_through, 0);
    for (unsigned actor = 0; actor < ACTORS; actor++) {
        disarm(actor);
        atomic_store(&stage->actors[actor].committed, 0);
        atomic_store(&stage->actors[actor].committed_until, 0);
        atomic_store(&stage->actors[actor].read, 0);
    }
}

/* Only a kill of ours is a good end before the last record. */
static void check_end(const char *who, int status)
{
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return;
    if (WIFSIGNALED(status))
        STRESS_FAIL("%s ended by signal %d", who, WTERMSIG(status));
    STRESS_FAIL("%s ended with status %d", who, WEXITSTATUS(status));
}

static void check_worker_alive(pid_t pid)
{
    int status;
    if (waitpid(pid, &status, WNOHANG) == pid)
        check_end("a reader that nobody killed", status);
}

/* The last record; every reader must come to it and have been content all along. */
static void readers_end(struct ring_writer *writer, const pid_t *workers)
{
    uint64_t since = clock_monotonic_ns();
    while (ring_writer_reserve(writer, TYPE_END, 0) == NULL) {
        ring_writer_wake(writer);
        if (clock_monotonic_ns() - since > STUCK_NS)
            STRESS_FAIL("readers that run hold up the last record");
        stress_pause(100);
    }
    ring_writer_commit(writer);
    ring_writer_wake(writer);
    for (unsigned slot = 0; slot < WORKERS; slot++) {
        int status = 0;
        while (waitpid(workers[slot], &status, WNOHANG) == 0) {
            if (clock_monotonic_ns() - since > 2 * STUCK_NS)
                STRESS_FAIL("reader %u doesn't come to the last record", slot);
            stress_pause(200);
        }
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            STRESS_FAIL("reader %u: wait status %x", slot, (unsigned)status);
    }
}

/* ---- scene 1: the writer is killed and stopped ---- */

/* Waits for what was armed; a stopped writer goes on after a moment, a killed one is followed by another. */
static pid_t writer_event(pid_t writer, const char *what, uint64_t patience_ns)
{
    uint64_t until = clock_monotonic_ns() + patience_ns;
    int status;
    pid_t got;
    while ((got = waitpid(writer, &status, WNOHANG | WUNTRACED)) == 0) {
        if (clock_monotonic_ns() > until) {
            if (what != NULL)
                STRESS_FAIL("the writer never passes %s", what);
            return writer;
        }
        stress_pause(50);
    }
    if (got < 0)
        STRESS_FAIL("waitpid: %s", strerror(errno));
    if (WIFSTOPPED(status)) {
        stress_pause(stress_random(&seed, 3000));
        kill(writer, SIGCONT);
        return writer;
    }
    check_end("the writer", status);
    return writer_start();
}

static void scene_writer(double seconds)
{
    struct ring_writer *own;
    scene_open(&own);
    ring_writer_close(own);
    pid_t workers[WORKERS];
    for (unsigned slot = 0; slot < WORKERS; slot++)
        workers[slot] = worker_start(slot, false);
    pid_t writer = writer_start();
    for (int point = SHM_POINT_WRITER_PADDED; point <= SHM_POINT_WRITER_WOKE; point++)
        for (int repeat = 0; repeat < 12; repeat++) {
            arm(WRITER, point, (int)stress_random(&seed, 5) + 1, repeat % 2 ? SIGKILL : SIGSTOP);
            writer = writer_event(writer, point_names[point], STUCK_NS);
        }
    uint64_t until = clock_monotonic_ns() + (uint64_t)(seconds * (double)CLOCK_SECOND);
    while (clock_monotonic_ns() < until) {
        int signal_number = stress_random(&seed, 2) ? SIGKILL : SIGSTOP;
        if (stress_random(&seed, 2)) {
            arm(WRITER, (int)stress_random(&seed, SHM_POINT_WRITER_WOKE + 1),
                (int)stress_random(&seed, 20) + 1, signal_number);
            writer = writer_event(writer, NULL, 20 * CLOCK_MILLISECOND);
        } else {
            stress_pause(stress_random(&seed, 2000));
            kill(writer, signal_number);
            signal_number == SIGKILL ? killed_anywhere++ : stopped_anywhere++;
            writer = writer_event(writer, "a signal", STUCK_NS);
        }
        for (unsigned slot = 0; slot < WORKERS; slot++)
            check_worker_alive(workers[slot]);
    }
    /* Ends it in peace, then the readers. */
    disarm(WRITER);
    atomic_store(&stage->stop, true);
    int status;
    while (waitpid(writer, &status, WUNTRACED) == writer && WIFSTOPPED(status))
        kill(writer, SIGCONT);
    if (WIFSIGNALED(status) ? WTERMSIG(status) != SIGKILL : WEXITSTATUS(status) != 0)
        check_end("the writer", status);
    own = ring_writer_open(segment);
    readers_end(own, workers);
    uint64_t read = atomic_load(&stage->actors[0].read);
    for (unsigned slot = 1; slot < WORKERS; slot++)
        if (atomic_load(&stage->actors[slot].read) != read)
            STRESS_FAIL("reader %u read %llu records, reader 0 %llu", slot,
                (unsigned long long)atomic_load(&stage->actors[slot].read), (unsigned long long)read);
    printf("writer: %llu records read by each of %u readers\n", (unsigned long long)read, WORKERS);
    ring_writer_close(own);
    segment_close(segment);
}

/* ---- scene 2: workers are killed and stopped; this process is the master ---- */

struct worker {
    pid_t pid;
    bool stopped;
    bool stay;            /* a stopped one is not sent on: it has to be found as stuck */
    uint64_t continue_at; /* when a stopped one goes on */
    struct uplink *uplink;
    uint64_t expected; /* uplink position */
    uint64_t received; /* uplink records of this incarnation */
};

struct master {
    struct ring_writer *writer;
    struct worker workers[WORKERS];
    uint64_t full_since; /* 0: there is room */
    uint64_t received;
    uint64_t events; /* deaths and stops seen */
};

static bool master_drain(struct master *master, unsigned slot)
{
    struct worker *worker = &master->workers[slot];
    struct uplink_record record;
    bool corrupt;
    bool any = false;
    while (uplink_next(worker->uplink, &record, &corrupt)) {
        uint32_t length = stress_length(worker->expected, slot, uplink_body_max(worker->uplink));
        uint64_t position = stress_position(worker->expected, length, UPLINK_BYTES);
        if (record.length != length || !stress_matches(record.body, record.length, position, slot))
            STRESS_FAIL("uplink %u: bad record at %llu", slot, (unsigned long long)position);
        worker->expected = position + layout_record_size(length);
        worker->received++;
        master->received++;
        any = true;
    }
    if (corrupt)
        STRESS_FAIL("uplink %u is corrupt", slot);
    uplink_release(worker->uplink);
    return any;
}

/* What a master does with a dead worker. Half of the time it drains the uplink before the slot is prepared, else after. */
static void master_replace(struct master *master, unsigned slot)
{
    struct worker *worker = &master->workers[slot];
    struct error err = {0};
    bool before = stress_random(&seed, 2);
    ring_writer_deactivate(master->writer, slot);
    if (before)
        master_drain(master, slot);
    if (segment_prepare_slot(segment, slot, &err) < 0)
        STRESS_FAIL("%s", err.text);
    master_drain(master, slot);
    /* Every commit that returned was received, and at most one more: killed between the commit and its counting. */
    uint64_t committed = atomic_load(&stage->actors[slot].committed);
    if (worker->received < committed || worker->received > committed + 1)
        STRESS_FAIL("uplink %u: %llu records were committed, %llu came", slot, (unsigned long long)committed,
            (unsigned long long)worker->received);
    atomic_store(&stage->actors[slot].committed, 0);
    worker->received = 0;
    worker->stopped = false;
    worker->stay = false;
    ring_writer_activate(master->writer, slot);
    if (ring_writer_lag(master->writer, slot) != 0)
        STRESS_FAIL("a new reader doesn't start at the tail");
    worker->pid = worker_start(slot, true);
}

static void master_look_after(struct master *master)
{
    for (unsigned slot = 0; slot < WORKERS; slot++) {
        struct worker *worker = &master->workers[slot];
        int status;
        pid_t got = waitpid(worker->pid, &status, WNOHANG | WUNTRACED);
        if (got == worker->pid && WIFSTOPPED(status)) {
            master->events++;
            worker->stopped = true;
            worker->continue_at = clock_monotonic_ns() + stress_random(&seed, 10000) * UINT64_C(1000);
        } else if (got == worker->pid) {
            master->events++;
            check_end("a worker", status);
            master_replace(master, slot);
        } else if (worker->stopped && !worker->stay && clock_monotonic_ns() >= worker->continue_at) {
            worker->stopped = false;
            kill(worker->pid, SIGCONT);
        }
    }
}

/* The ring is full. Whoever is in the way must be stopped; after a while it is killed, which the next look finds. */
static void master_stalled(struct master *master)
{
    uint64_t now = clock_monotonic_ns();
    uint64_t lag;
    unsigned slot = ring_writer_slowest(master->writer, &lag);
    if (master->full_since == 0)
        master->full_since = now;
    if (slot < WORKERS && master->workers[slot].stopped && now - master->full_since > STALL_NS) {
        kill(master->workers[slot].pid, SIGKILL);
        replaced_stuck++;
        master->full_since = now;
    }
    if (now - master->full_since > STUCK_NS)
        STRESS_FAIL("reader %u runs and holds up the writer by %llu bytes", slot, (unsigned long long)lag);
}

static void master_sleep(struct master *master)
{
    int doorbell = segment_own_eventfd(segment);
    if (!uplink_master_sleep(segment))
        return;
    if (!stress_readable(doorbell, (int)stress_random(&seed, 3)))
        for (unsigned slot = 0; slot < WORKERS; slot++) {
            uint64_t until = atomic_load(&stage->actors[slot].committed_until);
            if (until > master->workers[slot].expected && !stress_readable(doorbell, 0))
                STRESS_FAIL("the master sleeps at %llu of uplink %u, committed up to %llu: a lost wake-up",
                    (unsigned long long)master->workers[slot].expected, slot, (unsigned long long)until);
        }
    uplink_master_awake(segment);
}

/* One turn of the master's loop. */
static void master_turn(struct master *master)
{
    bool room = true;
    for (uint32_t i = stress_random(&seed, 20); i > 0 && room; i--)
        room = writer_put(master->writer);
    writer_wake(master->writer);
    if (room)
        master->full_since = 0;
    else
        master_stalled(master);
    bool any = false;
    for (unsigned slot = 0; slot < WORKERS; slot++)
        any |= master_drain(master, slot);
    master_look_after(master);
    if (!any)
        master_sleep(master);
}

/* Arms one worker and runs until it was hit. A stopped one either goes on after a moment or is left until it is replaced. */
static void master_provoke(struct master *master, int point, int signal_number, bool stay)
{
    unsigned slot = stress_random(&seed, WORKERS);
    uint64_t events = master->events;
    uint64_t since = clock_monotonic_ns();
    master->workers[slot].stay = stay;
    arm(slot, point, (int)stress_random(&seed, 5) + 1, signal_number);
    while (master->events == events || master->workers[slot].stopped) {
        master_turn(master);
        if (clock_monotonic_ns() - since > 2 * STUCK_NS)
            STRESS_FAIL("worker %u never passes %s", slot, point_names[point]);
    }
}

static void master_disturb(struct master *master)
{
    unsigned slot = stress_random(&seed, WORKERS);
    struct worker *worker = &master->workers[slot];
    int signal_number = stress_random(&seed, 2) ? SIGKILL : SIGSTOP;
    if (worker->stopped)
        return;
    worker->stay = stress_random(&seed, 8) == 0;
    if (stress_random(&seed, 2)) {
        arm(slot, (int)stress_random(&seed, SHM_POINT_COUNT), (int)stress_random(&seed, 20) + 1,
            signal_number);
    } else {
        stress_pause(stress_random(&seed, 200));
        kill(worker->pid, signal_number);
        signal_number == SIGKILL ? killed_anywhere++ : stopped_anywhere++;
    }
}

static void scene_workers(double seconds)
{
    struct master master = {0};
    scene_open(&master.writer);
    for (unsigned slot = 0; slot < WORKERS; slot++) {
        master.workers[slot].uplink = uplink_open(segment, slot);
        master.workers[slot].pid = worker_start(slot, true);
    }
    for (int point = SHM_POINT_READER_LOOKED; point < SHM_POINT_COUNT; point++)
        for (int repeat = 0; repeat < 4; repeat++) {
            master_provoke(&master, point, SIGKILL, false);
            master_provoke(&master, point, SIGSTOP, repeat == 0);
        }
    uint64_t until = clock_monotonic_ns() + (uint64_t)(seconds * (double)CLOCK_SECOND);
    while (clock_monotonic_ns() < until) {
        master_disturb(&master);
        for (uint32_t i = stress_random(&seed, 20); i > 0; i--)
            master_turn(&master);
    }
    /* Lets all go on and drains until everybody is content. */
    for (unsigned slot = 0; slot < WORKERS; slot++) {
        disarm(slot);
        master.workers[slot].stay = false;
        kill(master.workers[slot].pid, SIGCONT);
    }
    for (int i = 0; i < 200; i++)
        master_turn(&master);
    pid_t pids[WORKERS];
    for (unsigned slot = 0; slot < WORKERS; slot++) {
        kill(master.workers[slot].pid, SIGCONT);
        pids[slot] = master.workers[slot].pid;
    }
    readers_end(master.writer, pids);
    for (unsigned slot = 0; slot < WORKERS; slot++) {
        master_drain(&master, slot);
        if (master.workers[slot].received != atomic_load(&stage->actors[slot].committed))
            STRESS_FAIL("uplink %u: not all committed records came", slot);
        uplink_close(master.workers[slot].uplink);
    }
    printf("workers: %llu deaths and stops, %llu stopped ones replaced, %llu uplink records, %llu bytes "
           "through the ring\n",
        (unsigned long long)master.events, (unsigned long long)replaced_stuck,
        (unsigned long long)master.received, (unsigned long long)ring_writer_tail(master.writer));
    if (replaced_stuck == 0)
        STRESS_FAIL("no stopped reader ever held up the writer");
    ring_writer_close(master.writer);
    segment_close(segment);
}

/* ---- scene 3: the doorbell ---- */

static pid_t ringer_start(unsigned slot)
{
    struct segment_descriptors d = segment_descriptors(segment, slot);
    pid_t pid = actor_fork(slot);
    if (pid == 0) {
        struct error err = {0};
        d.memory = fcntl(d.memory, F_DUPFD_CLOEXEC, 0);
        segment = segment_attach(&d, slot, &err);
        if (segment == NULL)
            STRESS_FAIL("%s", err.text);
        struct uplink *uplink = uplink_open(segment, slot);
        while (atomic_load(&self->countdown) == 0)
            stress_pause(100);
        uplink_reserve(uplink, 1, 16);
        uplink_commit(uplink);
        _exit(0);
    }
    return pid;
}

/* At each point of the ringing: worker 0 is stopped there (or killed), then worker 1 commits. The master sleeps from before
 * until the doorbell, sees to worker 0's record if it was committed, and sleeps again before worker 1 comes. */
static void scene_doorbell(void)
{
    for (int point = SHM_POINT_UPLINK_COMMITTED; point <= SHM_POINT_UPLINK_DONE; point++)
        for (int again = 0; again < 2; again++) {
            struct ring_writer *writer;
            scene_open(&writer);
            struct uplink *uplinks[2] = {uplink_open(segment, 0), uplink_open(segment, 1)};
            arm(0, NO_POINT, 0, SIGSTOP);
            arm(1, NO_POINT, 0, SIGSTOP);
            pid_t first = ringer_start(0);
            pid_t second = ringer_start(1);
            if (!uplink_master_sleep(segment))
                STRESS_FAIL("doorbell: nothing was committed");
            arm(0, point, 1, SIGSTOP);
            int status;
            if (waitpid(first, &status, WUNTRACED) != first || !WIFSTOPPED(status))
                STRESS_FAIL("doorbell: the first worker doesn't stop at %s", point_names[point]);
            if (again) {
                /* The master woke for something else, took the record and sleeps anew: the late worker's clearing must
                 * not reach this sleep. */
                struct uplink_record record;
                bool corrupt;
                uplink_master_awake(segment);
                if (!uplink_next(uplinks[0], &record, &corrupt))
                    STRESS_FAIL("doorbell: the committed record isn't there");
                uplink_release(uplinks[0]);
                if (!uplink_master_sleep(segment))
                    STRESS_FAIL("doorbell: there is nothing to read");
                if (point >= SHM_POINT_UPLINK_RANG) {
                    kill(first, SIGCONT);
                    waitpid(first, &status, 0);
                    if (stress_readable(segment_own_eventfd(segment), 0))
                        STRESS_FAIL("doorbell: rung for nothing");
                }
            }
            arm(1, NO_POINT, 1, SIGSTOP);
            if (!stress_readable(segment_own_eventfd(segment), 5000))
                STRESS_FAIL("doorbell: a worker stopped at %s keeps another from waking the master",
                    point_names[point]);
            kill(first, SIGKILL);
            waitpid(first, &status, 0);
            waitpid(second, &status, 0);
            if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                STRESS_FAIL("doorbell: the second worker: wait status %x", (unsigned)status);
            uplink_close(uplinks[0]);
            uplink_close(uplinks[1]);
            ring_writer_close(writer);
            segment_close(segment);
        }
    printf("doorbell: rung past a stopped worker\n");
}

static void report_points(void)
{
    printf("%-18s %12s %8s %8s\n", "point", "passed", "killed", "stopped");
    for (unsigned point = 0; point < SHM_POINT_COUNT; point++) {
        uint64_t killed = atomic_load(&stage->killed[point]);
        uint64_t stopped = atomic_load(&stage->stopped[point]);
        printf("%-18s %12llu %8llu %8llu\n", point_names[point],
            (unsigned long long)atomic_load(&stage->passed[point]), (unsigned long long)killed,
            (unsigned long long)stopped);
        if (killed == 0 || stopped == 0)
            STRESS_FAIL("nobody was killed or nobody was stopped at %s", point_names[point]);
    }
    printf("%-18s %12s %8llu %8llu\n", "anywhere", "", (unsigned long long)killed_anywhere,
        (unsigned long long)stopped_anywhere);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 12;
    seed = argc > 2 ? strtoull(argv[2], NULL, 0) : clock_monotonic_ns();
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("seed %llu\n", (unsigned long long)seed);
    stage_open();
    scene_doorbell();
    scene_writer(seconds * 0.4);
    scene_workers(seconds * 0.6);
    report_points();
    return 0;
}
