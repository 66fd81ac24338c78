/*
 * ring_threads [seconds [readers]]: one writer and N readers as threads on one mapping, for
 * ThreadSanitizer. Every record is compared byte by byte; readers sleep on their eventfds. A reader that
 * sleeps on while the writer has already finished the wake-up of a record it hasn't read is a failure,
 * found at once and not by hanging.
 *
 * Threads and one mapping, because ThreadSanitizer knows memory by its address in one process. Payloads
 * are plain memory: a missing release or acquire is a data race there, also on x86, whose hardware would
 * hide it.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include "tests/stress/stress.h"
#include "shm/ring.h"

#define RING_BYTES  65536u
#define READERS_MAX 16u
#define SALT        1u
#define TYPE_END    RING_RESYNC /* a record of this type ends the reader */

static struct segment *segment;
/* Up to this position every wake-up is done. Stored with release and only loaded after a sleep without a
 * wake-up, so that it doesn't order what the ring must order by itself. */
static _Atomic uint64_t woken_through;

struct reader_thread {
    pthread_t thread;
    unsigned slot;
    uint64_t records;
    uint64_t sleeps;
};

static void reader_wait(struct ring_reader *reader, const struct reader_thread *self, uint64_t next)
{
    int fd = segment_descriptors(segment, self->slot).wake;
    while (!stress_readable(fd, 50)) {
        uint64_t through = atomic_load_explicit(&woken_through, memory_order_acquire);
        if (through > next && !stress_readable(fd, 0))
            STRESS_FAIL("reader %u sleeps at %llu, all are woken up to %llu: a lost wake-up", self->slot,
                (unsigned long long)next, (unsigned long long)through);
    }
    ring_reader_awake(reader);
}

/* Compares one record; returns the position behind it. */
static uint64_t reader_compare(
    const struct reader_thread *self, const struct ring_record *record, uint64_t expected)
{
    uint32_t length = stress_length(expected, SALT, RING_BYTES / 8 - 8);
    if (record->length != length || record->position != stress_position(expected, length, RING_BYTES))
        STRESS_FAIL("reader %u: record at %llu of %u bytes, expected behind %llu with %u", self->slot,
            (unsigned long long)record->position, record->length, (unsigned long long)expected, length);
    if (!stress_matches(record->body, record->length, record->position, SALT))
        STRESS_FAIL("reader %u: bad bytes at %llu", self->slot, (unsigned long long)record->position);
    return record->position + layout_record_size(record->length);
}

static void *reader_run(void *argument)
{
    struct reader_thread *self = argument;
    struct ring_reader *reader = ring_reader_open(segment, self->slot);
    uint64_t random = self->slot;
    uint64_t expected = 0;
    for (;;) {
        struct ring_record record;
        bool more = true;
        for (uint32_t budget = stress_random(&random, 64) + 1; budget > 0; budget--) {
            more = ring_reader_next(reader, &record);
            if (!more)
                break;
            if (record.type == TYPE_END) {
                ring_reader_close(reader);
                return NULL;
            }
            expected = reader_compare(self, &record, expected);
            self->records++;
        }
        ring_reader_release(reader);
        /* Half of the readers dawdle, so that the ring is full now and then. */
        if (self->slot % 2 == 1 && stress_random(&random, 512) == 0)
            stress_pause(200);
        if (more || !ring_reader_sleep(reader))
            continue;
        self->sleeps++;
        reader_wait(reader, self, expected);
    }
}

static void writer_wake(struct ring_writer *writer)
{
    ring_writer_wake(writer);
    atomic_store_explicit(&woken_through, ring_writer_tail(writer), memory_order_release);
}

static void *writer_reserve(struct ring_writer *writer, enum ring_type type, uint32_t length)
{
    uint64_t since = 0;
    for (;;) {
        void *body = ring_writer_reserve(writer, type, length);
        if (body != NULL)
            return body;
        writer_wake(writer);
        if (since == 0)
            since = clock_monotonic_ns();
        if (clock_monotonic_ns() - since > 20 * CLOCK_SECOND)
            STRESS_FAIL("the writer waits for 20 s");
        stress_pause(20);
    }
}

static void writer_put(struct ring_writer *writer)
{
    uint64_t tail = ring_writer_tail(writer);
    uint32_t length = stress_length(tail, SALT, ring_writer_body_max(writer));
    void *body = writer_reserve(writer, RING_EVENT, length);
    stress_fill(body, length, stress_position(tail, length, RING_BYTES), SALT);
    ring_writer_commit(writer);
}

/* All have given everything back: they are about to sleep, where a wake-up could be lost. */
static void writer_wait_drained(const struct ring_writer *writer)
{
    uint64_t since = clock_monotonic_ns();
    uint64_t lag;
    while (ring_writer_slowest(writer, &lag) != UINT32_MAX && lag > 0) {
        if (clock_monotonic_ns() - since > 20 * CLOCK_SECOND)
            STRESS_FAIL("the readers don't drain within 20 s");
        sched_yield();
    }
}

static void writer_run(struct ring_writer *writer, uint64_t until)
{
    uint64_t random = 42;
    while (clock_monotonic_ns() < until) {
        /* Flood: batches, one wake-up each. */
        for (unsigned batch = 0; batch < 20; batch++) {
            for (uint32_t i = stress_random(&random, 40); i > 0; i--)
                writer_put(writer);
            writer_wake(writer);
        }
        /* One by one, at every moment of the readers' way to sleep. */
        for (unsigned i = 0; i < 200; i++) {
            writer_wait_drained(writer);
            stress_spin(stress_random(&random, 3000));
            writer_put(writer);
            writer_wake(writer);
        }
    }
    writer_reserve(writer, TYPE_END, 0);
    ring_writer_commit(writer);
    writer_wake(writer);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 5;
    unsigned readers = argc > 2 ? (unsigned)atoi(argv[2]) : 4;
    if (readers < 1 || readers > READERS_MAX)
        STRESS_FAIL("1 to %u readers", READERS_MAX);
    struct error err = {0};
    struct segment_settings settings = {.ring_bytes = RING_BYTES, .uplink_bytes = 4096, .slots = readers};
    segment = segment_create(&settings, &err);
    if (segment == NULL)
        STRESS_FAIL("%s", err.text);
    struct ring_writer *writer = ring_writer_open(segment);
    static struct reader_thread threads[READERS_MAX];
    for (unsigned slot = 0; slot < readers; slot++) {
        threads[slot].slot = slot;
        ring_writer_activate(writer, slot);
        if (pthread_create(&threads[slot].thread, NULL, reader_run, &threads[slot]) != 0)
            STRESS_FAIL("pthread_create");
    }
    writer_run(writer, clock_monotonic_ns() + (uint64_t)(seconds * (double)CLOCK_SECOND));
    uint64_t sleeps = 0;
    uint64_t records = 0;
    for (unsigned slot = 0; slot < readers; slot++) {
        pthread_join(threads[slot].thread, NULL);
        records += threads[slot].records;
        sleeps += threads[slot].sleeps;
        if (threads[slot].records != threads[0].records)
            STRESS_FAIL("reader %u read %llu records, reader 0 %llu", slot,
                (unsigned long long)threads[slot].records, (unsigned long long)threads[0].records);
    }
    if (sleeps == 0)
        STRESS_FAIL("no reader ever slept");
    printf("ok ring_threads: %u readers, %llu records each, %llu sleeps, %llu bytes\n", readers,
        (unsigned long long)(records / readers), (unsigned long long)sleeps,
        (unsigned long long)ring_writer_tail(writer));
    ring_writer_close(writer);
    segment_close(segment);
    return 0;
}
