/*
 * Scene of ring_kill: workers are killed and stopped; this process is the master, which writes the ring,
 * drains the uplinks, replaces the dead, and kills whoever is stopped and holds up a full ring.
 */
#include "shm/uplink.h"
#include "tests/stress/kill_stage.h"

static uint64_t replaced_stuck;

struct worker {
    pid_t pid;
    bool stopped;
    /* a stopped one is not sent on: it has to be found as stuck */
    bool stay;
    /* when a stopped one goes on */
    uint64_t continue_at;
    struct uplink *uplink;
    /* uplink position */
    uint64_t expected;
    /* uplink records of this incarnation */
    uint64_t received;
};

struct master {
    struct ring_writer *writer;
    struct worker workers[WORKERS];
    /* 0: there is room */
    uint64_t full_since;
    uint64_t received;
    /* deaths and stops seen */
    uint64_t events;
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

/* What a master does with a dead worker. Half of the time it drains the uplink before the slot is
 * prepared, else after. */
static void master_replace(struct master *master, unsigned slot)
{
    struct worker *worker = &master->workers[slot];
    struct error err = {0};
    bool before = stress_random(&seed, 2);
    ring_writer_deactivate(master->writer, slot);
    if (before)
        master_drain(master, slot);
    if (uplink_prepare(segment, slot, &err) < 0)
        STRESS_FAIL("%s", err.text);
    master_drain(master, slot);
    /* Every commit that returned was received, and at most one more: killed between the commit and its
     * counting. */
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

/* The ring is full. Whoever is in the way must be stopped; after a while it is killed, which the next look
 * finds. */
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

/* Arms one worker and runs until it was hit. A stopped one either goes on after a moment or is left until
 * it is replaced. */
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

void scene_workers(double seconds)
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
    if (replaced_stuck == 0)
        STRESS_FAIL("no stopped reader ever held up the writer");
    printf("ok workers: %llu deaths and stops, %llu stopped ones replaced, %llu uplink records, %llu bytes "
           "through the ring\n",
        (unsigned long long)master.events, (unsigned long long)replaced_stuck,
        (unsigned long long)master.received, (unsigned long long)ring_writer_tail(master.writer));
    ring_writer_close(master.writer);
    segment_close(segment);
}
