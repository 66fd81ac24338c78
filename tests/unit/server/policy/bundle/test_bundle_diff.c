/* What git diff-tree prints, well-formed and not. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "server/policy/bundle/bundle_diff.h"
#include "server/policy/bundle/bundle_modules.h"

#define A "0123456789012345678901234567890123456789"
#define B "abcdefabcdefabcdefabcdefabcdefabcdefabcd"

static int parse(struct bundle_diff *diff, const char *bytes, size_t length, size_t most, struct error *err)
{
    memset(diff, 0, sizeof *diff);
    memset(err, 0, sizeof *err);
    text_append(&diff->output, bytes, length);
    return bundle_diff_parse(diff, most, err);
}
#define PARSE(diff, literal, most, err) parse(diff, literal, sizeof(literal) - 1, most, err)

static void test_changes(void **state)
{
    static const char output[] = ":100644 100755 " A " " B " M\0a b\n:c\0"
                                 ":100644 100644 " A " " B " R086\0old\0new/\xff\0"
                                 ":000000 160000 " A " " B " A\0sub\0";
    struct bundle_diff diff;
    struct error err;
    (void)state;
    assert_int_equal(PARSE(&diff, output, 3, &err), 0);
    assert_int_equal(diff.count, 3);
    assert_int_equal(diff.changes[0].status, 'M');
    assert_int_equal(diff.changes[0].new_mode, 0100755);
    assert_true(slice_equals_string(diff.changes[0].old_path, "a b\n:c"));
    assert_true(slice_equals(diff.changes[0].old_path, diff.changes[0].new_path));
    assert_string_equal(diff.changes[0].old_hash, A);
    assert_string_equal(diff.changes[0].new_hash, B);
    assert_int_equal(diff.changes[1].status, 'R');
    assert_true(slice_equals_string(diff.changes[1].old_path, "old"));
    assert_true(slice_equals_string(diff.changes[1].new_path, "new/\xff"));
    assert_int_equal(diff.changes[2].old_mode, 0);
    assert_int_equal(diff.changes[2].new_mode, 0160000);
    bundle_diff_free(&diff);

    assert_int_equal(PARSE(&diff, output, 2, &err), -1); /* more than allowed */
    assert_int_equal(err.code, E2BIG);
    bundle_diff_free(&diff);
    assert_int_equal(PARSE(&diff, "", 0, &err), 0);
    bundle_diff_free(&diff);
}

/* Cut off anywhere, the output is refused (but at the end of a change). */
static void test_cut_off(void **state)
{
    static const char output[] = ":100644 100644 " A " " B " R086\0old\0new";
    struct bundle_diff diff;
    struct error err;
    (void)state;
    for (size_t length = 1; length < sizeof output - 1; length++) {
        assert_int_equal(parse(&diff, output, length, 10, &err), -1);
        assert_int_equal(err.code, EPROTO);
        bundle_diff_free(&diff);
    }
    assert_int_equal(parse(&diff, output, sizeof output, 10, &err), 0);
    bundle_diff_free(&diff);
}

static void test_not_understood(void **state)
{
    struct bundle_diff diff;
    struct error err;
    (void)state;
    assert_int_equal(PARSE(&diff, "100644 100644 " A " " B " M\0a\0", 9, &err), -1);
    bundle_diff_free(&diff);
    assert_int_equal(PARSE(&diff, ":100648 100644 " A " " B " M\0a\0", 9, &err), -1);
    bundle_diff_free(&diff);
    assert_int_equal(PARSE(&diff, ":100644 100644 " A "x " B " M\0a\0", 9, &err), -1);
    bundle_diff_free(&diff);
    assert_int_equal(PARSE(&diff, ":100644 100644 g" A " " B " M\0a\0", 9, &err), -1);
    bundle_diff_free(&diff);
    assert_int_equal(PARSE(&diff, ":100644 100644 " A " " B " X\0a\0", 9, &err), -1);
    bundle_diff_free(&diff);
    assert_int_equal(PARSE(&diff, ":100644 100644 " A " " B " M\0\0", 9, &err), -1);
    bundle_diff_free(&diff);
}

static void test_git_fails(void **state)
{
    struct bundle_diff diff = {0};
    struct error err = {0};
    (void)state;
    assert_int_equal(bundle_diff_run(&diff, "/nowhere", A, B, 10, &err), -1);
    assert_non_null(strstr(err.text, "git diff-tree failed"));
    bundle_diff_free(&diff);
}

/* A made tree may hold entries that no file system could; a whole bundle passes over them, so its difference
 * has to as well. */
static void test_names_that_lead_elsewhere(void **state)
{
    static char *extension[] = {".rego"};
    static const struct config_list extensions = {extension, 1}, none = {NULL, 0};
    static const struct bundle_rules rules = {
        .extensions = &extensions, .policy_extensions = &extensions, .ignore = &none};
    static const struct slice root = {".", 1};
    static const struct bundle_directories directories = {&root, 1};
    struct bundle_modules modules = {0}, deleted = {0};
    struct bundle_diff diff;
    struct error err;
    (void)state;
    assert_int_equal(PARSE(&diff,
                         ":000000 100644 " A " " B " A\0../v1/x.rego\0"
                         ":000000 100644 " A " " B " A\0a/../x.rego\0"
                         ":000000 100644 " A " " B " A\0/x.rego\0"
                         ":000000 100644 " A " " B " A\0a//x.rego\0"
                         ":000000 100644 " A " " B " A\0a/./x.rego\0"
                         ":000000 100644 " A " " B " A\0a/..x.rego\0"
                         ":100644 000000 " A " " B " D\0../y.rego\0"
                         ":100644 000000 " A " " B " D\0b/y.rego\0",
                         9, &err),
        0);
    bundle_modules_of_diff(&modules, &diff, &directories, &rules);
    bundle_modules_deleted(&deleted, &diff, &directories, &rules);
    assert_int_equal(modules.count, 1);
    assert_true(slice_equals_string(modules.items[0].path, "a/..x.rego"));
    assert_int_equal(deleted.count, 1);
    assert_true(slice_equals_string(deleted.items[0].path, "b/y.rego"));
    bundle_modules_free(&modules);
    bundle_modules_free(&deleted);
    bundle_diff_free(&diff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_cut_off),
        cmocka_unit_test(test_not_understood),
        cmocka_unit_test(test_git_fails),
        cmocka_unit_test(test_names_that_lead_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
