/* The load limit's windows, also when many take at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include "shm/load_limit.h"
#include "shm/layout.h"
#include "tests/unit/shm/shm_harness.h"

#define THREADS 4
#define ROUNDS  20000

static struct rate_limits parse(const char *notation)
{
    struct rate_limits limits;
    struct error err = {0};
    if (rate_limits_parse(notation, &limits, &err) < 0)
        fail_msg("%s", err.text);
    return limits;
}

static void test_window(void **state)
{
    (void)state;
    struct segment *master = make_segment(65536, 4096, 2);
    const struct rate_limits limits = parse("2/second");
    assert_null(load_limit_take(master, &limits, 5000));
    assert_null(load_limit_take(master, &limits, 5500));
    assert_ptr_equal(load_limit_take(master, &limits, 5999), &limits.items[0]);
    /* a window begins with its first use, not with the clock's second */
    assert_null(load_limit_take(master, &limits, 6700));
    assert_null(load_limit_take(master, &limits, 7699));
    assert_non_null(load_limit_take(master, &limits, 7699));
    assert_null(load_limit_take(master, &limits, 7700));
    /* nonsense from the future is not waited for */
    master->doorbell_line->load_window[0] = UINT64_MAX;
    assert_null(load_limit_take(master, &limits, 8000));
    segment_close(master);
}

static void test_order_of_limits(void **state)
{
    (void)state;
    struct segment *master = make_segment(65536, 4096, 2);
    const struct rate_limits limits = parse("2/second;3/minute");
    const struct rate_limits nobody = parse("0/second");
    assert_null(load_limit_take(master, &limits, 1000));
    assert_null(load_limit_take(master, &limits, 1001));
    assert_ptr_equal(load_limit_take(master, &limits, 1002), &limits.items[0]);
    assert_null(load_limit_take(master, &limits, 2500));
    assert_ptr_equal(load_limit_take(master, &limits, 2501), &limits.items[1]);
    assert_ptr_equal(load_limit_take(master, &limits, 60999), &limits.items[1]);
    assert_null(load_limit_take(master, &limits, 62000));
    assert_non_null(load_limit_take(master, &nobody, 900000));
    segment_close(master);
}

struct taker {
    struct segment *segment;
    const struct rate_limits *limits;
    unsigned taken;
};

static void *take_many(void *argument)
{
    struct taker *taker = argument;
    for (unsigned i = 0; i < ROUNDS; i++)
        taker->taken += load_limit_take(taker->segment, taker->limits, 1000) == NULL;
    return NULL;
}

/* All workers together get what one limit allows, no more and no less. */
static void test_counted_once(void **state)
{
    (void)state;
    struct segment *master = make_segment(65536, 4096, THREADS);
    const struct rate_limits limits = parse("30000/second");
    struct taker takers[THREADS];
    pthread_t threads[THREADS];
    unsigned taken = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        prepare(master, i);
        takers[i] = (struct taker){attach(master, i), &limits, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, take_many, &takers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        taken += takers[i].taken;
        segment_close(takers[i].segment);
    }
    assert_int_equal(taken, 30000);
    segment_close(master);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_window), cmocka_unit_test(test_order_of_limits),
        cmocka_unit_test(test_counted_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
