#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include "shm/common/backoff.h"

#define HALF UINT64_C(0x8000000000000000)

static void grows_to_the_maximum(void **state)
{
    static const double bases[] = {0.5, 1, 2, 4, 8, 16, 30, 30, 30};
    struct backoff backoff;
    (void)state;
    backoff_init(&backoff, 0.5, 30);
    for (size_t i = 0; i < sizeof bases / sizeof *bases; i++) {
        double got = (double)backoff_fail(&backoff, HALF) / 1e9; /* half of the random part */
        assert_true(fabs(got - bases[i] * 0.75) < 1e-6);
        assert_int_equal(backoff.attempt, i + 1);
    }
    backoff_reset(&backoff);
    assert_true(fabs((double)backoff_fail(&backoff, HALF) / 1e9 - 0.375) < 1e-6);
}

static void stays_between_half_and_whole(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 1000; i++) {
        struct backoff backoff;
        backoff_init(&backoff, 0.5, 30);
        uint64_t got = backoff_fail(&backoff, i * UINT64_C(0x9e3779b97f4a7c15));
        assert_in_range(got, 250000000, 500000000);
    }
    struct backoff backoff;
    backoff_init(&backoff, 0.5, 30);
    assert_int_equal(backoff_fail(&backoff, 0), 250000000);
    assert_in_range(backoff_fail(&backoff, UINT64_MAX), 999999990, 1000000000);
}

static void never_overflows_or_spins(void **state)
{
    struct backoff backoff;
    (void)state;
    backoff_init(&backoff, 0, 0);
    assert_true(backoff_fail(&backoff, 0) >= 5000000);
    backoff_init(&backoff, NAN, NAN);
    assert_true(backoff_fail(&backoff, 0) >= 5000000);
    backoff_init(&backoff, 1, 60);
    backoff.attempt = UINT32_MAX;
    assert_int_equal(backoff_fail(&backoff, 0), UINT64_C(30000000000));
    assert_int_equal(backoff.attempt, UINT32_MAX);
    backoff_init(&backoff, 20, 5);
    assert_int_equal(backoff_fail(&backoff, 0), UINT64_C(10000000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(grows_to_the_maximum),
        cmocka_unit_test(stays_between_half_and_whole), cmocka_unit_test(never_overflows_or_spins)};
    return cmocka_run_group_tests_name("shm/common/backoff", tests, NULL, NULL);
}
