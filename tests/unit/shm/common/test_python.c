/* Values as Python writes them: shm/common/python.h. Expectations are what python3 prints. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "shm/common/python.h"

static void numbers_as_str_shows_them(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        bool integer;
        const char *python;
    } numbers[] = {{"7", true, "7"}, {"-0", true, "0"},
        {"123456789012345678901234567890", true, "123456789012345678901234567890"}, {"7.0", false, "7.0"},
        {"1.5", false, "1.5"}, {"1e5", false, "100000.0"}, {"1E-7", false, "1e-07"},
        {"1e15", false, "1000000000000000.0"}, {"1e16", false, "1e+16"}, {"1.25e20", false, "1.25e+20"},
        {"0.0001", false, "0.0001"}, {"0.00001", false, "1e-05"}, {"-0.0", false, "-0.0"},
        {"1e400", false, "inf"}, {"-1e400", false, "-inf"}, {"NaN", false, "nan"}, {"Infinity", false, "inf"},
        {"-Infinity", false, "-inf"}, {"0.1", false, "0.1"}, {"123.456", false, "123.456"},
        {"9007199254740993.0", false, "9007199254740992.0"}, {"5e-324", false, "5e-324"},
        {"1.7976931348623157e308", false, "1.7976931348623157e+308"},
        {"0.30000000000000004", false, "0.30000000000000004"}, {"1e100", false, "1e+100"},
        {"0e5", false, "0.0"}, {"12345678.9", false, "12345678.9"}, {"0.00012345", false, "0.00012345"}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct text out = {0};
        python_append_number(&out, slice_from_string(numbers[i].json), numbers[i].integer);
        assert_string_equal(out.data, numbers[i].python);
        text_free(&out);
    }
}

static void values_as_repr_shows_them(void **state)
{
    static const struct {
        const char *json;
        const char *repr;
    } values[] = {
        {"null", "None"},
        {"[true, false, null, 1, 1.0, 1E5, \"a\"]", "[True, False, None, 1, 1.0, 100000.0, 'a']"},
        {"{\"a\": {\"it's\": []}, \"b\": {}}", "{'a': {\"it's\": []}, 'b': {}}"},
        {"\"\\ud800\"", "'\\ud800'"},
        {"-0", "0"},
        {"NaN", "nan"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct json_document document = {0};
        struct text out = {0};
        assert_int_equal(json_parse(&document, values[i].json, strlen(values[i].json), 50, 100), JSON_OK);
        python_append_value(&out, &document, 0, SIZE_MAX);
        assert_string_equal(out.data, values[i].repr);
        text_free(&out);
        json_free(&document);
    }
}

static void a_value_stops_near_its_limit(void **state)
{
    static const char json[] = "[[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6, 7, 8, 9], {\"a\": 1}]";
    struct json_document document = {0};
    struct text out = {0};
    (void)state;
    assert_int_equal(json_parse(&document, json, strlen(json), 50, 100), JSON_OK);
    python_append_value(&out, &document, 0, 10);
    assert_in_range(out.length, 10, 20);
    text_free(&out);
    json_free(&document);
}

/* As pydantic 1.10 reads a field of type str. */
static void scalars_stand_for_strings(void **state)
{
    static const struct {
        const char *json;
        const char *string; /* NULL: a validation error */
    } values[] = {{"\"a\\u00e9\"", "a\xc3\xa9"}, {"7", "7"}, {"1e5", "100000.0"}, {"true", "True"},
        {"false", "False"}, {"null", NULL}, {"[]", NULL}, {"{}", NULL}};
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct json_document document = {0};
        struct text out = {0};
        text_append_string(&out, ">");
        assert_int_equal(json_parse(&document, values[i].json, strlen(values[i].json), 50, 100), JSON_OK);
        assert_int_equal(python_coerce_string(&out, &document, 0), values[i].string != NULL);
        assert_string_equal(out.data + 1, values[i].string ? values[i].string : "");
        text_free(&out);
        json_free(&document);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_as_str_shows_them),
        cmocka_unit_test(values_as_repr_shows_them),
        cmocka_unit_test(a_value_stops_near_its_limit),
        cmocka_unit_test(scalars_stand_for_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
