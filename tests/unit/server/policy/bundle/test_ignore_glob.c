/* OPAL_BUNDLE_IGNORE: each answer was taken from the reference's matcher
 * (PathUtils.glob_style_match_path_to_list, Python 3.11). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/policy/bundle/ignore_glob.h"

static bool matches(const char *pattern, const char *path)
{
    char *items[] = {(char *)(uintptr_t)pattern};
    struct config_list list = {items, 1};
    return ignore_glob_find(&list, slice_from_string(path)) != NULL;
}

static void test_everything(void **state)
{
    (void)state;
    assert_true(matches("/", "a/b.rego"));
    assert_true(matches("/**", "b.rego"));
    assert_false(matches("", "b.rego"));
    assert_false(matches(".", "b.rego"));
}

static void test_directories(void **state)
{
    (void)state;
    assert_true(matches("a/**", "a"));
    assert_true(matches("a/**", "a/b/c.rego"));
    assert_false(matches("a/**", "ab/c.rego"));
    assert_false(matches("a/**", "x/a/c.rego"));
    assert_false(matches("/a/**", "a/c.rego"));
    assert_false(matches("a*/**", "ab/c.rego")); /* a plain prefix, no glob */
}

static void test_from_the_right(void **state)
{
    (void)state;
    assert_true(matches("a/*.rego", "a/b.rego"));
    assert_true(matches("a/*.rego", "x/a/b.rego"));
    assert_false(matches("a/*", "a/b/c.rego"));
    assert_true(matches("**/b.rego", "a/b.rego"));
    assert_false(matches("**/b.rego", "b.rego"));
    assert_false(matches("/a/b.rego", "a/b.rego"));
    assert_true(matches("./b.rego", "a/b.rego"));
    assert_true(matches("a//b.rego/", "a/b.rego"));
    assert_false(matches("B.rego", "b.rego"));
    assert_false(matches("x/a/b.rego", "a/b.rego"));
}

static void test_parts(void **state)
{
    (void)state;
    assert_true(matches("?.rego", "\xc3\xa9.rego")); /* one character, not one byte */
    assert_false(matches("??.rego", "\xc3\xa9.rego"));
    assert_true(matches("*", "a/.hidden"));
    assert_true(matches("a*b*c", "aXbbYc"));
    assert_false(matches("a*b*c", "aXbbY"));
    assert_true(matches("[a-c].rego", "b.rego"));
    assert_false(matches("[!a-c].rego", "b.rego"));
    assert_true(matches("[]x].rego", "].rego"));
    assert_true(matches("[!]x].rego", "y.rego"));
    assert_true(matches("[x", "[x")); /* no set without its end */
    assert_true(matches("[\xc3\xa0-\xc3\xbf].rego", "\xc3\xa9.rego"));
    assert_true(matches("[a-]x", "-x"));
    assert_true(matches("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"));
    assert_false(matches("*a*a*a*a*c", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"));
}

static void test_first_of_the_list(void **state)
{
    char *items[] = {(char *)(uintptr_t) "x", (char *)(uintptr_t) "b*", (char *)(uintptr_t) "*"};
    struct config_list list = {items, 3};
    (void)state;
    assert_ptr_equal(ignore_glob_find(&list, SLICE_LITERAL("a/b.rego")), items[1]);
    assert_null(ignore_glob_find(&(struct config_list){0}, SLICE_LITERAL("a")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything),
        cmocka_unit_test(test_directories),
        cmocka_unit_test(test_from_the_right),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_first_of_the_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
