/* A token's end is told once, not before its time, and at once when it has passed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "shm/common/clock.h"
#include "worker/client/token_timer.h"

static void expired(void *context)
{
    *(uint64_t *)context = clock_realtime_us();
}

static void test_time(void **state)
{
    struct event_base *base = event_base_new();
    uint64_t told_us = 0;
    int64_t expires = (int64_t)(clock_realtime_us() / 1000000) + 1;
    (void)state;
    struct token_timer *timer = token_timer_open(base, expires, expired, &told_us);
    event_base_dispatch(base);
    assert_true(told_us >= (uint64_t)expires * 1000000);
    token_timer_close(timer);

    told_us = 0;
    timer = token_timer_open(base, expires - 100, expired, &told_us);
    event_base_dispatch(base);
    assert_true(told_us > 0);
    token_timer_close(timer);
    event_base_free(base);
}

static void test_far_away(void **state)
{
    struct event_base *base = event_base_new();
    uint64_t told_us = 0;
    (void)state;
    struct token_timer *timer = token_timer_open(base, INT64_MAX, expired, &told_us);
    event_base_loop(base, EVLOOP_NONBLOCK);
    assert_int_equal(told_us, 0);
    token_timer_close(timer);
    event_base_free(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_far_away),
    };
    return cmocka_run_group_tests_name("token_timer", tests, NULL, NULL);
}
