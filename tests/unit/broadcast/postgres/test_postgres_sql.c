/* SQL text, libpq's messages, JSON for databases that can't hold all of UTF-8. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "broadcast/postgres/postgres_sql.h"

static void test_quoting(void **state)
{
    static const struct {
        const char *value, *identifier, *literal;
    } cases[] = {
        {"plain", "\"plain\"", "E'plain'"},
        {"a\"b", "\"a\"\"b\"", "E'a\"b'"},
        {"a'b", "\"a'b\"", "E'a''b'"},
        {"a\\b", "\"a\\b\"", "E'a\\\\b'"},
        {"", "\"\"", "E''"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct text out = {0};
        postgres_append_identifier(&out, cases[i].value);
        assert_string_equal(out.data, cases[i].identifier);
        text_clear(&out);
        postgres_append_literal(&out, cases[i].value);
        assert_string_equal(out.data, cases[i].literal);
        text_free(&out);
    }
}

static void test_messages_become_one_line(void **state)
{
    static const struct {
        const char *message, *line;
    } cases[] = {
        {"FATAL:  the end\n", "FATAL: the end"},
        {"one\n\ttwo \n", "one two"},
        {"\n", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct text out = {0};
        postgres_append_message(&out, cases[i].message);
        assert_string_equal(out.data ? out.data : "", cases[i].line);
        text_free(&out);
    }
}

static void test_escaped_json(void **state)
{
    static const struct {
        const char *json, *ascii;
    } cases[] = {
        {"{\"a\": 1}", "{\"a\": 1}"},
        {"\"\xc3\xa9\"", "\"\\u00e9\""},
        {"\"\xe2\x82\xac\"", "\"\\u20ac\""},
        {"\"\xf0\x9f\x98\x80\"", "\"\\ud83d\\ude00\""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct text out = {0};
        struct slice got = postgres_escape_json(&out, slice_from_string(cases[i].json));
        assert_string_equal(got.data, cases[i].ascii);
        text_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quoting),
        cmocka_unit_test(test_messages_become_one_line),
        cmocka_unit_test(test_escaped_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
