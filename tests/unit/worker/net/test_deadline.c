/* Deadlines: order, restart, clearing from within callbacks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include "shm/common/clock.h"
#include "worker/net/deadline.h"

struct item {
    struct deadline deadline;
    int expired;
    uint64_t at_ns;
    /* set again by the callback */
    enum deadline_class then;
    /* cleared by the callback */
    struct item *clears;
};

struct fixture {
    struct event_base *base;
    struct deadlines *deadlines;
};

static void on_expired(void *context, enum deadline_class which, struct deadline *deadline)
{
    struct fixture *fixture = context;
    struct item *item = (struct item *)(void *)deadline; /* the first member */
    (void)which;
    assert_int_equal(deadline->which, DEADLINE_NONE);
    item->expired++;
    item->at_ns = clock_monotonic_ns();
    if (item->clears)
        deadline_clear(fixture->deadlines, &item->clears->deadline);
    if (item->then != DEADLINE_NONE) {
        enum deadline_class then = item->then;
        item->then = DEADLINE_NONE;
        deadline_set(fixture->deadlines, deadline, then);
    }
}

static void run_for(struct fixture *fixture, int milliseconds)
{
    struct timeval wait = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000};
    event_base_loopexit(fixture->base, &wait);
    event_base_dispatch(fixture->base);
}

static void fixture_open(struct fixture *fixture)
{
    fixture->base = event_base_new();
    fixture->deadlines = deadlines_open(fixture->base, on_expired, fixture);
    deadlines_set_duration(fixture->deadlines, DEADLINE_PING, 0.05);
    deadlines_set_duration(fixture->deadlines, DEADLINE_PONG, 0.15);
    deadlines_set_duration(fixture->deadlines, DEADLINE_LINGER, 100);
}

static void fixture_close(struct fixture *fixture)
{
    deadlines_close(fixture->deadlines);
    event_base_free(fixture->base);
}

static void test_expiry(void **state)
{
    (void)state;
    struct fixture fixture;
    struct item a = {0}, b = {0}, c = {0};
    fixture_open(&fixture);
    uint64_t start = clock_monotonic_ns();
    deadline_set(fixture.deadlines, &c.deadline, DEADLINE_LINGER);
    deadline_set(fixture.deadlines, &b.deadline, DEADLINE_PONG);
    deadline_set(fixture.deadlines, &a.deadline, DEADLINE_PING); /* set last, due first */
    run_for(&fixture, 100);
    assert_int_equal(a.expired, 1);
    assert_int_equal(b.expired, 0);
    assert_true(a.at_ns - start >= 50 * CLOCK_MILLISECOND);
    run_for(&fixture, 120);
    assert_int_equal(b.expired, 1);
    assert_true(b.at_ns - start >= 150 * CLOCK_MILLISECOND);
    assert_int_equal(a.expired, 1);
    assert_int_equal(c.expired, 0);
    deadline_clear(fixture.deadlines, &c.deadline);
    deadline_clear(fixture.deadlines, &c.deadline);
    fixture_close(&fixture);
}

static void test_restart_and_clear(void **state)
{
    (void)state;
    struct fixture fixture;
    struct item a = {0}, b = {0}, c = {0};
    fixture_open(&fixture);
    deadline_set(fixture.deadlines, &a.deadline, DEADLINE_PING);
    deadline_set(fixture.deadlines, &b.deadline, DEADLINE_PING);
    deadline_set(fixture.deadlines, &c.deadline, DEADLINE_PING);
    deadline_clear(fixture.deadlines, &b.deadline); /* from the middle */
    run_for(&fixture, 30);
    deadline_set(fixture.deadlines, &a.deadline, DEADLINE_PING); /* restarted: goes behind c */
    run_for(&fixture, 35);
    assert_int_equal(a.expired, 0);
    assert_int_equal(c.expired, 1);
    run_for(&fixture, 50);
    assert_int_equal(a.expired, 1);
    assert_int_equal(b.expired, 0);
    fixture_close(&fixture);
}

static void test_from_callback(void **state)
{
    (void)state;
    struct fixture fixture;
    struct item a = {0}, b = {0};
    fixture_open(&fixture);
    a.then = DEADLINE_PONG;
    a.clears = &b;
    deadline_set(fixture.deadlines, &a.deadline, DEADLINE_PING);
    deadline_set(fixture.deadlines, &b.deadline, DEADLINE_PING);
    run_for(&fixture, 100);
    assert_int_equal(a.expired, 1);
    assert_int_equal(b.expired, 0);
    assert_int_equal(a.deadline.which, DEADLINE_PONG);
    run_for(&fixture, 150);
    assert_int_equal(a.expired, 2);
    fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_restart_and_clear),
        cmocka_unit_test(test_from_callback),
    };
    return cmocka_run_group_tests_name("deadline", tests, NULL, NULL);
}
