/* The uplink: full, wrapped, half-written, corrupt, and the doorbell. Worker and master take turns in one
 * process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "shm/layout.h"
#include "shm/uplink.h"
#include "tests/unit/shm/shm_harness.h"

#define UPLINK   4096u
#define BODY_MAX (UPLINK / 2 - 8)

struct fixture {
    struct segment *segment; /* the master's */
    struct segment *worker;  /* slot 1, attached */
    struct uplink *in;
    struct uplink *out;
};

static int setup(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){.segment = make_segment(65536, UPLINK, 3)};
    prepare(fixture.segment, 1);
    fixture.worker = attach(fixture.segment, 1);
    fixture.in = uplink_open(fixture.segment, 1);
    fixture.out = uplink_open(fixture.worker, 1);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    uplink_close(fixture->in);
    uplink_close(fixture->out);
    segment_close(fixture->worker);
    segment_close(fixture->segment);
    return 0;
}

/* The worker dies (its process's view goes away) and another takes the slot. */
static void replace_worker(struct fixture *fixture)
{
    uplink_close(fixture->out);
    segment_close(fixture->worker);
    prepare(fixture->segment, 1);
    fixture->worker = attach(fixture->segment, 1);
    fixture->out = uplink_open(fixture->worker, 1);
}

static bool put(struct fixture *fixture, uint64_t n, uint32_t length)
{
    void *body = uplink_reserve(fixture->out, 7, length);
    if (body == NULL)
        return false;
    pattern_fill(body, length, n);
    uplink_commit(fixture->out);
    return true;
}

static void expect(struct fixture *fixture, uint64_t n, uint32_t length)
{
    struct uplink_record record;
    bool corrupt;
    assert_true(uplink_next(fixture->in, &record, &corrupt));
    assert_false(corrupt);
    assert_int_equal(record.type, 7);
    assert_int_equal(record.length, length);
    assert_int_equal((uintptr_t)record.body % 8, 0);
    pattern_check(record.body, length, n);
}

static void expect_nothing(struct fixture *fixture)
{
    struct uplink_record record;
    bool corrupt;
    assert_false(uplink_next(fixture->in, &record, &corrupt));
    assert_false(corrupt);
}

static void expect_corrupt(struct fixture *fixture)
{
    struct uplink_record record;
    bool corrupt = false;
    assert_false(uplink_next(fixture->in, &record, &corrupt));
    assert_true(corrupt);
    assert_int_equal(uplink_pending_bytes(fixture->in), 0);
}

static void test_many_records(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(uplink_body_max(fixture->out), BODY_MAX);
    expect_nothing(fixture);
    for (uint64_t n = 0; n < 5000; n += 2) {
        uint32_t first = pattern_length(n, BODY_MAX);
        uint32_t second = pattern_length(n + 1, 64);
        assert_true(put(fixture, n, first));
        bool both = put(fixture, n + 1, second);
        expect(fixture, n, first);
        if (!both) { /* the pad took the room */
            uplink_release(fixture->in);
            assert_true(put(fixture, n + 1, second));
        }
        expect(fixture, n + 1, second);
        expect_nothing(fixture);
        uplink_release(fixture->in);
    }
}

static void test_largest_at_any_offset(void **state)
{
    struct fixture *fixture = *state;
    for (uint64_t n = 0; n < 2000; n++) {
        uint32_t length = n % 2 ? BODY_MAX : pattern_length(n, 100);
        assert_true(put(fixture, n, length));
        expect(fixture, n, length);
        uplink_release(fixture->in);
    }
}

static void test_full(void **state)
{
    struct fixture *fixture = *state;
    uint64_t n = 0;
    while (put(fixture, n, 100))
        n++;
    assert_int_equal(n, UPLINK / 112);
    assert_int_equal(uplink_pending_bytes(fixture->in), n * 112);
    expect(fixture, 0, 100);
    assert_false(put(fixture, n, 100)); /* read, not released */
    expect(fixture, 1, 100);
    uplink_release(fixture->in);
    assert_true(put(fixture, n, 100));
    for (uint64_t i = 2; i <= n; i++)
        expect(fixture, i, 100);
    expect_nothing(fixture);
    assert_int_equal(uplink_pending_bytes(fixture->in), 0);
}

/* Killed while writing: the half record is not seen, the whole ones before it are, and the successor goes
 * on. */
static void test_half_written(void **state)
{
    struct fixture *fixture = *state;
    assert_true(put(fixture, 1, 300));
    memset(uplink_reserve(fixture->out, 7, 500), 0xaa, 250);
    assert_int_equal(uplink_pending_bytes(fixture->in), 312);
    replace_worker(fixture);
    assert_true(put(fixture, 2, 400));
    expect(fixture, 1, 300);
    expect(fixture, 2, 400);
    expect_nothing(fixture);
}

/* Committed, killed, replaced, and only then read. Also with a record read but not yet released. */
static void test_committed_survives(void **state)
{
    struct fixture *fixture = *state;
    assert_true(put(fixture, 1, 100));
    assert_true(put(fixture, 2, 200));
    expect(fixture, 1, 100);
    replace_worker(fixture);
    while (put(fixture, 3, 300))
        ;
    expect(fixture, 2, 200);
    expect(fixture, 3, 300);
    uplink_release(fixture->in);
    /* The master may open its side anew: it goes on where it was. */
    uplink_close(fixture->in);
    fixture->in = uplink_open(fixture->segment, 1);
    expect(fixture, 3, 300);
}

static struct layout_record *record_at(struct fixture *fixture, uint64_t offset)
{
    return (struct layout_record *)(void *)(segment_uplink(fixture->worker, 1) + offset);
}

static void test_corrupt_lengths(void **state)
{
    struct fixture *fixture = *state;
    const struct layout_record bad[] = {
        {7, UINT32_MAX},           /* 64-bit size must not wrap to 0 */
        {7, UINT32_MAX - 6},       /* ... nor here */
        {7, 105},                  /* the first length that takes more than was committed */
        {7, BODY_MAX + 1}, {0, 8}, /* a pad that doesn't end with the ring */
        {0, UPLINK},               /* ... past it */
        {0, UINT32_MAX},           /* ... far past it */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        /* Always at offset 0: the last round's rest is passed by. */
        uint64_t tail = atomic_load(&segment_entry(fixture->segment, 1)->uplink_tail);
        uint64_t offset = tail % UPLINK;
        if (offset + 112 > UPLINK)
            offset = 0;
        assert_true(put(fixture, 1, 100));
        assert_true(put(fixture, 2, 104));
        expect(fixture, 1, 100);
        *record_at(fixture, (offset + 112) % UPLINK) = bad[i];
        expect_corrupt(fixture);
        expect_corrupt(fixture);                            /* and stays so */
        assert_true(uplink_master_sleep(fixture->segment)); /* doesn't keep the master from sleeping */
        uplink_release(fixture->in);
        replace_worker(fixture);
        expect_nothing(fixture);
        assert_true(put(fixture, 3, 10));
        expect(fixture, 3, 10);
        uplink_release(fixture->in);
    }
}

static void test_corrupt_tail(void **state)
{
    struct fixture *fixture = *state;
    struct layout_entry *entry = segment_entry(fixture->segment, 1);
    const uint64_t wrong[] = {1, UPLINK + 8, UINT64_MAX - 7, 0x8000000000000000u};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_true(put(fixture, 1, 100));
        expect(fixture, 1, 100);
        uint64_t tail = atomic_load(&entry->uplink_tail);
        atomic_store(&entry->uplink_tail, tail + wrong[i]);
        expect_corrupt(fixture);
        uplink_release(fixture->in);
        replace_worker(fixture);
        assert_int_equal(atomic_load(&entry->uplink_tail), tail);
        expect_nothing(fixture);
    }
    /* Behind what was read already. */
    assert_true(put(fixture, 1, 100));
    assert_true(put(fixture, 2, 100));
    uint64_t before = atomic_load(&entry->uplink_tail) - 112;
    expect(fixture, 1, 100);
    expect(fixture, 2, 100);
    atomic_store(&entry->uplink_tail, before);
    expect_corrupt(fixture);
    replace_worker(fixture);
    assert_int_equal(atomic_load(&entry->uplink_tail), before + 112);
    assert_true(put(fixture, 3, 100));
    expect(fixture, 3, 100);
}

/* Nonsense behind good records: the good ones are read, replaced or not. */
static void test_corrupt_after_good(void **state)
{
    struct fixture *fixture = *state;
    assert_true(put(fixture, 1, 100));
    assert_true(put(fixture, 2, 100));
    assert_true(put(fixture, 3, 100));
    record_at(fixture, 224)->length = UINT32_MAX;
    replace_worker(fixture);
    assert_true(put(fixture, 4, 100));
    expect(fixture, 1, 100);
    expect(fixture, 2, 100);
    expect(fixture, 4, 100);
    expect_nothing(fixture);
}

static void test_doorbell(void **state)
{
    struct fixture *fixture = *state;
    int doorbell = segment_own_eventfd(fixture->segment);
    /* Awake: no bell. */
    assert_true(put(fixture, 0, 10));
    assert_false(readable(doorbell));
    assert_false(uplink_master_sleep(fixture->segment)); /* there is something to read */
    expect(fixture, 0, 10);
    assert_true(uplink_master_sleep(fixture->segment));
    assert_true(put(fixture, 1, 10));
    assert_true(readable(doorbell));
    uplink_master_awake(fixture->segment);
    assert_false(readable(doorbell));
    assert_true(put(fixture, 2, 10));
    assert_false(readable(doorbell)); /* the master looks before it sleeps */
    expect(fixture, 1, 10);
    assert_false(uplink_master_sleep(fixture->segment));
    expect(fixture, 2, 10);
    assert_true(uplink_master_sleep(fixture->segment));
    /* Woken by something else, it sleeps again. */
    assert_true(uplink_master_sleep(fixture->segment));
    assert_true(put(fixture, 3, 10));
    assert_true(readable(doorbell));
}

/* A slot that was never prepared doesn't matter to the sleep, whatever stands in its entry. */
static void test_unprepared_slot(void **state)
{
    struct fixture *fixture = *state;
    atomic_store(&segment_entry(fixture->segment, 2)->uplink_tail, 64);
    assert_true(uplink_master_sleep(fixture->segment));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_many_records, setup, teardown),
        cmocka_unit_test_setup_teardown(test_largest_at_any_offset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_half_written, setup, teardown),
        cmocka_unit_test_setup_teardown(test_committed_survives, setup, teardown),
        cmocka_unit_test_setup_teardown(test_corrupt_lengths, setup, teardown),
        cmocka_unit_test_setup_teardown(test_corrupt_tail, setup, teardown),
        cmocka_unit_test_setup_teardown(test_corrupt_after_good, setup, teardown),
        cmocka_unit_test_setup_teardown(test_doorbell, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unprepared_slot, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
