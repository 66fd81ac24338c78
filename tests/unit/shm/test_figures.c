/* Gauges, the fan-out's histogram, HTTP answers, lag and gaps: what the processes of one host see of each
 * other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "shm/common/clock.h"
#include "shm/figures.h"
#include "shm/ring.h"
#include "shm/worker_table.h"
#include "tests/unit/shm/shm_harness.h"

static void test_gauges_of_the_living(void **state)
{
    (void)state;
    struct segment *master = make_segment(65536, 4096, 3);
    prepare(master, 1);
    struct segment *worker = attach(master, 1);
    gauge_write(worker, 1, GAUGE_CLIENTS, 7);
    gauge_write(master, 2, GAUGE_CLIENTS, 5);
    assert_int_equal(gauge_sum(worker, GAUGE_CLIENTS), 0); /* nobody lives there yet */
    worker_table_set_state(master, 1, WORKER_READY);
    worker_table_set_state(master, 2, WORKER_DRAINING);
    assert_int_equal(gauge_sum(worker, GAUGE_CLIENTS), 12);
    assert_int_equal(gauge_sum(worker, GAUGE_SUBSCRIPTIONS), 0);
    worker_table_set_state(master, 1, WORKER_DEAD);
    assert_int_equal(gauge_sum(worker, GAUGE_CLIENTS), 5);
    segment_close(worker);
    segment_close(master);
}

static void test_fanout_buckets(void **state)
{
    (void)state;
    struct segment *master = make_segment(65536, 4096, 2);
    for (unsigned i = 0; i < FANOUT_BUCKETS; i++) {
        if (i > 0)
            assert_true(figures_fanout_bounds[i] > figures_fanout_bounds[i - 1]);
        figures_observe_fanout(master, i % 2, figures_fanout_bounds[i]);     /* at the bound: in it */
        figures_observe_fanout(master, i % 2, figures_fanout_bounds[i] + 1); /* above: in the next one */
    }
    struct figures_fanout fanout = figures_read_fanout(master);
    uint64_t sum = FANOUT_BUCKETS;
    for (unsigned i = 0; i < FANOUT_BUCKETS; i++) {
        assert_int_equal(fanout.buckets[i], i == 0 ? 1 : 2);
        sum += 2 * figures_fanout_bounds[i];
    }
    assert_int_equal(fanout.above, 1);
    assert_int_equal(fanout.sum_ns, sum);
    segment_close(master);
}

static void test_http_answers(void **state)
{
    (void)state;
    struct segment *master = make_segment(65536, 4096, 2);
    uint64_t total = 0;
    figures_count_http(master, 0, 3, 200);
    figures_count_http(master, 1, 3, 200);
    figures_count_http(master, 0, FIGURES_ROUTES - 1, 504);
    figures_count_http(master, 0, 0, 299); /* not in the list: "other" */
    for (unsigned route = 0; route < FIGURES_ROUTES; route++)
        for (unsigned i = 0; i < FIGURES_STATUS_COUNT; i++) {
            uint64_t count = figures_sum_http(master, route, i);
            uint64_t expected = (route == 3 && figures_statuses[i] == 200)                    ? 2
                                : (route == FIGURES_ROUTES - 1 && figures_statuses[i] == 504) ? 1
                                : (route == 0 && figures_statuses[i] == 0)                    ? 1
                                                                                              : 0;
            assert_int_equal(count, expected);
            total += count;
        }
    assert_int_equal(total, 4);
    segment_close(master);
}

static void test_ring_lag(void **state)
{
    (void)state;
    struct segment *master = make_segment(65536, 4096, 2);
    struct ring_writer *writer = ring_writer_open(master);
    prepare(master, 0);
    ring_writer_activate(writer, 0);
    struct segment *worker = attach(master, 0);
    struct ring_reader *reader = ring_reader_open(worker, 0);
    worker_table_set_state(master, 0, WORKER_READY);
    assert_int_equal(figures_ring_capacity(worker), 65536);
    assert_int_equal(figures_ring_lag(worker, 0), 0);
    assert_non_null(ring_writer_reserve(writer, RING_EVENT, 100));
    ring_writer_commit(writer);
    assert_int_equal(figures_ring_lag(worker, 0), ring_writer_lag(writer, 0));
    assert_true(figures_ring_lag(worker, 0) >= 108);
    struct ring_record record;
    assert_true(ring_reader_next(reader, &record));
    ring_reader_release(reader);
    assert_int_equal(figures_ring_lag(worker, 0), 0);
    ring_reader_close(reader);
    ring_writer_close(writer);
    segment_close(worker);
    segment_close(master);
}

static void test_backbone_away(void **state)
{
    (void)state;
    struct segment *master = make_segment(65536, 4096, 2);
    backbone_state_write(master, BACKBONE_NONE);
    assert_int_equal(figures_backbone_away(master, clock_monotonic_ns()), 0);
    uint64_t before = clock_monotonic_ns();
    backbone_state_write(master, BACKBONE_CONNECTING);
    backbone_state_write(master, BACKBONE_GAP); /* still the same time away */
    uint64_t running = figures_backbone_away(master, clock_monotonic_ns() + CLOCK_SECOND);
    assert_true(running >= CLOCK_SECOND && running <= clock_monotonic_ns() - before + CLOCK_SECOND);
    backbone_state_write(master, BACKBONE_UP);
    uint64_t away = figures_backbone_away(master, clock_monotonic_ns());
    assert_true(away <= clock_monotonic_ns() - before);
    assert_int_equal(figures_backbone_away(master, clock_monotonic_ns() + CLOCK_SECOND), away);
    backbone_state_write(master, BACKBONE_GAP);
    assert_true(figures_backbone_away(master, clock_monotonic_ns() + CLOCK_SECOND) >= away + CLOCK_SECOND);
    segment_close(master);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gauges_of_the_living),
        cmocka_unit_test(test_fanout_buckets),
        cmocka_unit_test(test_http_answers),
        cmocka_unit_test(test_ring_lag),
        cmocka_unit_test(test_backbone_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
