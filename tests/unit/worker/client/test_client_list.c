/* The list of clients: written, merged, and with every length in it wrong. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "worker/client/client_list.h"

static void add(
    struct text *list, const char *host, uint16_t port, uint64_t us, const char *query, const char *topic)
{
    const struct client_row row = {slice_from_string(host), port, us, slice_from_string(query)};
    size_t begun = client_list_begin(list, &row);
    if (topic) {
        client_list_topic(list, begun, slice_from_string(topic));
        client_list_topic(list, begun, slice_from_string("both"));
    }
    client_list_end(list, begun);
}

/* All steps. */
static bool render(const struct slice *lists, size_t count, uint64_t most, size_t step, struct text *out)
{
    struct client_render *made = client_render_begin(lists, count, most);
    enum client_render_state state = CLIENT_RENDER_TOO_LARGE;
    struct slice json;
    while (made && (state = client_render_step(made, step, &json)) == CLIENT_RENDER_MORE)
        ;
    if (state == CLIENT_RENDER_DONE)
        text_append_slice(out, json);
    client_render_free(made);
    return state == CLIENT_RENDER_DONE;
}

static void test_merge(void **state)
{
    (void)state;
    struct text lists[2] = {{0}, {0}}, out = {0};
    add(&lists[0], "127.0.0.1", 5, 7000000, "a=1&a=%3d+&__opal_client_id=m", "t");
    add(&lists[0], "::1", 6, 7120000, "", NULL);
    add(&lists[1], "10.0.0.1", 7, 6000001, "__opal_client_id=x&__opal_client_id=m", "u");
    const struct slice views[2] = {text_slice(&lists[0]), text_slice(&lists[1])};
    assert_true(render(views, 2, 100000, 1, &out));
    assert_string_equal(out.data,
        "{\"host:::1:6\":{\"client_id\":\"host:::1:6\",\"source_host\":\"::1\",\"source_port\":6,\"connect_"
        "time\":7.12,"
        "\"subscribed_topics\":[],\"refcount\":1,\"query_params\":{}},"
        "\"m\":{\"client_id\":\"m\",\"source_host\":\"10.0.0.1\",\"source_port\":7,\"connect_time\":6.000001,"
        "\"subscribed_topics\":[\"u\",\"both\",\"t\"],\"refcount\":2,\"query_params\":{\"__opal_client_id\":"
        "\"m\"}}}");
    text_clear(&out);
    assert_false(render(views, 2, 200, 9, &out));
    assert_int_equal(out.length, 0);
    assert_true(render(views, 0, 200, 9, &out));
    assert_string_equal(out.data, "{}");
    text_free(&lists[0]);
    text_free(&lists[1]);
    text_free(&out);
}

/* A worker gone mad wrote it: refused or read, but never beyond its end (each copy is as long as it says, for
 * the sanitizer). */
static void test_nonsense(void **state)
{
    (void)state;
    struct text list = {0};
    unsigned refused = 0;
    add(&list, "h", 1, 2, "q=1", "topic");
    add(&list, "g", 1, 2, "", "topic");
    for (size_t at = 0; at + 4 <= list.length; at += 4) {
        for (unsigned k = 0; k < 6; k++) {
            static const uint32_t values[] = {0, 1, 8, 0x7fffffff, 0xffffffff, 0xfffffff8};
            char *copy = malloc(list.length);
            struct text out = {0};
            memcpy(copy, list.data, list.length);
            memcpy(copy + at, &values[k], 4);
            refused += !render(&(struct slice){copy, list.length}, 1, 100000, 1, &out);
            text_free(&out);
            free(copy);
        }
    }
    assert_true(refused > 20);
    for (size_t length = 0; length < list.length; length++) {
        char *copy = malloc(length + 1);
        struct text out = {0};
        memcpy(copy, list.data, length);
        bool whole = length > 0 && render(&(struct slice){copy, length}, 1, 100000, 1, &out);
        if (whole && length) {
            struct text one = {0};
            add(&one, "h", 1, 2, "q=1", "topic");
            assert_int_equal(length, one.length);
            text_free(&one);
        }
        text_free(&out);
        free(copy);
    }
    text_free(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_merge), cmocka_unit_test(test_nonsense)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
