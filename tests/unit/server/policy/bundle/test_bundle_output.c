/* The memory of a bundle: its limit counts for the whole, and what is given is sealed, compressed and tagged.
 * */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>
#include "server/policy/bundle/bundle_output.h"

static struct bundle_output *open_output(size_t bytes_max)
{
    struct error err = {0};
    struct bundle_output *output = bundle_output_open(bytes_max, &err);
    assert_non_null(output);
    return output;
}

/* Takes `count` pieces of `length` bytes each; the result of the last one. */
static int take(struct bundle_output *output, size_t count, size_t length)
{
    struct text text = {0};
    int result = 0;
    while (count-- > 0) {
        memset(text_reserve(&text, length), 'x', length);
        text.length = length;
        result = bundle_output_take(output, &text);
        assert_int_equal(text.length, 0);
    }
    text_free(&text);
    return result;
}

/* No piece is too large, all of them together are. */
static void test_limit_of_the_whole(void **state)
{
    struct bundle_body body;
    struct error err = {0};
    (void)state;
    struct bundle_output *output = open_output(1000);
    assert_int_equal(take(output, 10, 100), 0);
    assert_int_equal(bundle_output_finish(output, &body, &err), 0);
    assert_int_equal(body.json_bytes, 1000);
    close(body.descriptor);
    output = open_output(1000);
    assert_int_equal(take(output, 10, 100), 0);
    assert_int_equal(take(output, 1, 1), -1);
    /* It sticks, whatever comes behind it. */
    assert_int_equal(take(output, 1, 0), -1);
    assert_int_equal(bundle_output_finish(output, &body, &err), -1);
    assert_int_equal(err.code, E2BIG);
    assert_string_equal(err.text, "policy bundle is larger than 1000 bytes");
    assert_int_equal(body.descriptor, -1);
}

static void inflate_all(const unsigned char *bytes, size_t length, char *out, size_t size)
{
    z_stream stream = {0};
    assert_int_equal(inflateInit2(&stream, 15 + 16), Z_OK);
    stream.next_in = (Bytef *)(uintptr_t)bytes;
    stream.avail_in = (uInt)length;
    stream.next_out = (Bytef *)out;
    stream.avail_out = (uInt)size;
    assert_int_equal(inflate(&stream, Z_FINISH), Z_STREAM_END);
    assert_int_equal(stream.total_out, size);
    inflateEnd(&stream);
}

static void test_what_is_given(void **state)
{
    struct bundle_body body, again;
    struct error err = {0};
    (void)state;
    /* Beyond the size from which it compresses faster, in one way or another. */
    struct bundle_output *output = open_output(10000000);
    assert_int_equal(take(output, 30, 100000), 0);
    assert_int_equal(bundle_output_finish(output, &body, &err), 0);
    assert_int_equal(body.json_bytes, 3000000);
    assert_true(body.gzip_bytes > 0 && body.gzip_bytes < 30000);
    assert_int_equal(strlen(body.tag), BUNDLE_TAG_LENGTH);
    size_t all = body.json_bytes + body.gzip_bytes;
    const char *bytes = mmap(NULL, all, PROT_READ, MAP_SHARED, body.descriptor, 0);
    assert_ptr_not_equal(bytes, MAP_FAILED);
    char *inflated = malloc(body.json_bytes);
    inflate_all((const unsigned char *)bytes + body.json_bytes, body.gzip_bytes, inflated, body.json_bytes);
    assert_memory_equal(inflated, bytes, body.json_bytes);
    free(inflated);
    munmap((void *)(uintptr_t)bytes, all);
    assert_int_equal(ftruncate(body.descriptor, 1), -1);
    assert_int_equal(pwrite(body.descriptor, "y", 1, 0), -1);
    close(body.descriptor);
    /* The same text in other pieces has the same tag; another text has another one. */
    output = open_output(10000000);
    assert_int_equal(take(output, 3, 1000000), 0);
    assert_int_equal(bundle_output_finish(output, &again, &err), 0);
    assert_string_equal(again.tag, body.tag);
    close(again.descriptor);
    output = open_output(10000000);
    assert_int_equal(take(output, 1, 2999999), 0);
    assert_int_equal(bundle_output_finish(output, &again, &err), 0);
    assert_string_not_equal(again.tag, body.tag);
    close(again.descriptor);
}

/* A few bytes get larger by gzip: there is none. */
static void test_no_gzip_that_is_larger(void **state)
{
    struct bundle_body body;
    struct error err = {0};
    (void)state;
    struct bundle_output *output = open_output(10);
    assert_int_equal(take(output, 1, 3), 0);
    assert_int_equal(bundle_output_finish(output, &body, &err), 0);
    assert_int_equal(body.gzip_bytes, 0);
    assert_int_equal(lseek(body.descriptor, 0, SEEK_END), 3);
    close(body.descriptor);
    bundle_output_abandon(open_output(10));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_limit_of_the_whole),
        cmocka_unit_test(test_what_is_given), cmocka_unit_test(test_no_gzip_that_is_larger)};
    return cmocka_run_group_tests_name("server/policy/bundle/bundle_output", tests, NULL, NULL);
}
