/* Durations in POST /token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>

#include "worker/api/token_request.h"

static void durations(void **state)
{
    static const struct {
        const char *text;
        double seconds; /* NAN: none */
    } cases[] = {
        {"90", 90},
        {"-5", -5},
        {"1.5", 1.5},
        {"-1.5", -1.5},
        {"1:30", 90},
        {"-1:30", -30},
        {"1:00:00", 3600},
        {"1 00:00:00", 86400},
        {"2 days, 0:0:1", 172801},
        {"1 day, 1", 86401},
        {"1 5", 86405},
        {"0.1234567", 0.123456},
        {"P1DT2H", 93600},
        {"-P1D", -86400},
        {"+PT1M", 60},
        {"PT1.5S", 1.5},
        {"P", 0},
        {"PT", 0},
        {"P1.25D", 108000},
        {"", NAN},
        {"x", NAN},
        {"1.", NAN},
        {"1:", NAN},
        {":1", NAN},
        {"1:2:3:4", NAN},
        {"1 ", NAN},
        {" 1", NAN},
        {"1d", NAN},
        {"1:2:-3", NAN},
        {"1:-2:3", NAN},
        {"-1:-2", -62},
        {"1:-2", 58},
        {"P1H", NAN},
        {"P1", NAN},
        {"PT1H1D", NAN},
        {"1 days 5", NAN},
        {"1.1234567890123", NAN},
        {"9999999999999999999999", NAN},
        {"1\0", 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double seconds = NAN;
        bool good = token_duration_parse(slice_from_string(cases[i].text), &seconds);
        if (good != !isnan(cases[i].seconds) || (good && fabs(seconds - cases[i].seconds) > 1e-9))
            fail_msg("%s: %d %g", cases[i].text, good, seconds);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
