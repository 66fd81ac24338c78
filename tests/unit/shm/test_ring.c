/* The broadcast ring in one process: writer and readers take turns, so every state can be set up exactly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "shm/layout.h"
#include "shm/ring.h"
#include "shm/worker_table.h"
#include "tests/unit/shm/shm_harness.h"

#define RING     65536u
#define EIGHTH   (RING / 8u)
#define BODY_MAX (EIGHTH - 8u)

struct fixture {
    struct segment *segment;
    struct ring_writer *writer;
    uint64_t written; /* records so far: the number is the pattern */
};

static int setup(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){.segment = make_segment(RING, 4096, 4)};
    fixture.writer = ring_writer_open(fixture.segment);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    ring_writer_close(fixture->writer);
    segment_close(fixture->segment);
    return 0;
}

static bool put(struct fixture *fixture, uint32_t length)
{
    void *body = ring_writer_reserve(fixture->writer, RING_EVENT, length);
    if (body == NULL)
        return false;
    assert_int_equal((uintptr_t)body % 8, 0);
    pattern_fill(body, length, fixture->written++);
    ring_writer_commit(fixture->writer);
    return true;
}

static void expect(struct ring_reader *reader, uint64_t n, uint32_t length)
{
    struct ring_record record;
    assert_true(ring_reader_next(reader, &record));
    assert_int_equal(record.type, RING_EVENT);
    assert_int_equal(record.length, length);
    assert_int_equal((uintptr_t)record.body % 8, 0);
    pattern_check(record.body, length, n);
}

static void expect_nothing(struct ring_reader *reader)
{
    struct ring_record record;
    assert_false(ring_reader_next(reader, &record));
}

static void test_one_record(void **state)
{
    struct fixture *fixture = *state;
    ring_writer_activate(fixture->writer, 0);
    struct ring_reader *reader = ring_reader_open(fixture->segment, 0);
    expect_nothing(reader);

    void *body = ring_writer_reserve(fixture->writer, RING_RESYNC, 5);
    memcpy(body, "hello", 5);
    expect_nothing(reader);
    ring_writer_commit(fixture->writer);
    struct ring_record record;
    assert_true(ring_reader_next(reader, &record));
    assert_int_equal(record.type, RING_RESYNC);
    assert_int_equal(record.length, 5);
    assert_memory_equal(record.body, "hello", 5);
    assert_int_equal(record.position, 0);
    assert_int_equal(ring_writer_lag(fixture->writer, 0), 16);
    ring_reader_release(reader);
    assert_int_equal(ring_writer_lag(fixture->writer, 0), 0);
    assert_int_equal(ring_writer_cursor(fixture->writer, 0), 16);

    assert_true(put(fixture, 0));
    assert_true(ring_reader_next(reader, &record));
    assert_int_equal(record.length, 0);
    assert_int_equal(record.position, 16);
    ring_reader_close(reader);
}

static void test_reservation_replaced(void **state)
{
    struct fixture *fixture = *state;
    ring_writer_activate(fixture->writer, 0);
    struct ring_reader *reader = ring_reader_open(fixture->segment, 0);
    assert_non_null(ring_writer_reserve(fixture->writer, RING_EVENT, 1000));
    assert_true(put(fixture, 3));
    expect(reader, 0, 3);
    expect_nothing(reader);
    ring_reader_close(reader);
}

/* Many rounds with every length: positions grow, nothing is lost, nothing wraps. */
static void test_wrap(void **state)
{
    struct fixture *fixture = *state;
    ring_writer_activate(fixture->writer, 0);
    ring_writer_activate(fixture->writer, 1);
    struct ring_reader *first = ring_reader_open(fixture->segment, 0);
    struct ring_reader *second = ring_reader_open(fixture->segment, 1);
    uint64_t last = 0;
    uint64_t n = 0;
    while (ring_writer_tail(fixture->writer) < 200u * RING) {
        uint32_t batch = pattern_length(n, 3) + 1;
        for (uint32_t i = 0; i < batch; i++)
            assert_true(put(fixture, pattern_length(n + i, BODY_MAX)));
        for (uint32_t i = 0; i < batch; i++, n++) {
            struct ring_record record;
            assert_true(ring_reader_next(first, &record));
            assert_int_equal(record.length, pattern_length(n, BODY_MAX));
            pattern_check(record.body, record.length, n);
            assert_true(n == 0 || record.position > last);
            last = record.position;
            /* In one piece: its bytes end before the ring does. */
            assert_true((record.position & (RING - 1)) + 8 + record.length <= RING);
            expect(second, n, record.length);
        }
        ring_reader_release(first);
        ring_reader_release(second);
    }
    expect_nothing(first);
    expect_nothing(second);
    ring_reader_close(first);
    ring_reader_close(second);
}

/* A record that ends exactly with the ring needs no pad; eight bytes left need a pad with an empty body. */
static void test_pad_edges(void **state)
{
    struct fixture *fixture = *state;
    ring_writer_activate(fixture->writer, 0);
    struct ring_reader *reader = ring_reader_open(fixture->segment, 0);
    for (int i = 0; i < 8; i++)
        assert_true(put(fixture, BODY_MAX));
    assert_int_equal(ring_writer_tail(fixture->writer), RING);
    for (uint64_t n = 0; n < 8; n++)
        expect(reader, n, BODY_MAX);
    ring_reader_release(reader);

    for (int i = 0; i < 7; i++)
        assert_true(put(fixture, BODY_MAX));
    assert_true(put(fixture, BODY_MAX - 8)); /* leaves 8 bytes */
    for (uint64_t n = 8; n < 16; n++)
        expect(reader, n, n < 15 ? BODY_MAX : BODY_MAX - 8);
    ring_reader_release(reader);
    assert_int_equal(ring_writer_tail(fixture->writer), 2 * RING - 8);
    assert_true(put(fixture, 1));
    assert_int_equal(ring_writer_tail(fixture->writer), 2 * RING + 16);
    struct ring_record record;
    assert_true(ring_reader_next(reader, &record));
    assert_int_equal(record.position, 2 * RING);
    assert_int_equal(record.length, 1);
    ring_reader_close(reader);
}

/* The pad counts: room for the record alone is not enough. */
static void test_pad_needs_room(void **state)
{
    struct fixture *fixture = *state;
    ring_writer_activate(fixture->writer, 0);
    struct ring_reader *reader = ring_reader_open(fixture->segment, 0);
    for (int i = 0; i < 7; i++)
        assert_true(put(fixture, BODY_MAX));
    assert_true(put(fixture, EIGHTH / 2 - 8)); /* half an eighth is left at the end */
    expect(reader, 0, BODY_MAX);
    ring_reader_release(reader); /* one eighth free at the start, half a one at the end */
    assert_true(put(fixture, BODY_MAX));
    assert_null(ring_writer_reserve(fixture->writer, RING_EVENT, 0));
    for (uint64_t n = 1; n < 8; n++)
        expect(reader, n, n < 7 ? BODY_MAX : EIGHTH / 2 - 8);
    expect(reader, 8, BODY_MAX);
    expect_nothing(reader);
    ring_reader_close(reader);
}

static void test_slow_reader_blocks(void **state)
{
    struct fixture *fixture = *state;
    ring_writer_activate(fixture->writer, 0);
    ring_writer_activate(fixture->writer, 1);
    struct ring_reader *quick = ring_reader_open(fixture->segment, 0);
    struct ring_reader *slow = ring_reader_open(fixture->segment, 1);
    uint64_t read = 0;
    while (put(fixture, 1000)) {
        expect(quick, read++, 1000);
        ring_reader_release(quick);
    }
    assert_int_equal(fixture->written, RING / 1008);
    uint64_t lag;
    assert_int_equal(ring_writer_slowest(fixture->writer, &lag), 1);
    assert_int_equal(lag, fixture->written * 1008);
    assert_int_equal(ring_writer_lag(fixture->writer, 0), 0);
    /* Refused again and again: counted once. */
    assert_false(put(fixture, 1000));
    assert_int_equal(counter_read(fixture->segment, COUNTER_MASTER, COUNTER_RING_FULL_WAITS), 1);

    /* Reading alone gives nothing back, releasing does. */
    uint64_t full = fixture->written;
    expect(slow, 0, 1000);
    assert_false(put(fixture, 1000));
    expect(slow, 1, 1000);
    ring_reader_release(slow);
    assert_true(put(fixture, 1000));
    assert_true(put(fixture, 1000));
    assert_false(put(fixture, 1000));
    assert_int_equal(counter_read(fixture->segment, COUNTER_MASTER, COUNTER_RING_FULL_WAITS), 2);
    for (uint64_t n = 2; n <= full + 1; n++)
        expect(slow, n, 1000);
    expect_nothing(slow);
    ring_reader_close(quick);
    ring_reader_close(slow);
}

static void test_deactivated_reader_frees(void **state)
{
    struct fixture *fixture = *state;
    /* Nobody reads: the writer never waits. */
    assert_int_equal(ring_writer_slowest(fixture->writer, NULL), UINT32_MAX);
    for (int i = 0; i < 1000; i++)
        assert_true(put(fixture, 4000));

    ring_writer_activate(fixture->writer, 2);
    while (put(fixture, 1000))
        ;
    ring_writer_deactivate(fixture->writer, 2);
    for (int i = 0; i < 1000; i++)
        assert_true(put(fixture, 4000));

    /* Its successor starts at the tail and sees only what comes. */
    ring_writer_activate(fixture->writer, 2);
    assert_int_equal(ring_writer_lag(fixture->writer, 2), 0);
    struct ring_reader *reader = ring_reader_open(fixture->segment, 2);
    expect_nothing(reader);
    uint64_t n = fixture->written;
    assert_true(put(fixture, 77));
    expect(reader, n, 77);
    while (put(fixture, 1000))
        ;
    assert_int_equal(ring_writer_slowest(fixture->writer, NULL), 2);
    ring_reader_close(reader);
}

static void test_sleep_and_wake(void **state)
{
    struct fixture *fixture = *state;
    ring_writer_activate(fixture->writer, 0);
    ring_writer_activate(fixture->writer, 1);
    struct ring_reader *sleeper = ring_reader_open(fixture->segment, 0);
    struct ring_reader *busy = ring_reader_open(fixture->segment, 1);
    int sleeper_fd = segment_descriptors(fixture->segment, 0).wake;
    int busy_fd = segment_descriptors(fixture->segment, 1).wake;

    /* Nothing new: nobody is woken, even who sleeps. */
    assert_true(ring_reader_sleep(sleeper));
    assert_int_equal(ring_writer_wake(fixture->writer), 0);
    assert_true(put(fixture, 10));
    assert_false(readable(sleeper_fd)); /* a commit alone wakes nobody */
    assert_true(put(fixture, 11));
    assert_int_equal(ring_writer_wake(fixture->writer), 1);
    assert_true(readable(sleeper_fd));
    assert_false(readable(busy_fd));
    assert_int_equal(ring_writer_wake(fixture->writer), 0);
    /* Awake until it says otherwise: no second wake-up. */
    assert_true(put(fixture, 12));
    assert_int_equal(ring_writer_wake(fixture->writer), 0);
    ring_reader_awake(sleeper);
    assert_false(readable(sleeper_fd));
    ring_reader_awake(sleeper); /* nothing there: doesn't block */
    for (uint64_t n = 0; n < 3; n++)
        expect(sleeper, n, 10 + (uint32_t)n);
    expect_nothing(sleeper);

    /* A record between the last look and the sleep: it must not sleep. */
    assert_true(put(fixture, 13));
    assert_int_equal(ring_writer_wake(fixture->writer), 0);
    assert_false(ring_reader_sleep(sleeper));
    expect(sleeper, 3, 13);
    expect_nothing(sleeper);
    assert_true(ring_reader_sleep(sleeper));
    /* Woken by something else (a socket) it sleeps again: still woken by the next record. */
    assert_true(ring_reader_sleep(sleeper));
    assert_true(put(fixture, 14));
    assert_int_equal(ring_writer_wake(fixture->writer), 1);
    ring_reader_close(sleeper);
    ring_reader_close(busy);
}

/* Another writer opens the same memory after the first has died: positions, readers and wake-ups go on. */
static void test_writer_takes_over(void **state)
{
    struct fixture *fixture = *state;
    ring_writer_activate(fixture->writer, 3);
    struct ring_reader *reader = ring_reader_open(fixture->segment, 3);
    assert_true(ring_reader_sleep(reader));
    assert_true(put(fixture, 100));
    assert_non_null(ring_writer_reserve(fixture->writer, RING_EVENT, 1000)); /* dies here */
    ring_writer_close(fixture->writer);

    fixture->writer = ring_writer_open(fixture->segment);
    assert_int_equal(ring_writer_tail(fixture->writer), 112);
    assert_true(readable(segment_descriptors(fixture->segment, 3).wake));
    assert_int_equal(ring_writer_slowest(fixture->writer, NULL), 3);
    assert_true(put(fixture, 101));
    expect(reader, 0, 100);
    expect(reader, 1, 101);
    expect_nothing(reader);
    while (put(fixture, 1000))
        ;
    assert_int_equal(ring_writer_slowest(fixture->writer, NULL), 3);
    ring_reader_close(reader);
}

/* A worker gone mad writes nonsense into its cell: nothing is overwritten, it counts as stuck, and goes
 * away by replacement. */
static void test_impossible_cell(void **state)
{
    struct fixture *fixture = *state;
    ring_writer_activate(fixture->writer, 0);
    ring_writer_activate(fixture->writer, 1);
    struct ring_reader *good = ring_reader_open(fixture->segment, 0);
    struct layout_entry *entry = segment_entry(fixture->segment, 1);
    const uint64_t nonsense[] = {UINT64_MAX - (1u << 30), 1u << 20, 0x8000000000000000u};
    uint64_t n = fixture->written;
    for (size_t i = 0; i < sizeof nonsense / sizeof nonsense[0]; i++) {
        atomic_store(&entry->ring_cell, nonsense[i]);
        while (put(fixture, 1000)) {
            expect(good, n++, 1000);
            ring_reader_release(good);
        }
        uint64_t lag;
        assert_int_equal(ring_writer_slowest(fixture->writer, &lag), 1);
        assert_int_equal(lag, RING);
        ring_writer_deactivate(fixture->writer, 1);
        ring_writer_activate(fixture->writer, 1);
        assert_int_equal(ring_writer_lag(fixture->writer, 1), 0);
    }
    ring_reader_close(good);
}

static void test_limits(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(ring_writer_capacity(fixture->writer), RING);
    assert_int_equal(ring_writer_body_max(fixture->writer), BODY_MAX);
    ring_writer_activate(fixture->writer, 0);
    struct ring_reader *reader = ring_reader_open(fixture->segment, 0);
    /* Whatever the tail's offset, the largest record fits once the ring is empty. */
    for (uint32_t n = 0; n < 3000; n++) {
        uint32_t length = n % 2 ? BODY_MAX : pattern_length(n, 200);
        assert_true(put(fixture, length));
        expect(reader, n, length);
        ring_reader_release(reader);
    }
    ring_reader_close(reader);
}

/* A worker as it really is: a mapping of its own, in which the ring can't be written. */
static void test_attached_reader(void **state)
{
    struct fixture *fixture = *state;
    ring_writer_activate(fixture->writer, 1);
    prepare(fixture->segment, 1);
    struct segment *worker = attach(fixture->segment, 1);
    struct ring_reader *reader = ring_reader_open(worker, 1);
    for (uint64_t n = 0; n < 500; n++) {
        uint32_t length = pattern_length(n, BODY_MAX);
        assert_true(ring_reader_sleep(reader));
        assert_true(put(fixture, length));
        assert_int_equal(ring_writer_wake(fixture->writer), 1);
        assert_true(readable(segment_own_eventfd(worker)));
        ring_reader_awake(reader);
        expect(reader, n, length);
        ring_reader_release(reader);
        expect_nothing(reader);
    }
    ring_reader_close(reader);
    segment_close(worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_record, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reservation_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pad_edges, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pad_needs_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_reader_blocks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deactivated_reader_frees, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sleep_and_wake, setup, teardown),
        cmocka_unit_test_setup_teardown(test_writer_takes_over, setup, teardown),
        cmocka_unit_test_setup_teardown(test_impossible_cell, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_attached_reader, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
