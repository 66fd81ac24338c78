/* When a refused handshake has to wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "worker/net/refusal_pace.h"

static void pace(void **state)
{
    struct refusal_pace *table = calloc(1, sizeof *table);
    uint64_t now = 5;
    (void)state;
    for (int i = 0; i < REFUSAL_PACE_FREE; i++)
        assert_false(refusal_pace_note(table, SLICE_LITERAL("10.0.0.1"), now++));
    assert_true(refusal_pace_note(table, SLICE_LITERAL("10.0.0.1"), now++));
    assert_false(refusal_pace_note(table, SLICE_LITERAL("10.0.0.2"), now++)); /* others are not touched */
    assert_true(refusal_pace_note(table, SLICE_LITERAL("10.0.0.1"), now++));
    now += REFUSAL_PACE_NS;
    assert_false(refusal_pace_note(table, SLICE_LITERAL("10.0.0.1"), now++));
    assert_false(refusal_pace_note(table, SLICE_LITERAL(""), now));
    free(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
