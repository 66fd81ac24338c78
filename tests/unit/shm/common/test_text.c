/* Growth and escaping. The expected escapes are what Python's json.dumps (with and without ensure_ascii)
 * and repr() print. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "shm/common/python.h"
#include "shm/common/text.h"

#define TEXT(literal) literal, sizeof(literal) - 1

struct escaping {
    const char *value;
    size_t length;
    const char *ascii;
    const char *utf8;
    const char *repr; /* NULL: code points that repr() escapes and logs need not */
};

static const struct escaping escapings[] = {
    {TEXT(""), "\042\042", "\042\042", "''"},
    {TEXT("plain"), "\042plain\042", "\042plain\042", "'plain'"},
    {TEXT("a/b"), "\042a/b\042", "\042a/b\042", "'a/b'"},
    {TEXT("\042"), "\042\134\042\042", "\042\134\042\042", "'\042'"},
    {TEXT("\134"), "\042\134\134\042", "\042\134\134\042", "'\134\134'"},
    {TEXT("\012\015\011\010\014"), "\042\134n\134r\134t\134b\134f\042", "\042\134n\134r\134t\134b\134f\042",
        "'\134n\134r\134t\134x08\134x0c'"},
    {TEXT("\000\001\037"), "\042\134u0000\134u0001\134u001f\042", "\042\134u0000\134u0001\134u001f\042",
        "'\134x00\134x01\134x1f'"},
    {TEXT("\177"), "\042\134u007f\042", "\042\177\042", "'\134x7f'"},
    {TEXT("\303\251"), "\042\134u00e9\042", "\042\303\251\042", "'\303\251'"},
    {TEXT("\303\237\344\270\255"), "\042\134u00df\134u4e2d\042", "\042\303\237\344\270\255\042",
        "'\303\237\344\270\255'"},
    {TEXT("\360\237\230\200"), "\042\134ud83d\134ude00\042", "\042\360\237\230\200\042",
        "'\360\237\230\200'"},
    {TEXT("\364\217\277\277"), "\042\134udbff\134udfff\042", "\042\364\217\277\277\042", NULL},
    {TEXT("\342\200\250\342\200\251"), "\042\134u2028\134u2029\042", "\042\342\200\250\342\200\251\042",
        NULL},
    {TEXT("\355\240\200"), "\042\134ud800\042", "\042\355\240\200\042", NULL},
    {TEXT("a\355\240\275z"), "\042a\134ud83dz\042", "\042a\355\240\275z\042", NULL},
    {TEXT("\357\277\277"), "\042\134uffff\042", "\042\357\277\277\042", NULL},
    {TEXT("it's"), "\042it's\042", "\042it's\042", "\042it's\042"},
    {TEXT("say \042hi\042"), "\042say \134\042hi\134\042\042", "\042say \134\042hi\134\042\042",
        "'say \042hi\042'"},
    {TEXT("both ' and \042"), "\042both ' and \134\042\042", "\042both ' and \134\042\042",
        "'both \134' and \042'"},
    {TEXT("tab\011here"), "\042tab\134there\042", "\042tab\134there\042", "'tab\134there'"},
    {TEXT("<>&'"), "\042<>&'\042", "\042<>&'\042", "\042<>&'\042"},
    {TEXT("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\303\251"),
        "\042xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\134u00e9\042",
        "\042xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\303\251\042",
        "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\303\251'"},
};

static void assert_text(const struct text *text, const char *wanted)
{
    assert_string_equal(text->data, wanted);
    assert_int_equal(text->length, strlen(wanted));
}

static void escapes_as_python(void **state)
{
    struct text text = {0};
    (void)state;
    for (size_t i = 0; i < sizeof escapings / sizeof *escapings; i++) {
        struct slice value = {escapings[i].value, escapings[i].length};
        text_clear(&text);
        text_append_json_ascii(&text, value);
        assert_text(&text, escapings[i].ascii);
        text_clear(&text);
        text_append_json_utf8(&text, value);
        assert_text(&text, escapings[i].utf8);
        if (escapings[i].repr) {
            text_clear(&text);
            python_append_string(&text, value);
            assert_text(&text, escapings[i].repr);
        }
    }
    text_free(&text);
}

static void malformed_utf8_becomes_the_replacement_character(void **state)
{
    static const struct {
        const char *value;
        size_t replaced; /* how many U+FFFD (as many as bytes.decode(errors="replace") gives), then an 'x' */
    } bad[] = {{"\x80x", 1}, {"\xc3x", 1}, {"\xc0\x80x", 2}, {"\xe4\xb8x", 1}, {"\xf5x", 1},
        {"\xe0\x80\x80x", 3}, {"\xf4\x90\x80\x80x", 4}, {"\xf0\x8f\xbf\xbfx", 4}, {"\xffx", 1}};
    struct text text = {0};
    struct text wanted = {0};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        text_clear(&text);
        text_append_json_ascii(&text, slice_from_string(bad[i].value));
        text_clear(&wanted);
        text_append_char(&wanted, '"');
        for (size_t k = 0; k < bad[i].replaced; k++)
            text_append_string(&wanted, "\\ufffd");
        text_append_string(&wanted, "x\"");
        assert_text(&text, wanted.data);
        text_clear(&text);
        text_append_json_utf8(&text, slice_from_string(bad[i].value));
        text_clear(&wanted);
        text_append_char(&wanted, '"');
        for (size_t k = 0; k < bad[i].replaced; k++)
            text_append_string(&wanted, "\xef\xbf\xbd");
        text_append_string(&wanted, "x\"");
        assert_text(&text, wanted.data);
    }
    text_free(&text);
    text_free(&wanted);
}

static void grows_and_keeps(void **state)
{
    struct text text = {0};
    (void)state;
    for (int i = 0; i < 20000; i++)
        text_append_char(&text, (char)('a' + i % 26));
    assert_int_equal(text.length, 20000);
    assert_int_equal(text.data[20000], 0);
    for (int i = 0; i < 20000; i++)
        assert_int_equal(text.data[i], 'a' + i % 26);
    size_t capacity = text.capacity;
    text_clear(&text);
    assert_int_equal(text.length, 0);
    assert_string_equal(text.data, "");
    assert_int_equal(text.capacity, capacity);
    text_append_format(&text, "%s-%05d", "x", 42);
    assert_text(&text, "x-00042");
    memcpy(text_reserve(&text, 3), "abc", 3);
    text.length += 3;
    text_append(&text, NULL, 0);
    assert_text(&text, "x-00042abc");
    text_free(&text);
    assert_null(text.data);
    assert_int_equal(text.capacity, 0);
}

static void slices(void **state)
{
    struct text empty = {0};
    struct slice absent = slice_from_string(NULL);
    (void)state;
    assert_null(absent.data);
    assert_true(slice_equals(absent, SLICE_LITERAL("")));
    assert_true(slice_equals_string(SLICE_LITERAL("ab"), "ab"));
    assert_false(slice_equals_string(SLICE_LITERAL("ab"), "abc"));
    assert_false(slice_equals_string(SLICE_LITERAL("ab"), "ac"));
    assert_int_equal(SLICE_LITERAL("a\0b").length, 3);
    assert_string_equal(text_slice(&empty).data, "");
}

static void trims_and_compares(void **state)
{
    (void)state;
    assert_true(slice_equals_string(slice_trim(SLICE_LITERAL(" \t a b\t"), TEXT_BLANKS), "a b"));
    assert_true(slice_equals_string(slice_trim(SLICE_LITERAL("\n a\r\n"), TEXT_BLANKS), "\n a\r\n"));
    assert_true(slice_equals_string(slice_trim(SLICE_LITERAL("\n\v\f\r\t a \n"), TEXT_SPACES), "a"));
    assert_int_equal(slice_trim(SLICE_LITERAL("  "), TEXT_SPACES).length, 0);
    assert_int_equal(slice_trim((struct slice){"\0a\0", 3}, TEXT_SPACES).length, 3);
    assert_true(slice_equals_ignoring_case(SLICE_LITERAL("Content-LENGTH"), "content-length"));
    assert_false(slice_equals_ignoring_case(SLICE_LITERAL("content-length"), "content-lengt"));
    assert_false(slice_equals_ignoring_case(SLICE_LITERAL("content-lengt"), "content-length"));
    assert_true(slice_starts_ignoring_case(SLICE_LITERAL("HTTPS://x"), "https://"));
    assert_false(slice_starts_ignoring_case(SLICE_LITERAL("http"), "https://"));
}

static void reads_numbers(void **state)
{
    static const struct {
        const char *digits;
        uint64_t most;
        bool good;
        uint64_t number;
    } cases[] = {{"0", 0, true, 0}, {"", 9, false, 0}, {"1", 0, false, 0}, {"65535", 65535, true, 65535},
        {"65536", 65535, false, 0}, {"00080", 65535, true, 80}, {"000080", 65535, false, 0},
        {"00", 0, false, 0}, {"-1", 9, false, 0}, {"+1", 9, false, 0}, {" 1", 9, false, 0},
        {"1 ", 9, false, 0}, {"0x1", 99, false, 0}, {"18446744073709551615", UINT64_MAX, true, UINT64_MAX},
        {"18446744073709551616", UINT64_MAX, false, 0}, {"99999999999999999999999", UINT64_MAX, false, 0},
        {"12", 5, false, 0}, {"9", 5, false, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t number = 0;
        assert_int_equal(
            slice_read_number(slice_from_string(cases[i].digits), cases[i].most, &number), cases[i].good);
        if (cases[i].good)
            assert_int_equal(number, cases[i].number);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escapes_as_python),
        cmocka_unit_test(malformed_utf8_becomes_the_replacement_character),
        cmocka_unit_test(grows_and_keeps),
        cmocka_unit_test(slices),
        cmocka_unit_test(trims_and_compares),
        cmocka_unit_test(reads_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
