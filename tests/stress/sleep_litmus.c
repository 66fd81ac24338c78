/*
 * sleep_litmus [seconds]: the two store-load pairs alone, as a litmus test through the real functions. In
 * each round one side publishes and looks for a sleeper while the other lies down and looks for a record,
 * at the same moment, as near as two threads can come. Forbidden: the one goes to sleep and the other saw
 * nobody to wake. Sequential consistency forbids it; with less, the store buffers of x86 show it within a
 * second. Exit status 2: the two threads never ran at once. A sanitizer's build slows the window away, so
 * the plain one says more.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include "tests/stress/stress.h"
#include "shm/ring.h"
#include "shm/uplink.h"

/* Fewer rounds than that with either outcome: the machine was too busy to run the two at once. */
#define MEETINGS       100
#define HEAD_START_MAX 1000

struct round {
    /* Number of the round the sleeper may start / has finished; even: ring, odd: uplink. */
    alignas(LAYOUT_LINE) _Atomic uint64_t started;
    alignas(LAYOUT_LINE) _Atomic uint64_t finished;
    /* published by `finished` */
    alignas(LAYOUT_LINE) bool slept;
    /* published by `started` */
    bool over;
};

static struct segment *segment;
static struct round shared;

/* Spins, and lets others run now and then: there may be fewer cores than threads. */
static void wait_for(const _Atomic uint64_t *word, uint64_t value)
{
    for (uint32_t spins = 1; atomic_load_explicit(word, memory_order_acquire) != value; spins++)
        if (spins % 4096 == 0)
            sched_yield();
}

static void *sleeper_run(void *argument)
{
    struct ring_reader *reader = argument;
    uint64_t random = 7;
    for (uint64_t number = 1;; number++) {
        uint32_t skew = stress_random(&random, 40);
        wait_for(&shared.started, number);
        if (shared.over)
            return NULL;
        if (number % 2 == 0) {
            stress_spin(skew);
            shared.slept = ring_reader_sleep(reader);
        } else {
            stress_spin(skew);
            shared.slept = uplink_master_sleep(segment);
            /* The ring's last record is there for certain only now. */
            struct ring_record record;
            while (ring_reader_next(reader, &record))
                ;
            ring_reader_release(reader);
        }
        atomic_store_explicit(&shared.finished, number, memory_order_release);
    }
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 3;
    struct error err = {0};
    struct segment_settings settings = {.ring_bytes = 65536, .uplink_bytes = 4096, .slots = 1};
    segment = segment_create(&settings, &err);
    if (segment == NULL || uplink_prepare(segment, 0, &err) < 0)
        STRESS_FAIL("%s", err.text);
    struct ring_writer *writer = ring_writer_open(segment);
    ring_writer_activate(writer, 0);
    struct ring_reader *reader = ring_reader_open(segment, 0);
    struct uplink *out = uplink_open(segment, 0);
    struct uplink *in = uplink_open(segment, 0);
    struct layout_entry *entry = segment_entry(segment, 0);
    pthread_t sleeper;
    if (pthread_create(&sleeper, NULL, sleeper_run, reader) != 0)
        STRESS_FAIL("pthread_create");

    uint64_t until = clock_monotonic_ns() + (uint64_t)(seconds * (double)CLOCK_SECOND);
    uint64_t random = 3;
    uint32_t head_start[2] = {0, 0}; /* the sleeper's, in turns of stress_spin: uplink, ring */
    uint64_t slept = 0;
    uint64_t number = 0;
    uint64_t give_up = until + (uint64_t)(4 * seconds * (double)CLOCK_SECOND);
    while (clock_monotonic_ns() < until ||
           ((slept < MEETINGS || number - slept < MEETINGS) && clock_monotonic_ns() < give_up)) {
        bool ring = ++number % 2 == 0;
        uint32_t skew = head_start[ring] + stress_random(&random, 20);
        bool woke;
        atomic_store_explicit(&entry->ring_asleep, 0, memory_order_relaxed);
        atomic_store_explicit(&segment->doorbell_line->asleep, 0, memory_order_relaxed);
        if (ring) {
            (void)!ring_writer_reserve(writer, RING_EVENT, 8);
            atomic_store_explicit(&shared.started, number, memory_order_release);
            stress_spin(skew);
            ring_writer_commit(writer);
            woke = ring_writer_wake(writer) == 1;
        } else {
            (void)!uplink_reserve(out, 1, 8);
            atomic_store_explicit(&shared.started, number, memory_order_release);
            stress_spin(skew);
            uplink_commit(out);
            woke = false;
        }
        wait_for(&shared.finished, number);
        if (!ring) {
            woke = stress_readable(segment_own_eventfd(segment), 0);
            uplink_master_awake(segment);
            struct uplink_record record;
            bool corrupt;
            while (uplink_next(in, &record, &corrupt))
                ;
            uplink_release(in);
        } else if (woke) {
            ring_reader_awake(reader);
        }
        slept += shared.slept;
        /* Steers to where the outcome tips over: that is where the two really meet. */
        if (shared.slept)
            head_start[ring] -= head_start[ring] > 0;
        else
            head_start[ring] += head_start[ring] < HEAD_START_MAX;
        if (shared.slept && !woke)
            STRESS_FAIL("round %llu (%s): one sleeps and the other saw nobody to wake",
                (unsigned long long)number, ring ? "ring" : "uplink");
    }
    shared.over = true;
    atomic_store_explicit(&shared.started, number + 1, memory_order_release);
    pthread_join(sleeper, NULL);
    uplink_close(in);
    uplink_close(out);
    ring_reader_close(reader);
    ring_writer_close(writer);
    segment_close(segment);
    if (slept < MEETINGS || number - slept < MEETINGS) {
        printf("the two hardly met: this says nothing\n");
        return 2;
    }
    printf(
        "ok sleep_litmus: %llu rounds, %llu sleeps\n", (unsigned long long)number, (unsigned long long)slept);
    return 0;
}
