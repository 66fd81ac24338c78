/* Lines, package names, UTF-8 and paths as Python has them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "server/policy/bundle/bundle_path.h"
#include "server/policy/bundle/bundle_text.h"

static void assert_slice(struct slice got, const char *wanted)
{
    assert_int_equal(got.length, strlen(wanted));
    assert_memory_equal(got.data, wanted, got.length);
}

static void test_lines(void **state)
{
    static const char *const wanted[] = {"a", "", "b", "c", "d", "e", "f", "g", "h", "i", "", "j"};
    struct slice rest = SLICE_LITERAL("a\n\nb\r\nc\rd\ve\ff\x1cg\xc2\x85h\xe2\x80\xa8i\xe2\x80\xa9\rj");
    struct slice line;
    (void)state;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        assert_true(bundle_text_line(&rest, &line));
        assert_slice(line, wanted[i]);
    }
    assert_false(bundle_text_line(&rest, &line));
    rest = SLICE_LITERAL("last\n");
    assert_true(bundle_text_line(&rest, &line));
    assert_false(bundle_text_line(&rest, &line)); /* a final end makes no further line */
    rest = SLICE_LITERAL("\xe2\x80");             /* breaks off */
    assert_true(bundle_text_line(&rest, &line));
    assert_slice(line, "\xe2\x80");
}

static void assert_package(const char *text, const char *wanted)
{
    assert_slice(bundle_text_package(slice_from_string(text)), wanted);
}

static void test_package(void **state)
{
    (void)state;
    assert_package("package a.b\n", "a.b");
    assert_package("# first\r\npackage a.b[\"x\"]\r\n", "a.b[\"x\"]");
    assert_package("package \t\xc2\xa0\xe3\x80\x80 a", "a");
    assert_package("package a\nstuff\npackage b", "a");
    assert_package("package a_b\npackage b", "b"); /* the first that fits */
    assert_package("x\xe2\x80\xa8package b", "b");
    assert_package(" package a", "");
    assert_package("package a ", "");
    assert_package("package a # c", "");
    assert_package("package a-b", "");
    assert_package("package", "");
    assert_package("package ", "");
    assert_package("packagea", "");
    assert_package("\xef\xbb\xbfpackage a", "");
    assert_package("package \xe2\x80", "");
    assert_package("", "");
}

static void assert_normal(const char *path, const char *wanted)
{
    struct text out = {0};
    bundle_path_normalize(slice_from_string(path), &out);
    assert_slice(text_slice(&out), wanted);
    text_free(&out);
}

static void test_normal_paths(void **state)
{
    (void)state;
    assert_normal("", ".");
    assert_normal(".", ".");
    assert_normal("./", ".");
    assert_normal("a/", "a");
    assert_normal("a//b/./c", "a/b/c");
    assert_normal("a/../b", "a/../b");
    assert_normal("..", "..");
    assert_normal("/a", "/a");
    assert_normal("//a", "//a");
    assert_normal("///a", "/a");
    assert_normal("/", "/");
    assert_normal(".a/.b", ".a/.b");
}

static void test_parts_of_paths(void **state)
{
    (void)state;
    assert_slice(bundle_path_suffix(SLICE_LITERAL("a/b.rego")), ".rego");
    assert_slice(bundle_path_suffix(SLICE_LITERAL("a.b/c")), "");
    assert_slice(bundle_path_suffix(SLICE_LITERAL(".rego")), "");
    assert_slice(bundle_path_suffix(SLICE_LITERAL("..rego")), ".rego");
    assert_slice(bundle_path_suffix(SLICE_LITERAL("a.")), "");
    assert_slice(bundle_path_suffix(SLICE_LITERAL("data.json.rego")), ".rego");
    assert_slice(bundle_path_name(SLICE_LITERAL("a/b/data.json")), "data.json");
    assert_slice(bundle_path_parent(SLICE_LITERAL("a/b/data.json")), "a/b");
    assert_slice(bundle_path_parent(SLICE_LITERAL("data.json")), ".");
    assert_true(bundle_path_is_under(SLICE_LITERAL("a/b"), SLICE_LITERAL("a")));
    assert_true(bundle_path_is_under(SLICE_LITERAL("a"), SLICE_LITERAL(".")));
    assert_false(bundle_path_is_under(SLICE_LITERAL("a"), SLICE_LITERAL("a")));
    assert_false(bundle_path_is_under(SLICE_LITERAL("ab/c"), SLICE_LITERAL("a")));
    assert_false(bundle_path_is_under(SLICE_LITERAL("a"), SLICE_LITERAL("a/b")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_package),
        cmocka_unit_test(test_normal_paths),
        cmocka_unit_test(test_parts_of_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
