/* The server's own documents: what is refused before cJSON sees it, and how documents are written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "shm/common/document.h"

static void test_refused(void **state)
{
    static const char *const refused[] = {"", "{", "{}x", "[[[[1]]]]", "[1,2,3,4,5,6,7,8]", "\"\xff\"", "NaN",
        "\"\\ud800\"", "01", "[1,]", "// comment\n1"};
    const struct document_limits limits = {.depth = 3, .values = 8};
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (document_parse(slice_from_string(refused[i]), &limits))
            fail_msg("%s is taken", refused[i]);
    assert_null(document_parse((struct slice){0}, &limits));
}

static void test_members(void **state)
{
    const struct document_limits limits = {.depth = 3, .values = 20};
    (void)state;
    /* not of the whole string: what stands behind it is not read */
    cJSON *document = document_parse((struct slice){"{\"a\":1,\"A\":2,\"a\":[3]}}}", 21}, &limits);
    assert_non_null(document);
    assert_true(cJSON_IsArray(document_member(document, "a")));
    assert_int_equal(document_member(document, "A")->valueint, 2);
    assert_null(document_member(document, "b"));
    assert_null(document_member(document_member(document, "a"), "a"));
    assert_null(document_member(NULL, "a"));
    cJSON_Delete(document);
}

static void test_written(void **state)
{
    static const struct {
        const char *text;
        const char *compact;
        const char *python;
    } cases[] = {
        {" {\"a\" : [ 1 ,2.5, true,null ] ,\"b\":{}, \"c\":[]}",
            "{\"a\":[1,2.5,true,null],\"b\":{},\"c\":[]}",
            "{\"a\": [1, 2.5, true, null], \"b\": {}, \"c\": []}"},
        {"{\"\\u00e9\":\"\xc3\xa9\\n\\\"\"}", "{\"\xc3\xa9\":\"\xc3\xa9\\n\\\"\"}",
            "{\"\\u00e9\": \"\\u00e9\\n\\\"\"}"},
        {"\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\"", "\"\\ud83d\\ude00\""},
        {"1795516119", "1795516119", "1795516119"},
    };
    const struct document_limits limits = {.depth = 3, .values = 20};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct text out = {0};
        cJSON *document = document_parse(slice_from_string(cases[i].text), &limits);
        assert_non_null(document);
        document_write(document, &out);
        assert_string_equal(out.data, cases[i].compact);
        text_clear(&out);
        document_write_python(document, &out);
        assert_string_equal(out.data, cases[i].python);
        text_free(&out);
        cJSON_Delete(document);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
