#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "broadcast/relay/inbox.h"

static void expect_front(struct inbox *inbox, enum inbox_front kind, const char *text, uint64_t wanted_row)
{
    struct slice message = {0};
    uint64_t row = 0;
    assert_int_equal(inbox_front(inbox, &message, &row), kind);
    if (text)
        assert_true(slice_equals_string(message, text));
    if (wanted_row)
        assert_int_equal(row, wanted_row);
}

static void a_row_holds_back_what_follows(void **state)
{
    struct inbox *inbox = inbox_make(10, 1000);
    uint64_t row;
    (void)state;
    expect_front(inbox, INBOX_EMPTY, NULL, 0);
    assert_false(inbox_next_row(inbox, &row));
    inbox_append(inbox, SLICE_LITERAL("a"));
    inbox_append_row(inbox, 7);
    inbox_append(inbox, SLICE_LITERAL("b"));
    inbox_append_row(inbox, 8);
    expect_front(inbox, INBOX_READY, "a", 0);
    inbox_pop(inbox);
    expect_front(inbox, INBOX_AWAITS_ROW, NULL, 7);
    assert_false(inbox_fill_row(inbox, 7, SLICE_LITERAL("early"))); /* not asked for */
    assert_true(inbox_next_row(inbox, &row));
    assert_int_equal(row, 7);
    assert_true(inbox_next_row(inbox, &row));
    assert_int_equal(row, 8);
    assert_false(inbox_next_row(inbox, &row));
    assert_false(inbox_fill_row(inbox, 9, SLICE_LITERAL("nobody's")));
    assert_true(inbox_fill_row(inbox, 8, (struct slice){0}));
    expect_front(inbox, INBOX_AWAITS_ROW, NULL, 7);
    assert_true(inbox_fill_row(inbox, 7, SLICE_LITERAL("seven")));
    expect_front(inbox, INBOX_READY, "seven", 0);
    inbox_pop(inbox);
    expect_front(inbox, INBOX_READY, "b", 0);
    inbox_pop(inbox);
    expect_front(inbox, INBOX_ROW_MISSING, NULL, 8);
    inbox_pop(inbox);
    expect_front(inbox, INBOX_EMPTY, NULL, 0);
    inbox_free(inbox);
}

static void rows_are_asked_again(void **state)
{
    struct inbox *inbox = inbox_make(10, 1000);
    uint64_t row;
    (void)state;
    inbox_append_row(inbox, 1);
    inbox_append_row(inbox, 2);
    inbox_append_row(inbox, 2); /* told twice after a lost acknowledgement */
    for (int i = 0; i < 3; i++)
        assert_true(inbox_next_row(inbox, &row));
    assert_true(inbox_fill_row(inbox, 1, SLICE_LITERAL("one")));
    inbox_ask_again(inbox);
    assert_true(inbox_next_row(inbox, &row));
    assert_int_equal(row, 2);
    assert_true(inbox_fill_row(inbox, 2, SLICE_LITERAL("two")));
    assert_true(inbox_next_row(inbox, &row));
    assert_true(inbox_fill_row(inbox, 2, SLICE_LITERAL("two")));
    assert_false(inbox_fill_row(inbox, 2, SLICE_LITERAL("two")));
    assert_int_equal(inbox_count(inbox), 3);
    inbox_free(inbox);
}

static void is_bounded(void **state)
{
    struct inbox *inbox = inbox_make(3, 10);
    (void)state;
    inbox_append(inbox, SLICE_LITERAL("123456789"));
    assert_false(inbox_is_full(inbox));
    inbox_append(inbox, SLICE_LITERAL("0"));
    assert_true(inbox_is_full(inbox));
    inbox_pop(inbox);
    assert_false(inbox_is_full(inbox));
    inbox_append_row(inbox, 1);
    inbox_append_row(inbox, 1);
    assert_true(inbox_is_full(inbox));
    inbox_free(inbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_row_holds_back_what_follows),
        cmocka_unit_test(rows_are_asked_again), cmocka_unit_test(is_bounded)};
    return cmocka_run_group_tests_name("broadcast/inbox", tests, NULL, NULL);
}
