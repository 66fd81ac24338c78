/* The events whose publishers wait for the backbone, without a backbone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/router/acknowledgement.h"

static uint64_t begin(struct certainty *certainty, uint32_t origin, uint64_t ticket, uint64_t deadline)
{
    struct event event = {.ticket = ticket, .origin = origin, .incarnation = 7};
    return certainty_begin(certainty, &event, 0, deadline);
}

static void expect_answer(struct certainty *certainty, uint32_t origin, uint64_t ticket, uint32_t ok)
{
    struct event_acknowledgement answer;
    assert_true(certainty_due(certainty, &answer));
    assert_int_equal(answer.origin, origin);
    assert_int_equal(answer.ticket, ticket);
    assert_int_equal(answer.incarnation, 7);
    assert_int_equal(answer.ok, ok);
    certainty_answered(certainty);
}

static void expect_none(struct certainty *certainty)
{
    struct event_acknowledgement answer;
    assert_false(certainty_due(certainty, &answer));
}

static void test_all_messages(void **state)
{
    struct certainty *certainty = certainty_make(10);
    (void)state;
    uint64_t token = begin(certainty, 1, 100, 50);
    assert_int_not_equal(token, 0);
    for (int i = 0; i < 3; i++)
        certainty_expect(certainty, token);
    for (int i = 0; i < 3; i++)
        assert_false(certainty_done(certainty, token, true));
    expect_none(certainty); /* the router has not said that these were all */
    assert_true(certainty_done(certainty, token, true));
    expect_answer(certainty, 1, 100, 1);
    expect_none(certainty);
    assert_false(certainty_done(certainty, token, true)); /* ended */
    assert_int_equal(certainty_count(certainty), 0);
    certainty_answered(certainty); /* nothing there */
    certainty_free(certainty);
}

static void test_one_of_them_fails(void **state)
{
    struct certainty *certainty = certainty_make(10);
    (void)state;
    uint64_t token = begin(certainty, 1, 100, 50);
    certainty_expect(certainty, token);
    certainty_expect(certainty, token);
    assert_false(certainty_done(certainty, token, false)); /* within the publish of another message */
    assert_false(certainty_done(certainty, token, true));
    assert_true(certainty_done(certainty, token, true));
    expect_answer(certainty, 1, 100, 0);
    certainty_free(certainty);
}

/* Nothing to wait for: the answer is due at once. */
static void test_no_message(void **state)
{
    struct certainty *certainty = certainty_make(10);
    (void)state;
    assert_true(certainty_done(certainty, begin(certainty, 2, 5, 50), true));
    expect_answer(certainty, 2, 5, 1);
    certainty_free(certainty);
}

static void test_any_order(void **state)
{
    struct certainty *certainty = certainty_make(10);
    uint64_t tokens[5];
    (void)state;
    for (uint32_t i = 0; i < 5; i++)
        tokens[i] = begin(certainty, i, 10 + i, 50);
    assert_true(certainty_done(certainty, tokens[3], true));
    assert_true(certainty_done(certainty, tokens[0], false));
    assert_true(certainty_done(certainty, tokens[4], true));
    assert_int_equal(certainty_count(certainty), 5); /* due ones count until they are answered */
    expect_answer(certainty, 3, 13, 1);
    expect_answer(certainty, 0, 10, 0);
    expect_answer(certainty, 4, 14, 1);
    assert_int_equal(certainty_count(certainty), 2);
    certainty_free(certainty); /* with entries left */
}

static void test_bound_and_deadlines(void **state)
{
    struct certainty *certainty = certainty_make(3);
    struct event event = {.ticket = 9, .origin = 1, .incarnation = 7};
    (void)state;
    uint64_t first = begin(certainty, 1, 1, 100);
    begin(certainty, 1, 2, 200);
    uint64_t third = begin(certainty, 1, 3, 300);
    assert_int_equal(certainty_begin(certainty, &event, 99, 400), 0); /* full */
    assert_int_equal(certainty_count(certainty), 3);
    uint64_t fourth = certainty_begin(certainty, &event, 200, 400); /* the first two wait no more */
    assert_int_not_equal(fourth, 0);
    assert_int_equal(certainty_count(certainty), 2);
    certainty_expect(certainty, first); /* of an ended entry: ignored */
    assert_false(certainty_done(certainty, first, true));
    assert_true(certainty_done(certainty, third, true));
    assert_true(certainty_done(certainty, fourth, true));
    expect_answer(certainty, 1, 3, 1);
    expect_answer(certainty, 1, 9, 1);
    expect_none(certainty);
    certainty_free(certainty);
}

static void test_a_worker_goes(void **state)
{
    struct certainty *certainty = certainty_make(10);
    uint64_t tokens[6];
    (void)state;
    for (uint32_t i = 0; i < 6; i++)
        tokens[i] = begin(certainty, i % 2, i, 50);
    certainty_done(certainty, tokens[0], true);
    certainty_done(certainty, tokens[1], true);
    certainty_forget_worker(certainty, 0); /* waiting and due ones */
    assert_int_equal(certainty_count(certainty), 3);
    expect_answer(certainty, 1, 1, 1);
    assert_false(certainty_done(certainty, tokens[2], true));
    assert_true(certainty_done(certainty, tokens[5], true));
    expect_answer(certainty, 1, 5, 1);
    certainty_forget_worker(certainty, 1);
    assert_int_equal(certainty_count(certainty), 0);
    certainty_free(certainty);
    certainty_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_messages),
        cmocka_unit_test(test_one_of_them_fails),
        cmocka_unit_test(test_no_message),
        cmocka_unit_test(test_any_order),
        cmocka_unit_test(test_bound_and_deadlines),
        cmocka_unit_test(test_a_worker_goes),
    };
    return cmocka_run_group_tests_name("certainty", tests, NULL, NULL);
}
