/* What git diff-tree prints, well-formed and not. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "server/policy/bundle_diff.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_cut_off),
        cmocka_unit_test(test_not_understood),
        cmocka_unit_test(test_git_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
