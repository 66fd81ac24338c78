/* The worker table, the counters and the host-wide words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "shm/layout.h"
#include "shm/worker_table.h"
#include "tests/unit/shm/shm_harness.h"

static void test_entries(void **state)
{
    (void)state;
    struct segment *master = make_segment(65536, 4096, SEGMENT_SLOTS_MAX);
    for (unsigned slot = 0; slot < SEGMENT_SLOTS_MAX; slot++) {
        assert_int_equal(worker_table_state(master, slot), WORKER_FREE);
        assert_int_equal(worker_table_pid(master, slot), 0);
        assert_int_equal(worker_table_incarnation(master, slot), 0);
        worker_table_set_state(master, slot, WORKER_STARTING);
        worker_table_set_pid(master, slot, (int32_t)(1000 + slot));
        worker_table_next_incarnation(master, slot);
        worker_table_beat(master, slot, UINT64_C(5000000000000) + slot);
        worker_table_set_connections(master, slot, 20 + slot);
    }
    for (unsigned slot = 0; slot < SEGMENT_SLOTS_MAX; slot++) {
        assert_int_equal(worker_table_state(master, slot), WORKER_STARTING);
        assert_int_equal(worker_table_pid(master, slot), 1000 + slot);
        assert_int_equal(worker_table_incarnation(master, slot), 1);
        assert_int_equal(worker_table_heartbeat(master, slot), UINT64_C(5000000000000) + slot);
        assert_int_equal(worker_table_connections(master, slot), 20 + slot);
    }
    segment_close(master);
}

static void test_worker_writes_its_own(void **state)
{
    (void)state;
    struct segment *master = make_segment(65536, 4096, 3);
    prepare(master, 1);
    struct segment *worker = attach(master, 1);
    worker_table_set_state(master, 1, WORKER_STARTING);
    worker_table_next_incarnation(master, 1);
    worker_table_next_incarnation(master, 1);
    assert_int_equal(worker_table_incarnation(worker, 1), 2);
    worker_table_set_state(worker, 1, WORKER_READY);
    worker_table_beat(worker, 1, 99);
    worker_table_set_connections(worker, 1, 3);
    assert_int_equal(worker_table_state(master, 1), WORKER_READY);
    assert_int_equal(worker_table_heartbeat(master, 1), 99);
    /* It sees its neighbours, to spread the load. */
    worker_table_set_connections(master, 2, 8);
    assert_int_equal(worker_table_connections(worker, 2), 8);
    segment_close(worker);
    segment_close(master);
}

static void test_counters(void **state)
{
    (void)state;
    struct segment *master = make_segment(65536, 4096, 3);
    prepare(master, 1);
    struct segment *worker = attach(master, 1);
    counter_add(master, COUNTER_MASTER, COUNTER_WORKERS_STARTED, 2);
    counter_add(worker, 1, COUNTER_DELIVERIES, 40);
    counter_add(worker, 1, COUNTER_DELIVERIES, 2);
    counter_add(master, 2, COUNTER_DELIVERIES, 100);
    assert_int_equal(counter_read(master, 1, COUNTER_DELIVERIES), 42);
    assert_int_equal(counter_read(master, 0, COUNTER_DELIVERIES), 0);
    assert_int_equal(counter_sum(worker, COUNTER_DELIVERIES), 142);
    assert_int_equal(counter_sum(worker, COUNTER_WORKERS_STARTED), 2);
    /* They outlive the worker. */
    segment_close(worker);
    prepare(master, 1);
    assert_int_equal(counter_sum(master, COUNTER_DELIVERIES), 142);
    segment_close(master);
}

static void test_counter_names(void **state)
{
    (void)state;
    for (unsigned i = 0; i < COUNTER_COUNT; i++) {
        const char *name = counter_name((enum counter)i);
        assert_non_null(name);
        /* fit for a metric's name, with labels or not; each there once; those that share a name follow
         * each other and only the first has a help */
        size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz_0123456789");
        assert_true(name[length] == 0 || (name[length] == '{' && name[strlen(name) - 1] == '}'));
        bool first = i == 0 || strncmp(counter_name((enum counter)(i - 1)), name, length) != 0 ||
                     counter_name((enum counter)(i - 1))[length] != '{';
        assert_true(first == (*counter_help((enum counter)i) != 0));
        for (unsigned other = 0; first && other < i; other++)
            assert_false(strncmp(counter_name((enum counter)other), name, length) == 0 &&
                         strcspn(counter_name((enum counter)other), "{") == length);
        for (unsigned other = 0; other < i; other++)
            assert_string_not_equal(name, counter_name((enum counter)other));
    }
    assert_string_equal(counter_name(COUNTER_DELIVERIES), "deliveries");
    assert_string_equal(counter_name(COUNTER_COUNT), "unknown");
}

static void test_host_words(void **state)
{
    (void)state;
    struct segment *master = make_segment(65536, 4096, 2);
    prepare(master, 0);
    struct segment *worker = attach(master, 0);
    assert_int_equal(backbone_state_read(worker), BACKBONE_NONE);
    backbone_state_write(master, BACKBONE_UP);
    assert_int_equal(backbone_state_read(worker), BACKBONE_UP);
    event_limit_write(master, UINT64_C(1) << 40);
    assert_int_equal(event_limit_read(worker), UINT64_C(1) << 40);
    segment_close(worker);
    segment_close(master);
}

/* What two processes write must not share a line. */
static void test_lines_apart(void **state)
{
    (void)state;
    const size_t starts[] = {offsetof(struct layout_entry, ring_cell),
        offsetof(struct layout_entry, ring_asleep), offsetof(struct layout_entry, uplink_tail),
        offsetof(struct layout_entry, ring_active), offsetof(struct layout_entry, heartbeat_ns),
        offsetof(struct layout_entry, counters)};
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++)
        assert_int_equal(starts[i], i * LAYOUT_LINE);
    assert_int_equal(sizeof(struct layout_line), LAYOUT_LINE);
    struct segment *master = make_segment(65536, 4096, 2);
    assert_int_equal((uintptr_t)segment_entry(master, 1) % LAYOUT_LINE, 0);
    assert_int_equal((uintptr_t)segment_entry(master, 1) % 4096, 0);
    assert_int_equal((uintptr_t)master->control % 4096, 0);
    assert_int_equal((uintptr_t)master->ring % 4096, 0);
    segment_close(master);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries),
        cmocka_unit_test(test_worker_writes_its_own),
        cmocka_unit_test(test_counters),
        cmocka_unit_test(test_counter_names),
        cmocka_unit_test(test_host_words),
        cmocka_unit_test(test_lines_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
