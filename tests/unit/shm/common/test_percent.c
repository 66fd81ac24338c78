/* Percent-encoding: shm/common/percent.h. Expectations are what urllib.parse gives. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "shm/common/percent.h"

static void decodes(void **state)
{
    static const struct {
        const char *encoded, *unquote, *unquote_plus;
    } cases[] = {{"", "", ""}, {"a%20b", "a b", "a b"}, {"a+b", "a+b", "a b"}, {"%2B", "+", "+"},
        {"%c3%A9", "\xc3\xa9", "\xc3\xa9"}, {"%zz%4", "%zz%4", "%zz%4"}, {"%", "%", "%"},
        {"%41%", "A%", "A%"}, {"%%41", "%A", "%A"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct text out = {0};
        text_append_string(&out, ">");
        percent_decode(slice_from_string(cases[i].encoded), false, &out);
        assert_string_equal(out.data + 1, cases[i].unquote);
        text_clear(&out);
        text_append_string(&out, ">");
        percent_decode(slice_from_string(cases[i].encoded), true, &out);
        assert_string_equal(out.data + 1, cases[i].unquote_plus);
        text_free(&out);
    }
}

static void encodes(void **state)
{
    struct text out = {0};
    (void)state;
    percent_encode(SLICE_LITERAL("aZ09_.-~ /?%\xc3\xa9"), "/", &out);
    assert_string_equal(out.data, "aZ09_.-~%20/%3F%25%C3%A9");
    text_free(&out);
}

static void takes_pairs_off_a_query(void **state)
{
    struct slice query = SLICE_LITERAL("&&a=1&b&=2&%63=d%3de+f&&g==h&");
    static const char *const pairs[][2] = {{"a", "1"}, {"b", ""}, {"", "2"}, {"c", "d=e f"}, {"g", "=h"}};
    struct text name = {0}, value = {0};
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        assert_true(percent_next_pair(&query, true, &name, &value));
        assert_true(slice_equals_string(text_slice(&name), pairs[i][0]));
        assert_true(slice_equals_string(text_slice(&value), pairs[i][1]));
    }
    assert_false(percent_next_pair(&query, true, &name, &value));
    query = (struct slice){0};
    assert_false(percent_next_pair(&query, true, &name, &value));
    text_free(&name);
    text_free(&value);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes),
        cmocka_unit_test(encodes),
        cmocka_unit_test(takes_pairs_off_a_query),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
