#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "worker/topics/topic_expansion.h"
#include "worker/topics/topic_set.h"

static void expect(const char *topic, const char *expanded)
{
    struct text out = {0};
    struct slice piece;
    struct topic_expansion expansion = topic_expansion_start(slice_from_string(topic));
    while (topic_expansion_next(&expansion, &piece)) {
        text_append_slice(&out, piece);
        text_append_char(&out, '|');
    }
    assert_string_equal(out.data, expanded);
    text_free(&out);
}

/* The table of the reference's behaviour. */
static void test_expansion(void **state)
{
    (void)state;
    expect("a", "a|");
    expect("a/b/c", "a|a/b|a/b/c|");
    expect("data:p/u/k", "data:p|data:p/u|data:p/u/k|");
    expect("t:u:v/w", "t:u:v|t:u:v/w|");
    expect("a/b:c/d", "a/b:c|a/b:c/d|");
    expect("/a", "|/a|");
    expect("a/", "a|a/|");
    expect("a//b", "a|a/|a//b|");
    expect(":x/y", "x|x/y|");
    expect(":", "|");
    expect("::x", "::x|");
    expect("x:", "x:|");
    expect("x:/", "x:|x:/|");
    expect("", "|");
    expect("/", "|/|");
}

static void test_set(void **state)
{
    struct topic_set set = {0};
    char name[32];
    (void)state;
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 1000; i++) {
            snprintf(name, sizeof name, "topic/%d", i);
            topic_set_add(&set, slice_from_string(name));
        }
    topic_set_add(&set, SLICE_LITERAL(""));
    topic_set_add(&set, SLICE_LITERAL(""));
    topic_set_add(&set, (struct slice){"a\0b", 3});
    topic_set_add(&set, (struct slice){"a\0c", 3});
    assert_int_equal(set.count, 1003);
    assert_true(slice_equals_string(topic_set_item(&set, 0), "topic/0"));
    assert_true(slice_equals_string(topic_set_item(&set, 999), "topic/999"));
    assert_int_equal(topic_set_item(&set, 1000).length, 0);
    topic_set_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_expansion), cmocka_unit_test(test_set)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
