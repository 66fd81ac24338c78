/* Which reader holds up the full ring: histories of looks, and what each one says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/router/stall.h"
#include "shm/common/clock.h"

#define MS(milliseconds) ((milliseconds)*CLOCK_MILLISECOND)
#define LIMIT            MS(1000)

struct look {
    uint64_t at_ms;
    unsigned slot;
    uint64_t cursor;
    bool stuck;
};

struct history {
    const char *name;
    struct look looks[8]; /* the first one is the begin */
    size_t count;
};

static const struct history histories[] = {
    {.name = "it does not move",
        .looks = {{100, 1, 64, false}, {600, 1, 64, false}, {1099, 1, 64, false}, {1100, 1, 64, true},
            {1600, 1, 64, false}, {2099, 1, 64, false}, {2100, 1, 64, true}},
        .count = 7},
    {.name = "it moves, however slowly",
        .looks = {{100, 1, 64, false}, {1000, 1, 72, false}, {1900, 1, 80, false}, {2800, 1, 88, false}},
        .count = 4},
    {.name = "another one is the slowest now",
        .looks = {{100, 1, 64, false}, {600, 1, 64, false}, {1100, 2, 64, false}, {2000, 2, 64, false},
            {2100, 2, 64, true}},
        .count = 5},
    {.name = "this process did not run: nor did the reader",
        .looks = {{100, 1, 64, false}, {600, 1, 64, false}, {9000, 1, 64, false}, {9900, 1, 64, false},
            {10000, 1, 64, true}},
        .count = 5},
};

static void test_histories(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof histories / sizeof *histories; i++) {
        const struct history *history = &histories[i];
        struct stall stall = {0};
        assert_false(stall_running(&stall));
        stall_begin(&stall, history->looks[0].slot, history->looks[0].cursor, MS(history->looks[0].at_ms));
        for (size_t k = 1; k < history->count; k++) {
            const struct look *look = &history->looks[k];
            bool stuck = stall_look(&stall, look->slot, look->cursor, MS(look->at_ms), LIMIT);
            if (stuck != look->stuck)
                fail_msg("%s: the look at %u ms says %d", history->name, (unsigned)look->at_ms, stuck);
        }
        assert_true(stall_running(&stall));
        stall_end(&stall);
        assert_false(stall_running(&stall));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_histories)};
    return cmocka_run_group_tests_name("stall", tests, NULL, NULL);
}
