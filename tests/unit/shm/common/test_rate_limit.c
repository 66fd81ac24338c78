/* The notation of rate limits; what is good and bad here was asked of the library itself (limits 5). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "shm/common/rate_limit.h"

#define MINUTE UINT64_C(60000)

static void expect(const char *notation, size_t count, uint32_t amount, uint32_t multiples, const char *unit,
    uint64_t window_ms)
{
    struct rate_limits limits;
    struct error err = {0};
    if (rate_limits_parse(notation, &limits, &err) < 0)
        fail_msg("'%s': %s", notation, err.text);
    const struct rate_limit *last = &limits.items[limits.count - 1];
    assert_int_equal(limits.count, count);
    assert_int_equal(last->amount, amount);
    assert_int_equal(last->multiples, multiples);
    assert_string_equal(last->granularity, unit);
    assert_int_equal(last->window_ms, window_ms);
}

static void refuse(const char *notation, const char *why)
{
    struct rate_limits limits;
    struct error err = {0};
    if (rate_limits_parse(notation, &limits, &err) == 0)
        fail_msg("'%s' was taken", notation);
    if (!strstr(err.text, why))
        fail_msg("'%s': %s", notation, err.text);
}

static void test_forms(void **state)
{
    (void)state;
    expect("10/second", 1, 10, 1, "second", 1000);
    expect("5 per minute", 1, 5, 1, "minute", MINUTE);
    expect("  007PER 3MINUTES  ", 1, 7, 3, "minute", 3 * MINUTE);
    expect("5perhour", 1, 5, 1, "hour", 60 * MINUTE);
    expect("1/2days", 1, 1, 2, "day", 2 * 1440 * MINUTE);
    expect("1 / month", 1, 1, 1, "month", 30 * 1440 * MINUTE);
    expect("1 per 1 Year", 1, 1, 1, "year", 360 * 1440 * MINUTE);
    expect("1/0 second", 1, 1, 1, "second", 1000);
    expect("0/second", 1, 0, 1, "second", 1000);
    expect("1/second;5/minute", 2, 5, 1, "minute", MINUTE);
    expect("1/second, 5/minute | 6 per hour", 3, 6, 1, "hour", 60 * MINUTE);
    expect("1/second:;5/minute", 2, 5, 1, "minute", MINUTE);
    expect("16777215/second", 1, 16777215, 1, "second", 1000);
    expect(
        "1/second;1/second;1/second;1/second;1/second;1/second;1/second;8/second", 8, 8, 1, "second", 1000);
}

static void test_refusals(void **state)
{
    (void)state;
    refuse("", "a number was expected");
    refuse("second", "a number was expected");
    refuse("-1/second", "a number was expected");
    refuse("10", "'/' or 'per'");
    refuse("10 second", "'/' or 'per'");
    refuse("10//second", "second, minute");
    refuse("10/", "second, minute");
    refuse("10/fortnight", "second, minute");
    refuse("10/secondss", "second, minute");
    refuse("10/second 5/minute", "was expected");
    refuse("10/second;", "a number was expected");
    refuse("10/second:", "was expected");
    refuse("10/second::;5/minute", "was expected");
    refuse("16777216/second", "at most 16777215");
    refuse("99999999999999999999999/second", "at most 16777215");
    refuse("1/99999999999999999999999 seconds", "100 years");
    refuse("1/s;1/s;1/s;1/s;1/s;1/s;1/s;1/s;1/s", "second, minute");
    refuse("1/day;1/day;1/day;1/day;1/day;1/day;1/day;1/day;1/day", "more than 8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
