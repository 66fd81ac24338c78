/* What a batch takes, and what its answer comes to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "broadcast/postgres/postgres_batch.h"

static bool add(struct postgres_batch *batch, const char *message)
{
    return postgres_batch_add(batch, slice_from_string(message));
}

static enum postgres_batch_end finish(struct postgres_batch *batch, unsigned *count, bool *too_long)
{
    struct text why;
    enum postgres_batch_end end = postgres_batch_finish(batch, count, too_long, &why);
    text_free(&why);
    return end;
}

static void test_what_joins(void **state)
{
    struct postgres_batch batch = {0};
    static char big[1 << 20];
    (void)state;
    memset(big, 'x', sizeof big);
    assert_true(add(&batch, "one"));
    assert_true(add(&batch, "two"));
    assert_false(add(&batch, "one")); /* Postgres would deliver the two as one */
    assert_false(postgres_batch_add(&batch, (struct slice){big, sizeof big}));
    assert_int_equal(batch.count, 2);
    postgres_batch_take_back(&batch, SLICE_LITERAL("two"));
    assert_int_equal(batch.count, 1);
    postgres_batch_reset(&batch);
    assert_true(postgres_batch_add(&batch, (struct slice){big, sizeof big})); /* alone any size */
    assert_false(add(&batch, "one"));
    batch.sent = true;
    postgres_batch_reset(&batch);
    for (unsigned i = 0; i < POSTGRES_BATCH_MAX; i++)
        assert_true(postgres_batch_add(&batch, (struct slice){(const char *)&i, sizeof i}));
    assert_false(add(&batch, "one"));
    batch.sent = true;
    assert_false(add(&batch, "one"));
    postgres_batch_free(&batch);
}

static void test_ends(void **state)
{
    static const struct {
        unsigned count;
        /* SQLSTATE of a failure, NULL: none */
        const char *code;
        enum postgres_batch_end end;
        bool too_long;
        unsigned singles;
    } cases[] = {
        {3, NULL, POSTGRES_BATCH_DONE, false, 0},
        {1, "22023", POSTGRES_BATCH_REFUSED, true, 0},
        {1, "22P05", POSTGRES_BATCH_REFUSED, false, 0},
        {3, "22023", POSTGRES_BATCH_AGAIN, true, 3},
        {1, "53100", POSTGRES_BATCH_BROKEN, false, 0},
        {3, "42P01", POSTGRES_BATCH_BROKEN, false, 0},
        {3, "", POSTGRES_BATCH_BROKEN, false, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct postgres_batch batch = {0};
        unsigned count;
        bool too_long;
        for (unsigned k = 0; k < cases[i].count; k++)
            assert_true(postgres_batch_add(&batch, (struct slice){(const char *)&k, sizeof k}));
        if (cases[i].code)
            postgres_batch_failed(&batch, cases[i].code, SLICE_LITERAL("ERROR: first"));
        if (cases[i].code) /* what is only skipped after it */
            postgres_batch_failed(&batch, "25P02", SLICE_LITERAL("ERROR: second"));
        assert_int_equal(finish(&batch, &count, &too_long), cases[i].end);
        assert_int_equal(count, cases[i].count);
        assert_int_equal(too_long, cases[i].too_long);
        assert_int_equal(batch.singles, cases[i].singles);
        assert_int_equal(batch.count, 0);
        postgres_batch_free(&batch);
    }
}

/* After a batch that failed its messages go one by one, and then together again. */
static void test_one_by_one(void **state)
{
    struct postgres_batch batch = {0};
    unsigned count;
    bool too_long;
    (void)state;
    assert_true(add(&batch, "one"));
    assert_true(add(&batch, "two"));
    postgres_batch_failed(&batch, "22023", SLICE_LITERAL("ERROR: too long"));
    assert_int_equal(finish(&batch, &count, &too_long), POSTGRES_BATCH_AGAIN);
    assert_true(add(&batch, "one"));
    assert_false(add(&batch, "two"));
    assert_int_equal(finish(&batch, &count, &too_long), POSTGRES_BATCH_DONE);
    assert_true(add(&batch, "two"));
    assert_false(add(&batch, "three"));
    postgres_batch_failed(&batch, "22023", SLICE_LITERAL("ERROR: too long"));
    assert_int_equal(finish(&batch, &count, &too_long), POSTGRES_BATCH_REFUSED);
    assert_true(add(&batch, "three"));
    assert_true(add(&batch, "four"));
    postgres_batch_free(&batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_joins),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
