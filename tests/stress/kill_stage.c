/* The stage of ring_kill; see kill_stage.h. */
#include "tests/stress/kill_stage.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include "shm/uplink.h"

struct stage *stage;
struct segment *segment;
struct actor *self;
uint64_t seed;
uint64_t killed_anywhere;
uint64_t stopped_anywhere;

const char *const point_names[SHM_POINT_COUNT] = {
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

void arm(unsigned actor, int point, int countdown, int signal_number)
{
    struct actor *target = &stage->actors[actor];
    atomic_store(&target->countdown, countdown);
    atomic_store(&target->signal, signal_number);
    atomic_store(&target->point, point);
}

void disarm(unsigned actor)
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

/* Waits a little. A sleeper that should have been woken is a failure: the writer has done all wake-ups up
 * to a position behind ours, and there is none in the eventfd. */
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

/* Nothing of the master's view is left. */
void worker_attach(unsigned slot)
{
    struct error err = {0};
    struct segment *master_view = segment;
    struct segment_descriptors descriptors = segment_descriptors(segment, slot);
    descriptors.memory = fcntl(descriptors.memory, F_DUPFD_CLOEXEC, 0);
    segment = segment_attach(&descriptors, slot, &err);
    if (segment == NULL)
        STRESS_FAIL("%s", err.text);
    munmap(master_view->base, master_view->base_bytes);
}

/* With `publishes` it is a whole worker. Ends by the record TYPE_END. */
static void worker_run(unsigned slot, bool publishes)
{
    worker_attach(slot);
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
pid_t actor_fork(unsigned actor)
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

pid_t worker_start(unsigned slot, bool publishes)
{
    pid_t pid = actor_fork(slot);
    if (pid == 0)
        worker_run(slot, publishes);
    return pid;
}

/* ---- the writer ---- */

bool writer_put(struct ring_writer *writer)
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

void writer_wake(struct ring_writer *writer)
{
    ring_writer_wake(writer);
    atomic_store(&stage->woken_through, ring_writer_tail(writer));
}

/* ---- beginning and end ---- */

void stage_open(void)
{
    stage = mmap(NULL, sizeof *stage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (stage == MAP_FAILED)
        STRESS_FAIL("mmap: %s", strerror(errno));
}

void scene_open(struct ring_writer **writer)
{
    struct error err = {0};
    struct segment_settings settings = {
        .ring_bytes = RING_BYTES, .uplink_bytes = UPLINK_BYTES, .slots = WORKERS};
    segment = segment_create(&settings, &err);
    if (segment == NULL)
        STRESS_FAIL("%s", err.text);
    *writer = ring_writer_open(segment);
    for (unsigned slot = 0; slot < WORKERS; slot++) {
        if (uplink_prepare(segment, slot, &err) < 0)
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
void check_end(const char *who, int status)
{
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return;
    if (WIFSIGNALED(status))
        STRESS_FAIL("%s ended by signal %d", who, WTERMSIG(status));
    STRESS_FAIL("%s ended with status %d", who, WEXITSTATUS(status));
}

/* The last record; every reader must come to it and have been content all along. */
void readers_end(struct ring_writer *writer, const pid_t *workers)
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
