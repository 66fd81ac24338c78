/* The statistics' state: who depends on whom, limits, and what other servers tell. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shm/common/clock.h"
#include "server/statistics/statistics_document.h"

#define SECOND CLOCK_SECOND

static const struct statistics_owner own_worker = {.slot = 0};

static struct statistics_owner other(const char *source)
{
    return (struct statistics_owner){-1, slice_from_string(source)};
}

static struct statistics *make(size_t bytes_max)
{
    const struct statistics_settings settings = {
        .max_bytes = bytes_max, .max_channels = 2, .keepalive_timeout = 20};
    return statistics_make(&settings);
}

static enum statistics_verdict add(
    struct statistics *statistics, const char *client, const char *rpc, struct statistics_owner owner)
{
    char data[256];
    snprintf(data, sizeof data,
        "{\"client_id\":\"%s\",\"topics\":[\"a\", \"\\u00e9\"],\"rpc_id\":\"%s\",\"x\":1}", client, rpc);
    return statistics_add(statistics, slice_from_string(data), owner, clock_monotonic_ns(), NULL);
}

static void expect(const struct statistics *statistics, const char *wanted)
{
    struct text out = {0};
    text_append_string(&out, "");
    statistics_write_clients(statistics, &out);
    assert_string_equal(out.data ? out.data : "", wanted);
    assert_in_range(
        statistics_shown_bytes(statistics), out.length, out.length + 1 + statistics_servers(statistics) * 40);
    text_free(&out);
}

#define CHANNEL(client, rpc) \
    "{\"rpc_id\":\"" rpc "\",\"client_id\":\"" client "\",\"topics\":[\"a\",\"\xc3\xa9\"]}"

static void test_add_and_remove(void **state)
{
    (void)state;
    struct statistics *statistics = make(100000);
    expect(statistics, "");
    assert_int_equal(add(statistics, "c", "1", own_worker), STATISTICS_TAKEN);
    assert_int_equal(add(statistics, "b", "2", own_worker), STATISTICS_TAKEN);
    assert_int_equal(add(statistics, "c", "3", own_worker), STATISTICS_TAKEN);
    assert_int_equal(add(statistics, "c", "4", own_worker), STATISTICS_TOO_MANY);
    expect(statistics, "\"c\":[" CHANNEL("c", "1") "," CHANNEL("c", "3") "],\"b\":[" CHANNEL("b", "2") "]");
    /* the same again is the same; under another client it moves */
    assert_int_equal(add(statistics, "c", "1", own_worker), STATISTICS_TAKEN);
    assert_int_equal(add(statistics, "d", "1", own_worker), STATISTICS_TAKEN);
    expect(statistics,
        "\"c\":[" CHANNEL("c", "3") "],\"b\":[" CHANNEL("b", "2") "],\"d\":[" CHANNEL("d", "1") "]");
    uint64_t version = statistics_version(statistics);
    assert_false(statistics_remove(statistics, SLICE_LITERAL("9")));
    assert_int_equal(statistics_version(statistics), version);
    assert_true(statistics_remove(statistics, SLICE_LITERAL("3")));
    assert_true(statistics_remove(statistics, SLICE_LITERAL("1")));
    assert_int_not_equal(statistics_version(statistics), version);
    expect(statistics, "\"b\":[" CHANNEL("b", "2") "]");
    assert_int_equal(statistics_clients(statistics), 1);
    assert_int_equal(statistics_channels(statistics), 1);
    statistics_free(statistics);
}

static void test_nonsense(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "null", "[]", "\"x\"", "{}",
        "{\"client_id\":\"c\",\"rpc_id\":\"r\"}", "{\"client_id\":\"c\",\"rpc_id\":\"r\",\"topics\":null}",
        "{\"client_id\":\"c\",\"rpc_id\":\"r\",\"topics\":[1]}",
        "{\"client_id\":5,\"rpc_id\":\"r\",\"topics\":[]}",
        "{\"client_id\":\"c\",\"rpc_id\":{},\"topics\":[]}"};
    struct statistics *statistics = make(100000);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(
            statistics_add(statistics, slice_from_string(bad[i]), own_worker, clock_monotonic_ns(), NULL),
            STATISTICS_INVALID);
    char name[1200];
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    struct text data = {0};
    text_append_format(&data, "{\"client_id\":\"c\",\"topics\":[],\"rpc_id\":\"%s\"}", name);
    assert_int_equal(statistics_add(statistics, text_slice(&data), own_worker, clock_monotonic_ns(), NULL),
        STATISTICS_INVALID);
    text_free(&data);
    assert_int_equal(statistics_channels(statistics), 0);
    statistics_free(statistics);
}

static void test_bounded(void **state)
{
    (void)state;
    struct statistics *statistics = make(2000);
    unsigned taken = 0;
    char name[16];
    for (unsigned i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "%u", i);
        taken += add(statistics, name, name, own_worker) == STATISTICS_TAKEN;
    }
    assert_in_range(taken, 1, 20);
    assert_int_equal(statistics_channels(statistics), taken);
    /* what was given back can be used again */
    assert_true(statistics_remove(statistics, SLICE_LITERAL("0")));
    assert_int_equal(add(statistics, "n", "n", own_worker), STATISTICS_TAKEN);
    assert_int_equal(add(statistics, "m", "m", own_worker), STATISTICS_FULL);
    statistics_free(statistics);
}

/* What is announced again counts with what it has now. */
static void test_bounded_again(void **state)
{
    (void)state;
    struct statistics *statistics = make(2000);
    struct text large = {0};
    assert_int_equal(add(statistics, "c", "1", own_worker), STATISTICS_TAKEN);
    text_append_string(&large, "{\"client_id\":\"c\",\"rpc_id\":\"1\",\"topics\":[\"");
    for (unsigned i = 0; i < 3000; i++)
        text_append_char(&large, 'x');
    text_append_string(&large, "\"]}");
    assert_int_equal(statistics_add(statistics, text_slice(&large), own_worker, clock_monotonic_ns(), NULL),
        STATISTICS_FULL);
    expect(statistics, "\"c\":[" CHANNEL("c", "1") "]");
    assert_int_equal(add(statistics, "c", "1", own_worker), STATISTICS_TAKEN);
    text_free(&large);
    statistics_free(statistics);
}

static void collect(void *context, struct slice rpc_id)
{
    text_append_slice(context, rpc_id);
    text_append_char(context, ' ');
}

static void test_worker_gone(void **state)
{
    (void)state;
    struct statistics *statistics = make(100000);
    struct text dropped = {0};
    (void)!add(statistics, "c", "1", own_worker);
    (void)!add(statistics, "c", "2", (struct statistics_owner){.slot = 1});
    (void)!add(statistics, "d", "3", own_worker);
    (void)!add(statistics, "e", "4", other("s"));
    statistics_drop_worker(statistics, 0, collect, &dropped);
    assert_string_equal(dropped.data, "1 3 ");
    expect(statistics, "\"c\":[" CHANNEL("c", "2") "],\"e\":[" CHANNEL("e", "4") "]");
    statistics_forget_others(statistics);
    expect(statistics, "\"c\":[" CHANNEL("c", "2") "]");
    text_free(&dropped);
    statistics_free(statistics);
}

static void test_server_gone(void **state)
{
    (void)state;
    struct statistics *statistics = make(100000);
    uint64_t now = clock_monotonic_ns();
    struct text out = {0};
    (void)!add(statistics, "c", "1", own_worker);
    (void)!add(statistics, "c", "2", other("s"));
    (void)!add(statistics, "d", "3", other("t"));
    assert_false(statistics_server_seen(statistics, SLICE_LITERAL("ws"), SLICE_LITERAL("s"), now));
    assert_false(
        statistics_server_seen(statistics, SLICE_LITERAL("wt"), SLICE_LITERAL("t"), now + 15 * SECOND));
    statistics_write_servers(statistics, true, &out);
    assert_string_equal(out.data, ",\"ws\",\"wt\"");
    statistics_expire(statistics, now + 19 * SECOND);
    assert_int_equal(statistics_channels(statistics), 3);
    statistics_expire(statistics, now + 21 * SECOND);
    expect(statistics, "\"c\":[" CHANNEL("c", "1") "],\"d\":[" CHANNEL("d", "3") "]");
    assert_int_equal(statistics_servers(statistics), 1);
    /* it only slept */
    assert_true(
        statistics_server_seen(statistics, SLICE_LITERAL("ws"), SLICE_LITERAL("s"), now + 22 * SECOND));
    assert_false(
        statistics_server_seen(statistics, SLICE_LITERAL("ws"), SLICE_LITERAL("s"), now + 23 * SECOND));
    statistics_expire(statistics, now + 4000 * SECOND);
    expect(statistics, "\"c\":[" CHANNEL("c", "1") "]");
    assert_int_equal(statistics_servers(statistics), 0);
    text_free(&out);
    statistics_free(statistics);
}

struct parts {
    struct text items[8];
    unsigned count;
};

static void take_part(void *context, struct slice data)
{
    struct parts *parts = context;
    assert_true(parts->count < 8);
    text_append_slice(&parts->items[parts->count++], data);
}

static void test_state_between_servers(void **state)
{
    (void)state;
    struct statistics *here = make(100000), *there = make(100000);
    struct parts parts = {0};
    struct text requester = {0};
    uint64_t now = clock_monotonic_ns();
    (void)!add(here, "c", "1", own_worker);
    (void)!add(here, "d", "2", other("third"));
    (void)!add(here, "d", "3", other("there"));
    assert_int_equal(
        statistics_write_state(here, SLICE_LITERAL("q"), SLICE_LITERAL("here"), 250, take_part, &parts), 0);
    assert_int_equal(parts.count, 2);
    (void)!add(there, "d", "3", own_worker);
    for (unsigned i = 0; i < parts.count; i++) {
        assert_in_range(parts.items[i].length, 1, 250);
        text_clear(&requester);
        assert_int_equal(
            statistics_merge(there, text_slice(&parts.items[i]), SLICE_LITERAL("there"), now, &requester), 0);
        assert_true(slice_equals_string(text_slice(&requester), "q"));
        text_free(&parts.items[i]);
    }
    assert_int_equal(statistics_channels(there), 3);
    /* each goes with its server */
    statistics_server_seen(there, SLICE_LITERAL("w"), SLICE_LITERAL("third"), now + 15 * SECOND);
    statistics_expire(there, now + 21 * SECOND);
    expect(there, "\"d\":[" CHANNEL("d", "3") "," CHANNEL("d", "2") "]");
    statistics_expire(there, now + 40 * SECOND);
    expect(there, "\"d\":[" CHANNEL("d", "3") "]");
    text_free(&requester);
    statistics_free(here);
    statistics_free(there);
}

/* One client's channels may be more than a message can hold (and than the ring takes), and one channel
 * alone as well. */
static void test_state_in_small_parts(void **state)
{
    (void)state;
    struct statistics *statistics = make(100000);
    struct parts parts = {0};
    struct text large = {0};
    (void)!add(statistics, "c", "1", own_worker);
    (void)!add(statistics, "c", "2", own_worker);
    text_append_string(&large, "{\"client_id\":\"d\",\"rpc_id\":\"3\",\"topics\":[\"");
    for (unsigned i = 0; i < 3000; i++)
        text_append_char(&large, 'x');
    text_append_string(&large, "\"]}");
    assert_int_equal(statistics_add(statistics, text_slice(&large), own_worker, clock_monotonic_ns(), NULL),
        STATISTICS_TAKEN);
    (void)!add(statistics, "e", "4", own_worker);
    assert_int_equal(
        statistics_write_state(statistics, SLICE_LITERAL("q"), (struct slice){0}, 180, take_part, &parts), 1);
    assert_int_equal(parts.count, 3);
    assert_string_equal(parts.items[0].data, "{\"requesting_worker_id\":\"q\",\"clients\":{\"c\":[" CHANNEL(
                                                 "c", "1") "]},"
                                                           "\"rpc_id_to_client_id\":{\"1\":\"c\"}}");
    assert_string_equal(parts.items[1].data, "{\"requesting_worker_id\":\"q\",\"clients\":{\"c\":[" CHANNEL(
                                                 "c", "2") "]},"
                                                           "\"rpc_id_to_client_id\":{\"2\":\"c\"}}");
    for (unsigned i = 0; i < parts.count; i++)
        text_free(&parts.items[i]);
    parts.count = 0;
    assert_int_equal(
        statistics_write_state(statistics, SLICE_LITERAL("q"), (struct slice){0}, 100000, take_part, &parts),
        0);
    assert_int_equal(parts.count, 1);
    text_free(&parts.items[0]);
    text_free(&large);
    statistics_free(statistics);
}

/* The reference says nothing of owners. */
static void test_state_of_the_reference(void **state)
{
    (void)state;
    static const char said[] =
        "{\"requesting_worker_id\": \"q\", \"clients\": {\"c\": [{\"rpc_id\": \"1\", \"client_id\": \"c\", "
        "\"topics\": [\"a\", "
        "\"\\u00e9\"]}, 5, {\"rpc_id\": 7}], \"x\": null}, \"rpc_id_to_client_id\": {\"1\": \"c\"}}";
    static const char *const bad[] = {"5", "{}", "{\"requesting_worker_id\":\"q\"}",
        "{\"requesting_worker_id\":\"q\",\"clients\":[]}", "{\"requesting_worker_id\":1,\"clients\":{}}"};
    struct statistics *statistics = make(100000);
    struct text requester = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(
            statistics_merge(statistics, slice_from_string(bad[i]), SLICE_LITERAL("me"), 1, &requester), -1);
    assert_int_equal(
        statistics_merge(statistics, SLICE_LITERAL(said), SLICE_LITERAL("me"), 1, &requester), 0);
    expect(statistics, "\"c\":[" CHANNEL("c", "1") "]");
    statistics_expire(statistics, 100 * SECOND);
    assert_int_equal(statistics_channels(statistics), 1);
    assert_true(statistics_remove(statistics, SLICE_LITERAL("1")));
    text_free(&requester);
    statistics_free(statistics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_add_and_remove), cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_bounded), cmocka_unit_test(test_worker_gone),
        cmocka_unit_test(test_bounded_again), cmocka_unit_test(test_state_in_small_parts),
        cmocka_unit_test(test_server_gone), cmocka_unit_test(test_state_between_servers),
        cmocka_unit_test(test_state_of_the_reference)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
