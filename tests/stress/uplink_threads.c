/*
 * uplink_threads [seconds [workers]]: N workers as threads write their uplinks, the master reads them and
 * sleeps on the doorbell; for ThreadSanitizer, as ring_threads.c. A master that sleeps although a worker
 * has committed and rung is a failure.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include "tests/stress/stress.h"
#include "shm/uplink.h"

#define UPLINK_BYTES 4096u
#define WORKERS_MAX  16u
#define TYPE_END     2u

/* Time goes in windows. In one of them all workers flood; then each has one alone, in which it commits one
 * by one, each when the master has read the last: only then is a lost wake-up not repaired by somebody
 * else's. */
#define WINDOW_NS (80 * CLOCK_MILLISECOND)

static struct segment *segment;
static unsigned worker_count;
static atomic_bool stop;

struct worker_thread {
    pthread_t thread;
    unsigned slot;
    uint64_t records;
    /* Everything before it is committed and the bell was rung if it had to be. Looked at after a sleep
     * without a bell only. */
    _Atomic uint64_t rung_through;
};

static void *worker_reserve(struct uplink *uplink, uint32_t type, uint32_t length)
{
    uint64_t since = clock_monotonic_ns();
    void *body;
    while ((body = uplink_reserve(uplink, type, length)) == NULL) {
        if (clock_monotonic_ns() - since > 20 * CLOCK_SECOND)
            STRESS_FAIL("an uplink stays full for 20 s");
        sched_yield();
    }
    return body;
}

static void worker_put(struct worker_thread *self, struct uplink *uplink, uint64_t *tail)
{
    uint32_t length = stress_length(*tail, self->slot, uplink_body_max(uplink));
    void *body = worker_reserve(uplink, 1, length);
    uint64_t position = stress_position(*tail, length, UPLINK_BYTES);
    stress_fill(body, length, position, self->slot);
    uplink_commit(uplink);
    *tail = position + layout_record_size(length);
    atomic_store_explicit(&self->rung_through, *tail, memory_order_release);
    self->records++;
}

/* Relaxed: the test must not order what the uplink has to order. */
static void worker_wait_read(const struct worker_thread *self, uint64_t tail)
{
    const _Atomic uint64_t *head = &segment->control->uplink_head[self->slot].value;
    uint64_t since = clock_monotonic_ns();
    while (atomic_load_explicit(head, memory_order_relaxed) != tail) {
        if (clock_monotonic_ns() - since > 20 * CLOCK_SECOND)
            STRESS_FAIL("the master doesn't read for 20 s");
        sched_yield();
    }
}

static void *worker_run(void *argument)
{
    struct worker_thread *self = argument;
    struct uplink *uplink = uplink_open(segment, self->slot);
    uint64_t random = self->slot;
    uint64_t tail = 0;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        uint64_t window = clock_monotonic_ns() / WINDOW_NS % (worker_count + 1);
        if (window == 0) {
            worker_put(self, uplink, &tail);
        } else if (window == self->slot + 1) {
            worker_wait_read(self, tail);
            stress_spin(stress_random(&random, 3000));
            worker_put(self, uplink, &tail);
        } else {
            stress_pause(200);
        }
    }
    worker_reserve(uplink, TYPE_END, 0);
    uplink_commit(uplink);
    uplink_close(uplink);
    return NULL;
}

struct master_side {
    struct uplink *uplink;
    uint64_t expected;
    uint64_t records;
    bool ended;
};

static bool master_drain(struct master_side *side, unsigned slot)
{
    struct uplink_record record;
    bool corrupt;
    bool any = false;
    while (uplink_next(side->uplink, &record, &corrupt)) {
        any = true;
        if (record.type == TYPE_END) {
            side->ended = true;
            continue;
        }
        uint32_t length = stress_length(side->expected, slot, uplink_body_max(side->uplink));
        uint64_t position = stress_position(side->expected, length, UPLINK_BYTES);
        if (record.length != length || !stress_matches(record.body, record.length, position, slot))
            STRESS_FAIL("uplink %u: bad record at %llu", slot, (unsigned long long)position);
        side->expected = position + layout_record_size(length);
        side->records++;
    }
    if (corrupt)
        STRESS_FAIL("uplink %u is corrupt", slot);
    uplink_release(side->uplink);
    return any;
}

static void master_wait(struct worker_thread *threads, const struct master_side *sides, unsigned workers)
{
    int doorbell = segment_own_eventfd(segment);
    while (!stress_readable(doorbell, 20))
        for (unsigned slot = 0; slot < workers; slot++) {
            uint64_t through = atomic_load_explicit(&threads[slot].rung_through, memory_order_acquire);
            if (through > sides[slot].expected && !stress_readable(doorbell, 0))
                STRESS_FAIL(
                    "the master sleeps at %llu of uplink %u, which is committed up to %llu: a lost wake-up",
                    (unsigned long long)sides[slot].expected, slot, (unsigned long long)through);
        }
    uplink_master_awake(segment);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 3;
    unsigned workers = argc > 2 ? (unsigned)atoi(argv[2]) : 3;
    if (workers < 1 || workers > WORKERS_MAX)
        STRESS_FAIL("1 to %u workers", WORKERS_MAX);
    worker_count = workers;
    struct error err = {0};
    struct segment_settings settings = {.ring_bytes = 65536, .uplink_bytes = UPLINK_BYTES, .slots = workers};
    segment = segment_create(&settings, &err);
    if (segment == NULL)
        STRESS_FAIL("%s", err.text);
    static struct worker_thread threads[WORKERS_MAX];
    static struct master_side sides[WORKERS_MAX];
    for (unsigned slot = 0; slot < workers; slot++) {
        if (uplink_prepare(segment, slot, &err) < 0)
            STRESS_FAIL("%s", err.text);
        sides[slot].uplink = uplink_open(segment, slot);
        threads[slot].slot = slot;
        if (pthread_create(&threads[slot].thread, NULL, worker_run, &threads[slot]) != 0)
            STRESS_FAIL("pthread_create");
    }
    uint64_t until = clock_monotonic_ns() + (uint64_t)(seconds * (double)CLOCK_SECOND);
    uint64_t sleeps = 0;
    unsigned ended = 0;
    while (ended < workers) {
        bool any = false;
        ended = 0;
        for (unsigned slot = 0; slot < workers; slot++) {
            any |= master_drain(&sides[slot], slot);
            ended += sides[slot].ended;
        }
        if (clock_monotonic_ns() > until)
            atomic_store(&stop, true);
        if (any || ended == workers || !uplink_master_sleep(segment))
            continue;
        sleeps++;
        master_wait(threads, sides, workers);
    }
    uint64_t records = 0;
    for (unsigned slot = 0; slot < workers; slot++) {
        pthread_join(threads[slot].thread, NULL);
        if (threads[slot].records != sides[slot].records)
            STRESS_FAIL("worker %u committed %llu records, the master read %llu", slot,
                (unsigned long long)threads[slot].records, (unsigned long long)sides[slot].records);
        records += sides[slot].records;
        uplink_close(sides[slot].uplink);
    }
    if (sleeps == 0)
        STRESS_FAIL("the master never slept");
    printf("ok uplink_threads: %u workers, %llu records, %llu sleeps of the master\n", workers,
        (unsigned long long)records, (unsigned long long)sleeps);
    segment_close(segment);
    return 0;
}
