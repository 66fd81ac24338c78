/* When a process that has ended is started again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/master/restart_pace.h"
#include "shm/common/clock.h"

static void test_delays(void **state)
{
    static const struct {
        uint64_t lived_ms;
        uint64_t delay_ms;
    } history[] = {{10, 0}, {10, 100}, {0, 200}, {4999, 400}, {10, 800}, {10, 1000}, {10, 1000}, {5000, 0},
        {10, 0}, {10, 100}};
    struct restart_pace pace = {.first_ns = 100 * CLOCK_MILLISECOND, .most_ns = CLOCK_SECOND};
    (void)state;
    for (size_t i = 0; i < sizeof history / sizeof *history; i++)
        assert_int_equal(restart_pace_ended(&pace, history[i].lived_ms * CLOCK_MILLISECOND),
            history[i].delay_ms * CLOCK_MILLISECOND);
    for (unsigned i = 0; i < 100; i++)
        assert_in_range(restart_pace_ended(&pace, 0), 1, CLOCK_SECOND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_delays)};
    return cmocka_run_group_tests_name("restart pace", tests, NULL, NULL);
}
