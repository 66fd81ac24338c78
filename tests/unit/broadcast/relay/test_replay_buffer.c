#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "broadcast/relay/replay_buffer.h"

static size_t append(struct replay_buffer *buffer, const char *message)
{
    size_t dropped;
    assert_true(replay_buffer_append(buffer, slice_from_string(message), false, &dropped));
    return dropped;
}

static void append_control(struct replay_buffer *buffer, const char *message)
{
    size_t dropped;
    assert_true(replay_buffer_append(buffer, slice_from_string(message), true, &dropped));
    assert_int_equal(dropped, 0);
}

static void expect_next(struct replay_buffer *buffer, const char *wanted)
{
    struct slice message;
    if (!wanted) {
        assert_false(replay_buffer_next(buffer, false, &message));
        return;
    }
    assert_true(replay_buffer_next(buffer, false, &message));
    assert_true(slice_equals_string(message, wanted));
}

static void send_next(struct replay_buffer *buffer, const char *wanted)
{
    expect_next(buffer, wanted);
    replay_buffer_sent(buffer);
}

static void done(struct replay_buffer *buffer, bool is_control)
{
    bool control;
    assert_true(replay_buffer_done(buffer, &control));
    assert_int_equal(control, is_control);
}

static void keeps_order(void **state)
{
    struct replay_buffer *buffer = replay_buffer_make(10, 1000);
    struct slice message;
    bool control;
    (void)state;
    expect_next(buffer, NULL);
    assert_false(replay_buffer_done(buffer, &control));
    append(buffer, "a");
    append(buffer, "b");
    append(buffer, "c");
    send_next(buffer, "a");
    send_next(buffer, "b");
    assert_int_equal(replay_buffer_in_flight(buffer), 2);
    assert_int_equal(replay_buffer_in_flight_bytes(buffer), 2);
    assert_true(replay_buffer_oldest_in_flight(buffer, &message));
    assert_true(slice_equals_string(message, "a"));
    done(buffer, false);
    send_next(buffer, "c");
    expect_next(buffer, NULL);
    done(buffer, false);
    done(buffer, false);
    assert_false(replay_buffer_done(buffer, &control));
    assert_false(replay_buffer_oldest_in_flight(buffer, &message));
    assert_int_equal(replay_buffer_count(buffer), 0);
    assert_int_equal(replay_buffer_bytes(buffer), 0);
    append(buffer, "d");
    send_next(buffer, "d");
    replay_buffer_free(buffer);
}

static void rewinds_what_is_in_flight(void **state)
{
    struct replay_buffer *buffer = replay_buffer_make(10, 1000);
    (void)state;
    append(buffer, "a");
    send_next(buffer, "a");
    append_control(buffer, "heartbeat 1");
    append(buffer, "b");
    append(buffer, "c");
    send_next(buffer, "heartbeat 1");
    append_control(buffer, "heartbeat 2");
    assert_int_equal(replay_buffer_count(buffer), 3);
    send_next(buffer, "heartbeat 2");
    send_next(buffer, "b");
    append_control(buffer, "heartbeat 3");
    done(buffer, false);
    replay_buffer_rewind(buffer);
    assert_int_equal(replay_buffer_in_flight(buffer), 0);
    assert_int_equal(replay_buffer_bytes(buffer), 2);
    send_next(buffer, "b");
    send_next(buffer, "c");
    expect_next(buffer, NULL);
    append(buffer, "d"); /* the end of the list is right after the last was removed */
    send_next(buffer, "d");
    assert_int_equal(replay_buffer_clear(buffer), 3);
    expect_next(buffer, NULL);
    replay_buffer_free(buffer);
}

static void control_goes_first(void **state)
{
    struct replay_buffer *buffer = replay_buffer_make(10, 1000);
    struct slice message;
    (void)state;
    append_control(buffer, "first");
    append(buffer, "a");
    append(buffer, "b");
    send_next(buffer, "first");
    assert_false(replay_buffer_next(buffer, true, &message)); /* an event waits, no control message */
    send_next(buffer, "a");
    append_control(buffer, "second");
    assert_true(replay_buffer_next(buffer, true, &message));
    assert_true(slice_equals_string(message, "second"));
    send_next(buffer, "second");
    send_next(buffer, "b");
    append(buffer, "c"); /* the end of the list is where it was */
    send_next(buffer, "c");
    done(buffer, true);
    done(buffer, false);
    done(buffer, true);
    done(buffer, false);
    done(buffer, false);
    replay_buffer_free(buffer);
}

static void counts_are_bounded(void **state)
{
    struct replay_buffer *buffer = replay_buffer_make(3, 1000);
    size_t dropped;
    (void)state;
    assert_int_equal(append(buffer, "a") + append(buffer, "b") + append(buffer, "c"), 0);
    assert_int_equal(append(buffer, "d"), 1);
    expect_next(buffer, "b");
    replay_buffer_sent(buffer);
    assert_int_equal(append(buffer, "e"), 1); /* not b, which is in flight: c */
    done(buffer, false);
    send_next(buffer, "d");
    send_next(buffer, "e");
    append(buffer, "f");
    send_next(buffer, "f");
    assert_false(
        replay_buffer_append(buffer, SLICE_LITERAL("g"), false, &dropped)); /* all three are in flight */
    assert_int_equal(dropped, 0);
    assert_int_equal(replay_buffer_count(buffer), 3);
    append_control(buffer, "heartbeat"); /* always has room */
    replay_buffer_free(buffer);
}

static void bytes_are_bounded(void **state)
{
    struct replay_buffer *buffer = replay_buffer_make(100, 10);
    size_t dropped;
    (void)state;
    append(buffer, "aaaa");
    append(buffer, "bbbb");
    assert_int_equal(append(buffer, "cc"), 0);
    assert_int_equal(append(buffer, "dddddd"), 2); /* a and b */
    expect_next(buffer, "cc");
    assert_false(replay_buffer_append(buffer, SLICE_LITERAL("eleven byte"), false, &dropped));
    assert_int_equal(replay_buffer_count(buffer), 2); /* nothing was dropped in vain */
    replay_buffer_sent(buffer);
    assert_false(replay_buffer_append(buffer, SLICE_LITERAL("nine byte"), false, &dropped));
    assert_int_equal(append(buffer, "eight by"), 1);
    assert_int_equal(replay_buffer_bytes(buffer), 10);
    replay_buffer_free(buffer);
}

static void a_lower_bound_keeps_what_is_there(void **state)
{
    struct replay_buffer *buffer = replay_buffer_make(100, 1000);
    size_t dropped;
    (void)state;
    for (int i = 0; i < 5; i++)
        append(buffer, "x");
    replay_buffer_limit(buffer, 2, 1000);
    assert_int_equal(replay_buffer_count(buffer), 5);
    assert_int_equal(append(buffer, "y"), 4);
    assert_int_equal(replay_buffer_count(buffer), 2);
    replay_buffer_limit(buffer, 0, 1000);
    assert_false(replay_buffer_append(buffer, SLICE_LITERAL("z"), false, &dropped));
    replay_buffer_free(buffer);
}

/* Random operations against a plain model. */
static void agrees_with_a_model(void **state)
{
    enum { MODEL = 64 };
    struct replay_buffer *buffer = replay_buffer_make(20, 100000);
    int model[MODEL];
    int count = 0;
    int in_flight = 0;
    int next = 0;
    (void)state;
    srand(7);
    for (int step = 0; step < 200000; step++) {
        char text[16];
        size_t dropped;
        switch (rand() % 5) {
        case 0:
        case 1:
            snprintf(text, sizeof text, "%d", next);
            if (in_flight == 20) {
                assert_false(replay_buffer_append(buffer, slice_from_string(text), false, &dropped));
                break;
            }
            assert_int_equal(append(buffer, text), count == 20);
            if (count == 20) {
                memmove(model + in_flight, model + in_flight + 1,
                    (size_t)(count - in_flight - 1) * sizeof *model);
                count--;
            }
            model[count++] = next++;
            break;
        case 2:
            if (in_flight == count) {
                expect_next(buffer, NULL);
                break;
            }
            snprintf(text, sizeof text, "%d", model[in_flight++]);
            send_next(buffer, text);
            break;
        case 3:
            if (!in_flight)
                break;
            done(buffer, false);
            memmove(model, model + 1, (size_t)(--count) * sizeof *model);
            in_flight--;
            break;
        default:
            if (rand() % 10 == 0) {
                replay_buffer_rewind(buffer);
                in_flight = 0;
            }
        }
        assert_int_equal(replay_buffer_count(buffer), count);
        assert_int_equal(replay_buffer_in_flight(buffer), in_flight);
    }
    replay_buffer_free(buffer);
}

static void on_dropped(void *context, uint64_t token)
{
    struct text *told = context;
    text_append_format(told, "%llu ", (unsigned long long)token);
}

static void expect_told(struct text *told, const char *wanted)
{
    assert_string_equal(told->data ? told->data : "", wanted);
    text_clear(told);
}

/* Tokens stay with their messages through replays, and those of dropped ones are told. */
static void carries_tokens(void **state)
{
    struct replay_buffer *buffer = replay_buffer_make(4, 1000);
    struct text told = {0};
    (void)state;
    replay_buffer_set_token(buffer, 1); /* nothing there */
    replay_buffer_on_dropped(buffer, on_dropped, &told);
    assert_int_equal(replay_buffer_token_in_flight(buffer), 0);
    for (uint64_t i = 1; i <= 4; i++) {
        append(buffer, "x");
        replay_buffer_set_token(buffer, i == 2 ? 0 : i);
    }
    append_control(buffer, "heartbeat");
    assert_int_equal(replay_buffer_token_in_flight(buffer), 0); /* none is in flight */
    send_next(buffer, "heartbeat");
    assert_int_equal(replay_buffer_token_in_flight(buffer), 0);
    done(buffer, true);
    send_next(buffer, "x");
    send_next(buffer, "x");
    assert_int_equal(replay_buffer_token_in_flight(buffer), 1);
    done(buffer, false);
    assert_int_equal(replay_buffer_token_in_flight(buffer), 0); /* the second has none */
    done(buffer, false);
    send_next(buffer, "x");
    replay_buffer_rewind(buffer);
    send_next(buffer, "x");
    assert_int_equal(replay_buffer_token_in_flight(buffer), 3);
    append(buffer, "y");
    append(buffer, "y");
    expect_told(&told, "");
    assert_int_equal(append(buffer, "z"), 1);
    replay_buffer_set_token(buffer, 7);
    expect_told(&told, "4 "); /* the third is in flight */
    assert_int_equal(replay_buffer_clear(buffer), 4);
    expect_told(&told, "3 7 ");
    append(buffer, "x");
    replay_buffer_set_token(buffer, 9);
    replay_buffer_free(buffer); /* tells nobody */
    expect_told(&told, "");
    text_free(&told);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(keeps_order),
        cmocka_unit_test(rewinds_what_is_in_flight), cmocka_unit_test(control_goes_first),
        cmocka_unit_test(counts_are_bounded), cmocka_unit_test(bytes_are_bounded),
        cmocka_unit_test(a_lower_bound_keeps_what_is_there), cmocka_unit_test(carries_tokens),
        cmocka_unit_test(agrees_with_a_model)};
    return cmocka_run_group_tests_name("broadcast/replay_buffer", tests, NULL, NULL);
}
