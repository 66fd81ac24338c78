/* Paths, as pathlib.PurePosixPath of Python 3.11 gives them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "server/policy/bundle/bundle_path.h"

static void test_normal_form(void **state)
{
    static const char *const rows[][2] = {{"", "."}, {".", "."}, {"./", "."}, {"a", "a"}, {"a/", "a"},
        {"a//b", "a/b"}, {"./a/./b/.", "a/b"}, {"a/../b", "a/../b"}, {"/", "/"}, {"//", "//"}, {"///", "/"},
        {"/a", "/a"}, {"//a", "//a"}, {"///a/", "/a"}, {"..", ".."}, {".a/..b", ".a/..b"}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct text out = {0};
        bundle_path_normalize(slice_from_string(rows[i][0]), &out);
        assert_string_equal(out.data, rows[i][1]);
        text_free(&out);
    }
}

static void test_parts(void **state)
{
    static const struct {
        const char *path;
        const char *name;
        const char *suffix;
        const char *parent;
    } rows[] = {{"a/b.rego", "b.rego", ".rego", "a"}, {"b.tar.gz", "b.tar.gz", ".gz", "."},
        {".rego", ".rego", "", "."}, {"a.", "a.", "", "."}, {"a", "a", "", "."}, {"a.b/c", "c", "", "a.b"},
        {"a/b/c.x", "c.x", ".x", "a/b"}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct slice path = slice_from_string(rows[i].path);
        assert_true(slice_equals_string(bundle_path_name(path), rows[i].name));
        assert_true(slice_equals_string(bundle_path_suffix(path), rows[i].suffix));
        assert_true(slice_equals_string(bundle_path_parent(path), rows[i].parent));
    }
}

static bool under(const char *path, const char *directory)
{
    return bundle_path_is_under(slice_from_string(path), slice_from_string(directory));
}

static void test_under(void **state)
{
    (void)state;
    assert_true(under("a", ".") && under("a/b", "a") && under("a/b/c", "a"));
    assert_false(
        under(".", ".") || under("a", "a") || under("ab", "a") || under("a", "a/b") || under("b/a", "a"));
}

static void test_order_and_safety(void **state)
{
    (void)state;
    assert_true(bundle_path_compare(SLICE_LITERAL("a"), SLICE_LITERAL("ab")) < 0);
    assert_true(bundle_path_compare(SLICE_LITERAL("b"), SLICE_LITERAL("ab")) > 0);
    assert_int_equal(bundle_path_compare(SLICE_LITERAL("ab"), SLICE_LITERAL("ab")), 0);
    assert_true(bundle_path_compare(SLICE_LITERAL("\xff"), SLICE_LITERAL("a")) > 0);
    assert_true(bundle_path_is_safe(SLICE_LITERAL("a/b.rego")));
    static const char *const unsafe[] = {"", "/a", "a//b", "a/", "a/../b", "..", ".", "a/."};
    for (size_t i = 0; i < sizeof unsafe / sizeof *unsafe; i++)
        assert_false(bundle_path_is_safe(slice_from_string(unsafe[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_normal_form), cmocka_unit_test(test_parts),
        cmocka_unit_test(test_under), cmocka_unit_test(test_order_and_safety)};
    return cmocka_run_group_tests_name("server/policy/bundle/bundle_path", tests, NULL, NULL);
}
