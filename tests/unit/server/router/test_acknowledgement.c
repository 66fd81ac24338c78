/* The events whose publishers wait for the backbone, without a backbone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/router/acknowledgement.h"

static uint64_t begin(
    struct acknowledgements *acknowledgements, uint32_t origin, uint64_t ticket, uint64_t deadline)
{
    struct ring_event event = {.ticket = ticket, .origin = origin, .incarnation = 7};
    return acknowledgement_begin(acknowledgements, &event, 0, deadline);
}

static void expect_answer(
    struct acknowledgements *acknowledgements, uint32_t origin, uint64_t ticket, uint32_t ok)
{
    struct ring_acknowledgement answer;
    assert_true(acknowledgement_due(acknowledgements, &answer));
    assert_int_equal(answer.origin, origin);
    assert_int_equal(answer.ticket, ticket);
    assert_int_equal(answer.incarnation, 7);
    assert_int_equal(answer.ok, ok);
    acknowledgement_answered(acknowledgements);
}

static void expect_none(struct acknowledgements *acknowledgements)
{
    struct ring_acknowledgement answer;
    assert_false(acknowledgement_due(acknowledgements, &answer));
}

static void test_all_messages(void **state)
{
    struct acknowledgements *acknowledgements = acknowledgement_make(10);
    (void)state;
    uint64_t token = begin(acknowledgements, 1, 100, 50);
    assert_int_not_equal(token, 0);
    for (int i = 0; i < 3; i++)
        acknowledgement_expect(acknowledgements, token);
    for (int i = 0; i < 3; i++)
        assert_false(acknowledgement_done(acknowledgements, token, true));
    expect_none(acknowledgements); /* the router has not said that these were all */
    assert_true(acknowledgement_done(acknowledgements, token, true));
    expect_answer(acknowledgements, 1, 100, 1);
    expect_none(acknowledgements);
    assert_false(acknowledgement_done(acknowledgements, token, true)); /* ended */
    assert_int_equal(acknowledgement_count(acknowledgements), 0);
    acknowledgement_answered(acknowledgements); /* nothing there */
    acknowledgement_free(acknowledgements);
}

static void test_one_of_them_fails(void **state)
{
    struct acknowledgements *acknowledgements = acknowledgement_make(10);
    (void)state;
    uint64_t token = begin(acknowledgements, 1, 100, 50);
    acknowledgement_expect(acknowledgements, token);
    acknowledgement_expect(acknowledgements, token);
    assert_false(
        acknowledgement_done(acknowledgements, token, false)); /* within the publish of another message */
    assert_false(acknowledgement_done(acknowledgements, token, true));
    assert_true(acknowledgement_done(acknowledgements, token, true));
    expect_answer(acknowledgements, 1, 100, 0);
    acknowledgement_free(acknowledgements);
}

/* Nothing to wait for: the answer is due at once. */
static void test_no_message(void **state)
{
    struct acknowledgements *acknowledgements = acknowledgement_make(10);
    (void)state;
    assert_true(acknowledgement_done(acknowledgements, begin(acknowledgements, 2, 5, 50), true));
    expect_answer(acknowledgements, 2, 5, 1);
    acknowledgement_free(acknowledgements);
}

static void test_any_order(void **state)
{
    struct acknowledgements *acknowledgements = acknowledgement_make(10);
    uint64_t tokens[5];
    (void)state;
    for (uint32_t i = 0; i < 5; i++)
        tokens[i] = begin(acknowledgements, i, 10 + i, 50);
    assert_true(acknowledgement_done(acknowledgements, tokens[3], true));
    assert_true(acknowledgement_done(acknowledgements, tokens[0], false));
    assert_true(acknowledgement_done(acknowledgements, tokens[4], true));
    assert_int_equal(acknowledgement_count(acknowledgements), 5); /* due ones count until they are answered */
    expect_answer(acknowledgements, 3, 13, 1);
    expect_answer(acknowledgements, 0, 10, 0);
    expect_answer(acknowledgements, 4, 14, 1);
    assert_int_equal(acknowledgement_count(acknowledgements), 2);
    acknowledgement_free(acknowledgements); /* with entries left */
}

static void test_bound_and_deadlines(void **state)
{
    struct acknowledgements *acknowledgements = acknowledgement_make(3);
    struct ring_event event = {.ticket = 9, .origin = 1, .incarnation = 7};
    (void)state;
    uint64_t first = begin(acknowledgements, 1, 1, 100);
    begin(acknowledgements, 1, 2, 200);
    uint64_t third = begin(acknowledgements, 1, 3, 300);
    assert_int_equal(acknowledgement_begin(acknowledgements, &event, 99, 400), 0); /* full */
    assert_int_equal(acknowledgement_count(acknowledgements), 3);
    uint64_t fourth =
        acknowledgement_begin(acknowledgements, &event, 200, 400); /* the first two wait no more */
    assert_int_not_equal(fourth, 0);
    assert_int_equal(acknowledgement_count(acknowledgements), 2);
    acknowledgement_expect(acknowledgements, first); /* of an ended entry: ignored */
    assert_false(acknowledgement_done(acknowledgements, first, true));
    assert_true(acknowledgement_done(acknowledgements, third, true));
    assert_true(acknowledgement_done(acknowledgements, fourth, true));
    expect_answer(acknowledgements, 1, 3, 1);
    expect_answer(acknowledgements, 1, 9, 1);
    expect_none(acknowledgements);
    acknowledgement_free(acknowledgements);
}

static void test_a_worker_goes(void **state)
{
    struct acknowledgements *acknowledgements = acknowledgement_make(10);
    uint64_t tokens[6];
    (void)state;
    for (uint32_t i = 0; i < 6; i++)
        tokens[i] = begin(acknowledgements, i % 2, i, 50);
    acknowledgement_done(acknowledgements, tokens[0], true);
    acknowledgement_done(acknowledgements, tokens[1], true);
    acknowledgement_forget_worker(acknowledgements, 0); /* waiting and due ones */
    assert_int_equal(acknowledgement_count(acknowledgements), 3);
    expect_answer(acknowledgements, 1, 1, 1);
    assert_false(acknowledgement_done(acknowledgements, tokens[2], true));
    assert_true(acknowledgement_done(acknowledgements, tokens[5], true));
    expect_answer(acknowledgements, 1, 5, 1);
    acknowledgement_forget_worker(acknowledgements, 1);
    assert_int_equal(acknowledgement_count(acknowledgements), 0);
    acknowledgement_free(acknowledgements);
    acknowledgement_free(NULL);
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
    return cmocka_run_group_tests_name("acknowledgement", tests, NULL, NULL);
}
