/* UTF-8: shm/common/utf8.h. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "shm/common/utf8.h"

static void each_code_point_there_and_back(void **state)
{
    (void)state;
    for (uint32_t point = 0; point <= 0x10ffff; point++) {
        uint8_t bytes[UTF8_LENGTH_MAX];
        size_t length = utf8_encode(point, bytes);
        uint32_t decoded;
        assert_int_equal(utf8_decode((struct slice){(const char *)bytes, length}, &decoded), length);
        assert_int_equal(decoded, point);
        assert_int_equal(utf8_length(bytes, bytes + length), utf8_is_surrogate(point) ? 0 : length);
        assert_int_equal(utf8_count(bytes, length), 1);
        if (length > 1)
            assert_int_equal(utf8_length(bytes, bytes + length - 1), 0);
    }
}

/* What errors="replace" makes of it in Python (bytes.decode). */
static const struct {
    const char *from, *to;
} repairs[] = {
    {"", ""},
    {"plain", "plain"},
    {"12345678\xc3\xa9 2345678", "12345678\xc3\xa9 2345678"},
    {"\xc3\xa9\xe6\x97\xa5\xf0\x9f\x94\xa5", "\xc3\xa9\xe6\x97\xa5\xf0\x9f\x94\xa5"},
    {"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf",
        "\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"},
    {"a\xe9z", "a\xef\xbf\xbdz"},
    {"\xff", "\xef\xbf\xbd"},
    {"a\x80", "a\xef\xbf\xbd"},
    {"\xc3", "\xef\xbf\xbd"},
    {"\xc3(", "\xef\xbf\xbd("},
    {"\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd"},
    {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate */
    {"\xf0\x9f\x94", "\xef\xbf\xbd"},                         /* breaks off: one */
    {"\xf0\x9f\x94x", "\xef\xbf\xbdx"},
    {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    {"\xe0\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    {"\xf0\x8f\xbf\xbf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    {"12345678\xff", "12345678\xef\xbf\xbd"},
};

static void ill_formed_text_is_repaired(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof repairs / sizeof *repairs; i++) {
        struct slice from = slice_from_string(repairs[i].from);
        struct text out = {0};
        text_append_repaired(&out, from);
        assert_string_equal(out.data, repairs[i].to);
        assert_int_equal(utf8_is_valid(from), strcmp(repairs[i].from, repairs[i].to) == 0);
        text_free(&out);
    }
}

static void the_first_error_is_found(void **state)
{
    (void)state;
    const uint8_t text[] = "1234567890\xc3\xa9 234567\xe9 ";
    assert_ptr_equal(utf8_find_error(text, sizeof text - 1), text + 19);
    assert_null(utf8_find_error(text, 19));
    assert_ptr_equal(utf8_find_error(text, 11), text + 10);
}

/* Cut into parts of each size, a text is judged as it is in one piece; and what is wrong is found at the
 * first byte that makes it so. */
static void a_stream_is_cut_anywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof repairs / sizeof *repairs; i++) {
        struct slice text = slice_from_string(repairs[i].from);
        const uint8_t *bytes = (const uint8_t *)text.data;
        for (size_t size = 1; size <= text.length; size++) {
            struct utf8_stream stream = {0};
            bool good = true;
            for (size_t at = 0; at < text.length; at += size)
                good =
                    utf8_stream_feed(&stream, bytes + at, text.length - at < size ? text.length - at : size);
            assert_int_equal(good && stream.left == 0, utf8_is_valid(text));
        }
    }
    struct utf8_stream stream = {0};
    assert_true(utf8_stream_feed(&stream, (const uint8_t *)"\xe2\x82", 2));
    assert_int_equal(stream.left, 1);
    assert_false(utf8_stream_feed(&stream, (const uint8_t *)"(", 1));
    assert_false(utf8_stream_feed(&stream, (const uint8_t *)"\xac", 1));
    assert_false(utf8_stream_feed(&stream, (const uint8_t *)"a", 1));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_code_point_there_and_back),
        cmocka_unit_test(ill_formed_text_is_repaired),
        cmocka_unit_test(the_first_error_is_found),
        cmocka_unit_test(a_stream_is_cut_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
