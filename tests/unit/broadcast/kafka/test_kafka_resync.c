/* Other servers' calls for a resync: the first at once, those of the next ten seconds together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "broadcast/kafka/kafka_resync.h"

static unsigned gaps;
static char last_why[512];

static void on_gap(void *context, uint64_t gap_ns, const char *why)
{
    (void)context;
    (void)gap_ns;
    gaps++;
    snprintf(last_why, sizeof last_why, "%s", why);
}

static const struct broadcast_callbacks callbacks = {.gap = on_gap};

static void ask(struct kafka_resync *resync, const char *server, const char *reason)
{
    struct notification notification = {
        .notifier_id = slice_from_string(server), .resync = slice_from_string(reason)};
    kafka_resync_ask(resync, &notification);
}

static void run_ms(struct event_base *base, unsigned ms)
{
    struct timeval time = {ms / 1000, (suseconds_t)(ms % 1000 * 1000)};
    event_base_loopexit(base, &time);
    event_base_dispatch(base);
}

static void test_calls(void **state)
{
    char long_words[2000];
    struct event_base *base = event_base_new();
    struct kafka_resync *resync = kafka_resync_open(base, &callbacks, NULL);
    (void)state;
    assert_non_null(resync);
    ask(resync, "abc", "7 events could not be sent");
    assert_int_equal(gaps, 1);
    assert_string_equal(last_why, "server abc: 7 events could not be sent");
    ask(resync, "def", "one");
    ask(resync, "ghi", "two");
    assert_int_equal(gaps, 1);
    run_ms(base, 10500);
    assert_int_equal(gaps, 2);
    assert_string_equal(last_why, "server def: one");

    /* another server's words are bounded, and one that waits is forgotten at the close */
    memset(long_words, 'x', sizeof long_words - 1);
    long_words[sizeof long_words - 1] = '\0';
    ask(resync, long_words, long_words);
    kafka_resync_close(resync);
    resync = kafka_resync_open(base, &callbacks, NULL);
    ask(resync, long_words, long_words);
    assert_int_equal(gaps, 3);
    assert_int_equal(strlen(last_why), strlen("server : ") + 400);
    kafka_resync_close(resync);
    kafka_resync_close(NULL);
    event_base_free(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_calls)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
