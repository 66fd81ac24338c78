/* The JSON scanner at guard pages: every text ends where the next byte can't be read, and begins where the
 * one before can't. What is refused, and with which words, is Python's (3.11) own verdict on the same
 * texts; tests/integration/test_json_differential.py asks it again about random ones. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "shm/common/json.h"

#define PAGE          65536u
#define TEXT(literal) literal, sizeof(literal) - 1

static char *area; /* PROT_NONE, PAGE bytes to use, PROT_NONE */

static int setup(void **state)
{
    char *whole = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)state;
    if (whole == MAP_FAILED)
        return -1;
    area = whole + PAGE;
    return mprotect(area, PAGE, PROT_READ | PROT_WRITE);
}

static int teardown(void **state)
{
    (void)state;
    return munmap(area - PAGE, 3 * PAGE);
}

static const char *at_end(const char *text, size_t length)
{
    assert_true(length <= PAGE);
    return length ? memcpy(area + PAGE - length, text, length) : area + PAGE;
}

static const char *at_start(const char *text, size_t length)
{
    assert_true(length <= PAGE);
    return length ? memcpy(area, text, length) : area;
}

/* Both functions, at both edges, must agree. The document holds the parse at the end of the page. */
static enum json_failure scan(struct json_document *document, const char *text, size_t length, unsigned depth)
{
    struct json_document other = {0};
    char *copy = malloc(length + 1); /* `text` may be in the area */
    assert_non_null(copy);
    memcpy(copy, text, length);
    enum json_failure failure =
        json_parse(&other, at_start(copy, length), length, depth, JSON_TOKENS_DEFAULT);
    assert_int_equal(json_check(document, at_start(copy, length), length, depth), failure);
    assert_int_equal(document->error_character, other.error_character);
    assert_ptr_equal(document->message, other.message);
    assert_int_equal(json_check(document, at_end(copy, length), length, depth), failure);
    assert_int_equal(json_parse(document, at_end(copy, length), length, depth, JSON_TOKENS_DEFAULT), failure);
    assert_int_equal(document->error_character, other.error_character);
    assert_ptr_equal(document->message, other.message);
    assert_int_equal(document->count, other.count);
    json_free(&other);
    free(copy);
    return failure;
}

static struct slice raw(const struct json_document *document, uint32_t token)
{
    return json_raw(document, token);
}

struct refusal {
    const char *text;
    size_t length;
    const char *message;
    size_t character;
};

static const struct refusal refusals[] = {
    {TEXT(""), "Expecting value", 0},
    {TEXT("  "), "Expecting value", 2},
    {TEXT("{"), "Expecting property name enclosed in double quotes", 1},
    {TEXT("["), "Expecting value", 1},
    {TEXT("\042"), "Unterminated string starting at", 0},
    {TEXT("\042a"), "Unterminated string starting at", 0},
    {TEXT("{\042"), "Unterminated string starting at", 1},
    {TEXT("{\042a"), "Unterminated string starting at", 1},
    {TEXT("{\042a\042"), "Expecting ':' delimiter", 4},
    {TEXT("{\042a\042:"), "Expecting value", 5},
    {TEXT("{\042a\042:1"), "Expecting ',' delimiter", 6},
    {TEXT("{\042a\042:1,"), "Expecting property name enclosed in double quotes", 7},
    {TEXT("{\042a\042:1,}"), "Expecting property name enclosed in double quotes", 7},
    {TEXT("{1:2}"), "Expecting property name enclosed in double quotes", 1},
    {TEXT("{'a':1}"), "Expecting property name enclosed in double quotes", 1},
    {TEXT("[1"), "Expecting ',' delimiter", 2},
    {TEXT("[1,"), "Expecting value", 3},
    {TEXT("[1,]"), "Expecting value", 3},
    {TEXT("[1 2]"), "Expecting ',' delimiter", 3},
    {TEXT("[,]"), "Expecting value", 1},
    {TEXT("{,}"), "Expecting property name enclosed in double quotes", 1},
    {TEXT("{\042a\042 1}"), "Expecting ':' delimiter", 5},
    {TEXT("{\042a\042:}"), "Expecting value", 5},
    {TEXT("{\042a\042:1 \042b\042:2}"), "Expecting ',' delimiter", 7},
    {TEXT("nul"), "Expecting value", 0},
    {TEXT("nulL"), "Expecting value", 0},
    {TEXT("tru"), "Expecting value", 0},
    {TEXT("True"), "Expecting value", 0},
    {TEXT("fals"), "Expecting value", 0},
    {TEXT("none"), "Expecting value", 0},
    {TEXT("+1"), "Expecting value", 0},
    {TEXT("-"), "Expecting value", 0},
    {TEXT("-a"), "Expecting value", 0},
    {TEXT("01"), "Extra data", 1},
    {TEXT("-01"), "Extra data", 2},
    {TEXT("1."), "Extra data", 1},
    {TEXT(".5"), "Expecting value", 0},
    {TEXT("1.e5"), "Extra data", 1},
    {TEXT("1e"), "Extra data", 1},
    {TEXT("1e+"), "Extra data", 1},
    {TEXT("1.5e"), "Extra data", 3},
    {TEXT("0x10"), "Extra data", 1},
    {TEXT("1 2"), "Extra data", 2},
    {TEXT("1a"), "Extra data", 1},
    {TEXT("[1]]"), "Extra data", 3},
    {TEXT("{}}"), "Extra data", 2},
    {TEXT("\042\042x"), "Extra data", 2},
    {TEXT("\042\134"), "Unterminated string starting at", 0},
    {TEXT("\042\134\042"), "Unterminated string starting at", 0},
    {TEXT("\042\134x\042"), "Invalid \\escape", 1},
    {TEXT("\042\134u\042"), "Invalid \\uXXXX escape", 2},
    {TEXT("\042\134u12\042"), "Invalid \\uXXXX escape", 2},
    {TEXT("\042\134u12g4\042"), "Invalid \\uXXXX escape", 2},
    {TEXT("\042\134u1234"), "Invalid \\uXXXX escape", 2},
    {TEXT("\042\134ud83d\134u12\042"), "Invalid \\uXXXX escape", 8},
    {TEXT("\042\134ud83d\134u12g4\042"), "Invalid \\uXXXX escape", 8},
    {TEXT("\042a\011b\042"), "Invalid control character at", 2},
    {TEXT("\042a\012b\042"), "Invalid control character at", 2},
    {TEXT("\042\000\042"), "Invalid control character at", 1},
    {TEXT("\042\037\042"), "Invalid control character at", 1},
    {TEXT("\303\251"), "Expecting value", 0},
    {TEXT("\042\303\251\042 x"), "Extra data", 4},
    {TEXT("[\042\303\251\042, 01]"), "Expecting ',' delimiter", 7},
    {TEXT("{\042\303\251\042:\042\360\237\230\200\042 1}"), "Expecting ',' delimiter", 9},
    {TEXT("\357\273\2771"), "Unexpected UTF-8 BOM (decode using utf-8-sig)", 0},
    {TEXT("\357\273\277"), "Unexpected UTF-8 BOM (decode using utf-8-sig)", 0},
    {TEXT("NaN1"), "Extra data", 3},
    {TEXT("Inf"), "Expecting value", 0},
    {TEXT("-Inf"), "Expecting value", 0},
    {TEXT("-Infinit"), "Expecting value", 0},
    {TEXT("Infinityx"), "Extra data", 8},
    {TEXT("\302\2401"), "Expecting value", 0},
    {TEXT("1\000"), "Extra data", 1},
    {TEXT("\000"), "Expecting value", 0},
    {TEXT("[1,\012\012 2 x]"), "Expecting ',' delimiter", 8},
    {TEXT("//1"), "Expecting value", 0},
    {TEXT("[1/**/]"), "Expecting ',' delimiter", 2},
    {TEXT("\042\134/\134b\134f\042 \042"), "Extra data", 9},
};

static void refuses_in_pythons_words(void **state)
{
    struct json_document document = {0};
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const struct refusal *wanted = &refusals[i];
        if (scan(&document, wanted->text, wanted->length, 100) != JSON_SYNTAX)
            fail_msg("accepted: %s", wanted->text);
        assert_string_equal(document.message, wanted->message);
        assert_int_equal(document.error_character, wanted->character);
        assert_int_equal(document.count, 0);
    }
    json_free(&document);
}

static void takes_what_python_takes(void **state)
{
    static const char *const texts[] = {"null", " true\r\n", "\tfalse ", "0", "-0", "1e400", "1E+5",
        "1.50e-7", "NaN", "Infinity", "-Infinity", "[NaN,-Infinity]", "\"\"", "\"\\ud800\"",
        "\"\\udc00\\ud83d\"", "\"\x7f\"", "[]", "{}", "[ ]", "{ }", "[[],{}]", "{\"a\":1,\"a\":2}",
        "\"\xf0\x9f\x98\x80\xe4\xb8\xad\xc3\xa9\"", "9007199254740993.00000000000000000001",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\""};
    struct json_document document = {0};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (scan(&document, texts[i], strlen(texts[i]), 100) != JSON_OK)
            fail_msg("refused: %s (%s)", texts[i], document.message);
        assert_null(document.message);
    }
    json_free(&document);
}

static void cut_anywhere_it_is_refused(void **state)
{
    static const char text[] = "{\"k\\u00e9\": [true, null, \"\xe4\xb8\xad\\ud83d\\ude00\", -1.5e+3, {}], "
                               "\"b\": \"long enough for words\"}";
    struct json_document document = {0};
    (void)state;
    assert_int_equal(scan(&document, text, sizeof text - 1, 100), JSON_OK);
    for (size_t length = 0; length < sizeof text - 1; length++)
        assert_int_not_equal(scan(&document, text, length, 100), JSON_OK);
    json_free(&document);
}

static void bad_utf8(void **state)
{
    static const struct {
        const char *text;
        size_t character;
    } bad[] = {{"\"\x80\"", 1}, {"\"\xc3\"", 1}, {"\"\xc0\x80\"", 1}, {"\"\xc3\xa9\xe0\x80\x80\"", 2},
        {"\"\xed\xa0\x80\"", 1}, {"\"\xf4\x90\x80\x80\"", 1}, {"\"\xf8\x88\x80\x80\x80\"", 1},
        {"\"\xe4\xb8\"", 1}, {"\"a\xf0\x9f\x98", 2}, {"\xff", 0},
        {"[1,] \"\xff\"", 6} /* Python decodes before it parses */};
    struct json_document document = {0};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(scan(&document, bad[i].text, strlen(bad[i].text), 100), JSON_BAD_UTF8);
        assert_int_equal(document.error_character, bad[i].character);
    }
    json_free(&document);
}

static void depth_is_limited(void **state)
{
    static char text[30000];
    struct json_document document = {0};
    (void)state;
    for (size_t depth = 1; depth <= 10000; depth = depth * 3 + 1) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        unsigned limit = depth < 8192 ? (unsigned)depth : 8192; /* the scanner's own */
        assert_int_equal(
            scan(&document, text, 2 * depth, (unsigned)depth), depth <= 8192 ? JSON_OK : JSON_TOO_DEEP);
        assert_int_equal(scan(&document, text, 2 * depth, limit - 1), JSON_TOO_DEEP);
        assert_int_equal(document.error_character, limit - 1);
        /* never closed: the depth is noticed first */
        assert_int_equal(scan(&document, text, depth, limit - 1), JSON_TOO_DEEP);
    }
    assert_int_equal(scan(&document, "1", 1, 0), JSON_OK);
    assert_int_equal(scan(&document, "{}", 2, 0), JSON_TOO_DEEP);
    json_free(&document);
}

static void tokens_are_limited(void **state)
{
    static const char text[] = "[1,{\"a\":2},3]"; /* array, 1, object, key, 2, 3 */
    struct json_document document = {0};
    (void)state;
    for (size_t limit = 0; limit < 8; limit++)
        assert_int_equal(
            json_parse(&document, text, sizeof text - 1, 10, limit), limit < 6 ? JSON_TOO_MANY : JSON_OK);
    assert_int_equal(document.count, 6);
    json_free(&document);
}

static void long_integers_and_texts(void **state)
{
    static char digits[5000];
    struct json_document document = {0};
    (void)state;
    memset(digits, '7', sizeof digits);
    assert_int_equal(scan(&document, digits, 4300, 10), JSON_OK);
    assert_int_equal(scan(&document, digits, 4301, 10), JSON_TOO_LONG);
    digits[4999] = '1';
    digits[4998] = '.';
    assert_int_equal(scan(&document, digits, sizeof digits, 10), JSON_OK);
    assert_int_equal(json_check(&document, digits, UINT32_MAX, 10), JSON_TOO_LONG); /* nothing is read */
    json_free(&document);
}

static void tokens_describe_the_text(void **state)
{
    static const char text[] = " {\"a\" : [1, -2.5, \"x\\n\"], \"b\":{} ,\"a\":null} ";
    static const struct json_token wanted[] = {{JSON_OBJECT, 1, 43, 9, 3}, {JSON_STRING, 2, 5, 2, 0},
        {JSON_ARRAY, 8, 24, 6, 3}, {JSON_NUMBER, 9, 10, 4, 1}, {JSON_NUMBER, 12, 16, 5, 0},
        {JSON_STRING, 18, 23, 6, 1}, {JSON_STRING, 26, 29, 7, 0}, {JSON_OBJECT, 30, 32, 8, 0},
        {JSON_STRING, 34, 37, 9, 0}, {JSON_NULL, 38, 42, 10, 0}};
    struct json_document document = {0};
    (void)state;
    assert_int_equal(scan(&document, text, sizeof text - 1, 10), JSON_OK);
    assert_int_equal(document.count, 10);
    for (size_t i = 0; i < 10; i++) {
        const struct json_token *token = &document.tokens[i];
        assert_int_equal(token->type, wanted[i].type);
        assert_int_equal(token->start, wanted[i].start);
        assert_int_equal(token->end, wanted[i].end);
        assert_int_equal(token->size, wanted[i].size);
        if (i)
            assert_int_equal(token->next, wanted[i].next);
    }
    assert_int_equal(document.tokens[0].next, document.count);
    assert_true(slice_equals_string(raw(&document, 2), "[1, -2.5, \"x\\n\"]"));
    assert_true(slice_equals_string(raw(&document, 4), "-2.5"));
    /* the document's memory is used again */
    struct json_token *tokens = document.tokens;
    assert_int_equal(json_parse(&document, "[]", 2, 10, 10), JSON_OK);
    assert_ptr_equal(document.tokens, tokens);
    json_free(&document);
}

static void many_tokens(void **state)
{
    static char text[60000];
    struct json_document document = {0};
    (void)state;
    text[0] = '[';
    for (size_t i = 1; i < sizeof text - 1; i += 2)
        memcpy(text + i, "1,", 2);
    memcpy(text + sizeof text - 3, "11]", 3);
    assert_int_equal(scan(&document, text, sizeof text, 10), JSON_OK);
    assert_int_equal(document.tokens[0].size, document.count - 1);
    assert_int_equal(document.tokens[0].next, document.count);
    json_free(&document);
}

static void members(void **state)
{
    static const char text[] =
        "{\"a\":1,\"b\":{\"c\":2},\"\\u0061\":3,\"c\":[{\"a\":4}],\"\\ud83d\\ude00\":5,\"\":6}";
    struct json_document document = {0};
    (void)state;
    assert_int_equal(scan(&document, text, sizeof text - 1, 10), JSON_OK);
    assert_true(
        slice_equals_string(raw(&document, json_member(&document, 0, "a")), "3")); /* the last one counts */
    uint32_t b = json_member(&document, 0, "b");
    assert_true(slice_equals_string(raw(&document, json_member(&document, b, "c")), "2"));
    assert_int_equal(json_member(&document, b, "a"), JSON_ABSENT);
    assert_true(slice_equals_string(raw(&document, json_member(&document, 0, "c")), "[{\"a\":4}]"));
    assert_true(slice_equals_string(raw(&document, json_member(&document, 0, "\xf0\x9f\x98\x80")), "5"));
    assert_true(slice_equals_string(raw(&document, json_member(&document, 0, "")), "6"));
    assert_int_equal(json_member(&document, 0, "missing"), JSON_ABSENT);
    assert_int_equal(json_member(&document, json_member(&document, 0, "c"), "a"), JSON_ABSENT); /* an array */
    json_free(&document);
}

static void strings(void **state)
{
    static const struct {
        const char *text;
        const char *decoded;
        size_t length;
    } table[] = {{"\"\"", TEXT("")}, {"\"plain \xc3\xa9\"", TEXT("plain \xc3\xa9")},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", TEXT("\"\\/\b\f\n\r\t")}, {"\"\\u0000x\"", TEXT("\0x")},
        {"\"\\u00E9\\u4e2D\"", TEXT("\xc3\xa9\xe4\xb8\xad")},
        {"\"\\ud83d\\ude00!\"", TEXT("\xf0\x9f\x98\x80!")}, {"\"\\ud83dx\"", TEXT("\xed\xa0\xbdx")},
        {"\"\\ude00\\ud83d\"", TEXT("\xed\xb8\x80\xed\xa0\xbd")},
        {"\"\\ud83d\\ud83d\\ude00\"", TEXT("\xed\xa0\xbd\xf0\x9f\x98\x80")},
        {"\"\\ud83d\\u0041\"", TEXT("\xed\xa0\xbd"
                                    "A")},
        {"\"\\uffff\\u07ff\\u0800\\u0080\"", TEXT("\xef\xbf\xbf\xdf\xbf\xe0\xa0\x80\xc2\x80")}};
    struct json_document document = {0};
    struct text scratch = {0};
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct slice wanted = {table[i].decoded, table[i].length};
        assert_int_equal(scan(&document, table[i].text, strlen(table[i].text), 10), JSON_OK);
        text_clear(&scratch);
        json_string_decode(&document, 0, &scratch);
        assert_true(slice_equals(text_slice(&scratch), wanted));
        assert_true(json_string_equals(&document, 0, wanted));
        assert_true(slice_equals(json_string_view(&document, 0, &scratch), wanted));
        for (size_t cut = 0; cut < wanted.length; cut++)
            assert_false(json_string_equals(&document, 0, (struct slice){wanted.data, cut}));
        struct slice longer = {"\"plain \xc3\xa9 and more", 17};
        assert_false(json_string_equals(&document, 0, longer));
    }
    text_free(&scratch);
    json_free(&document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_in_pythons_words),
        cmocka_unit_test(takes_what_python_takes),
        cmocka_unit_test(cut_anywhere_it_is_refused),
        cmocka_unit_test(bad_utf8),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(tokens_are_limited),
        cmocka_unit_test(long_integers_and_texts),
        cmocka_unit_test(tokens_describe_the_text),
        cmocka_unit_test(many_tokens),
        cmocka_unit_test(members),
        cmocka_unit_test(strings),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
