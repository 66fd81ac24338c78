/*
 * bench_ring [--quick]: records and bytes a second through the broadcast ring, by record size and readers.
 * A table for people, then one line of JSON: {"results": [{"bytes", "readers", "records_per_second"},
 * ...]}.
 *
 * As in production: each reader is a process with its own mapping, asleep on its eventfd when there is
 * nothing; the writer copies each record in, wakes once for up to 64 KiB of records, and waits while the
 * ring (64 MiB) is full. Readers add up all words of every record, so the bytes do cross from core to
 * core. A figure is the slowest reader's: records are done when all have read them.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "shm/common/clock.h"
#include "shm/ring.h"
#include "shm/uplink.h"

#define RING_BYTES  (64u << 20)
#define BATCH_BYTES 65536u
#define SLOTS       4u

static void fail(const char *what)
{
    fprintf(stderr, "bench_ring: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t sum_words(const void *body, uint32_t length)
{
    const uint64_t *words = body;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < length / 8; i++)
        sum += words[i];
    return sum;
}

/* A worker: ends with the record RING_RESYNC. */
static void reader_run(struct segment_descriptors descriptors, unsigned slot)
{
    struct error err = {0};
    struct segment *segment = segment_attach(&descriptors, slot, &err);
    if (segment == NULL) {
        fprintf(stderr, "bench_ring: %s\n", err.text);
        _exit(1);
    }
    struct ring_reader *reader = ring_reader_open(segment, slot);
    struct pollfd pollfd = {.fd = segment_own_eventfd(segment), .events = POLLIN};
    volatile uint64_t sum __attribute__((unused)) = 0; /* so that the reading is not optimised away */
    for (;;) {
        struct ring_record record;
        uint64_t bytes = 0;
        while (bytes < BATCH_BYTES && ring_reader_next(reader, &record)) {
            if (record.type == RING_RESYNC)
                _exit(0);
            sum += sum_words(record.body, record.length);
            bytes += record.length;
        }
        ring_reader_release(reader);
        if (bytes > 0 || !ring_reader_sleep(reader))
            continue;
        while (poll(&pollfd, 1, -1) < 0 && errno == EINTR)
            ;
        ring_reader_awake(reader);
    }
}

static void *reserve_waiting(struct ring_writer *writer, enum ring_type type, uint32_t length)
{
    void *body;
    while ((body = ring_writer_reserve(writer, type, length)) == NULL) {
        ring_writer_wake(writer);
        struct timespec pause = {.tv_nsec = 50000};
        nanosleep(&pause, NULL);
    }
    return body;
}

/* Records a second from the first record until every reader has read the last one. */
static double measure(uint32_t bytes, unsigned readers, double seconds)
{
    struct error err = {0};
    struct segment_settings settings = {.ring_bytes = RING_BYTES, .uplink_bytes = 4096, .slots = SLOTS};
    struct segment *segment = segment_create(&settings, &err);
    if (segment == NULL) {
        fprintf(stderr, "bench_ring: %s\n", err.text);
        exit(1);
    }
    struct ring_writer *writer = ring_writer_open(segment);
    pid_t pids[SLOTS];
    fflush(stdout);
    for (unsigned slot = 0; slot < readers; slot++) {
        if (uplink_prepare(segment, slot, &err) < 0) {
            fprintf(stderr, "bench_ring: %s\n", err.text);
            exit(1);
        }
        ring_writer_activate(writer, slot);
        pids[slot] = fork();
        if (pids[slot] < 0)
            fail("fork");
        if (pids[slot] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            reader_run(segment_descriptors(segment, slot), slot);
        }
    }
    unsigned char *source = malloc(bytes);
    if (source == NULL)
        fail("malloc");
    memset(source, 'x', bytes);
    /* The pages of a new mapping are touched once before the clock runs. */
    uint64_t warm = 2 * RING_BYTES / bytes;
    uint64_t begun = clock_monotonic_ns();
    uint64_t until = 0;
    uint64_t count = 0;
    uint32_t unwoken = 0;
    for (uint64_t number = 0;; number++) {
        if (number == warm) {
            begun = clock_monotonic_ns();
            until = begun + (uint64_t)(seconds * (double)CLOCK_SECOND);
        }
        memcpy(reserve_waiting(writer, RING_EVENT, bytes), source, bytes);
        ring_writer_commit(writer);
        count += number >= warm;
        unwoken += bytes;
        if (unwoken < BATCH_BYTES)
            continue;
        unwoken = 0;
        ring_writer_wake(writer);
        if (number >= warm && clock_monotonic_ns() > until)
            break;
    }
    ring_writer_wake(writer);
    uint64_t lag;
    while (ring_writer_slowest(writer, &lag) != UINT32_MAX && lag > 0) {
        struct timespec pause = {.tv_nsec = 20000};
        nanosleep(&pause, NULL);
    }
    double took = (double)(clock_monotonic_ns() - begun) / (double)CLOCK_SECOND;
    reserve_waiting(writer, RING_RESYNC, 0);
    ring_writer_commit(writer);
    ring_writer_wake(writer);
    for (unsigned slot = 0; slot < readers; slot++) {
        int status;
        if (waitpid(pids[slot], &status, 0) != pids[slot] || status != 0)
            fail("a reader ended badly");
    }
    free(source);
    ring_writer_close(writer);
    segment_close(segment);
    return (double)count / took;
}

int main(int argc, char **argv)
{
    static const uint32_t sizes[] = {64, 256, 4096, 65536, 1048576};
    static const unsigned reader_counts[] = {1, 2, 4};
    double seconds = argc > 1 && strcmp(argv[1], "--quick") == 0 ? 0.2 : 0.8;
    char json[2048];
    size_t used = 0;
    printf("%10s %8s %14s %10s\n", "bytes", "readers", "records/s", "GB/s");
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (size_t r = 0; r < sizeof reader_counts / sizeof reader_counts[0]; r++) {
            double rate = measure(sizes[s], reader_counts[r], seconds);
            printf("%10u %8u %14.0f %10.2f\n", sizes[s], reader_counts[r], rate, rate * sizes[s] / 1e9);
            used += (size_t)snprintf(json + used, sizeof json - used,
                "%s{\"bytes\": %u, \"readers\": %u, \"records_per_second\": %.0f}", used ? ", " : "",
                sizes[s], reader_counts[r], rate);
        }
    printf("{\"results\": [%s]}\n", json);
    return 0;
}
