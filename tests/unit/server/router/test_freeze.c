/* Which publishes are dropped in a gap, and what the log says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "server/router/freeze.h"

static struct config config_on(void)
{
    return (struct config){.broadcast.uri = "redis://h",
        .broadcast.freeze_on_disconnect = true,
        .broadcast.resync_on_reconnect = true,
        .broadcast.reconnect_enabled = true,
        .broadcast.keepalive_topic = "alive"};
}

static bool drops(struct freeze *freeze, uint32_t flags, unsigned count, const struct slice *topics)
{
    static char body[4096] __attribute__((aligned(8)));
    struct ring_event event = {.flags = flags, .topic_count = count, .data = SLICE_LITERAL("null")};
    uint32_t size = ring_event_encoded_size(topics, count, event.data);
    assert_true(size <= sizeof body);
    ring_event_encode(body, &event, topics);
    assert_true(ring_event_decode(body, size, &event));
    return freeze_drops(freeze, &event);
}

static bool drops_topic(struct freeze *freeze, const char *topic)
{
    struct slice topics[] = {slice_from_string(topic)};
    return drops(freeze, RING_EVENT_SERVER_SIDE, 1, topics);
}

static char *log_of(enum log_level level, void (*act)(void))
{
    int saved = dup(STDERR_FILENO);
    int file = memfd_create("log", MFD_CLOEXEC);
    dup2(file, STDERR_FILENO);
    log_configure(&(struct log_settings){.level = level});
    act();
    dup2(saved, STDERR_FILENO);
    close(saved);
    off_t size = lseek(file, 0, SEEK_END);
    char *log = memory_allocate((size_t)size + 1);
    assert_int_equal(pread(file, log, (size_t)size, 0), size);
    close(file);
    log_configure(&(struct log_settings){.level = LOG_CRITICAL});
    return log;
}

static void test_what_is_dropped(void **state)
{
    struct config config = config_on();
    struct freeze freeze;
    (void)state;
    log_configure(&(struct log_settings){.level = LOG_CRITICAL});
    freeze_init(&freeze, &config);
    assert_false(drops_topic(&freeze, "t"));
    freeze_set_gap(&freeze, true);
    assert_true(drops_topic(&freeze, "t"));
    assert_true(drops_topic(&freeze, ""));
    assert_true(drops_topic(&freeze, "_"));
    assert_true(drops_topic(&freeze, "webhooks"));
    assert_false(drops_topic(&freeze, "__opal_stats_add"));
    assert_false(drops_topic(&freeze, "webhook"));
    assert_false(drops_topic(&freeze, "alive"));
    struct slice mixed[] = {SLICE_LITERAL("__a"), SLICE_LITERAL("t")};
    struct slice internal[] = {SLICE_LITERAL("__a"), SLICE_LITERAL("webhook"), SLICE_LITERAL("alive")};
    assert_true(drops(&freeze, RING_EVENT_SERVER_SIDE, 2, mixed));
    assert_false(drops(&freeze, RING_EVENT_SERVER_SIDE, 3, internal));
    assert_true(drops(&freeze, RING_EVENT_SERVER_SIDE | RING_EVENT_WANTS_ACKNOWLEDGEMENT, 2, mixed));
    assert_false(drops(&freeze, 0, 2, mixed)); /* by a client over its websocket */
    freeze_set_gap(&freeze, false);
    assert_false(drops_topic(&freeze, "t"));
}

static void test_when_it_is_off(void **state)
{
    (void)state;
    for (int which = 0; which < 4; which++) {
        struct config config = config_on();
        struct freeze freeze;
        config.broadcast.freeze_on_disconnect = which != 0;
        config.broadcast.resync_on_reconnect = which != 1;
        config.broadcast.reconnect_enabled = which != 2;
        if (which == 3)
            config.broadcast.uri = NULL;
        freeze_init(&freeze, &config);
        freeze_set_gap(&freeze, true);
        assert_false(drops_topic(&freeze, "t"));
    }
}

static void two_gaps(void)
{
    struct config config = config_on();
    struct freeze freeze;
    freeze_init(&freeze, &config);
    freeze_set_gap(&freeze, true);
    drops_topic(&freeze, "it's");
    drops_topic(&freeze, "second");
    drops_topic(&freeze, "__internal"); /* passes, and says nothing of a recovery */
    freeze_set_gap(&freeze, false);
    freeze_set_gap(&freeze, true); /* nothing was published in between */
    drops_topic(&freeze, "third");
    freeze_set_gap(&freeze, false);
    drops_topic(&freeze, "t");
    drops_topic(&freeze, "t");
}

static unsigned count_of(const char *log, const char *what)
{
    unsigned count = 0;
    for (const char *at = log; (at = strstr(at, what)); at += strlen(what))
        count++;
    return count;
}

static void test_log(void **state)
{
    (void)state;
    char *log = log_of(LOG_WARNING, two_gaps);
    assert_int_equal(count_of(log, "\n"), 4);
    const char *first = strstr(log,
        "Broadcaster backbone gap; freezing publish to preserve fleet consistency (not delivered to clients; "
        "reconciled via resync on reconnect). topics=[\"it's\"] (suppressed 1 so far this gap)");
    const char *two = strstr(log, "Backbone recovered; froze 2 publish(es) during the gap");
    const char *third = strstr(log, "topics=['third'] (suppressed 1 so far this gap)");
    const char *one = strstr(log, "Backbone recovered; froze 1 publish(es) during the gap");
    assert_true(first && two && third && one);
    assert_true(first < two && two < third && third < one);
    free(log);
    log = log_of(LOG_DEBUG, two_gaps);
    assert_int_equal(count_of(log, "\n"), 5);
    assert_non_null(strstr(log, "topics=['second'] (suppressed 2 so far this gap)"));
    free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_dropped),
        cmocka_unit_test(test_when_it_is_off),
        cmocka_unit_test(test_log),
    };
    return cmocka_run_group_tests_name("freeze", tests, NULL, NULL);
}
