/* Reading what git 2.39 prints. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "server/policy/source/git_command.h"

#define HASH "0123456789abcdef0123456789ABCDEF01234567"

static void test_hash(void **state)
{
    char hash[41] = "";
    (void)state;
    assert_true(git_command_take_hash(SLICE_LITERAL(HASH "\n"), hash));
    assert_string_equal(hash, HASH);
    assert_false(git_command_take_hash(SLICE_LITERAL("0123456789abcdef0123456789abcdef0123456\n"), hash));
    assert_false(git_command_take_hash(SLICE_LITERAL("g123456789abcdef0123456789abcdef01234567"), hash));
    assert_false(git_command_take_hash((struct slice){NULL, 0}, hash));
}

static void test_counted_bytes(void **state)
{
    (void)state;
    assert_int_equal(
        git_command_counted_bytes(SLICE_LITERAL("count: 3\nsize: 12\nin-pack: 7\npacks: 1\nsize-pack: "
                                                "1000\nprune-packable: 0\ngarbage: 0\nsize-garbage: 9\n")),
        1012 * 1024);
    assert_int_equal(git_command_counted_bytes(SLICE_LITERAL("count: 0\nsize: 0\n")), 0);
    assert_int_equal(git_command_counted_bytes(SLICE_LITERAL("count: 0\nsize: 5")), 5 * 1024);
    assert_int_equal(git_command_counted_bytes((struct slice){NULL, 0}), 0);
}

static void test_lacks_branch(void **state)
{
    (void)state;
    assert_true(git_command_lacks_branch(
        SLICE_LITERAL("warning: Could not find remote branch master to clone.; fatal: "
                      "Remote branch master not found in upstream origin")));
    assert_true(git_command_lacks_branch(SLICE_LITERAL("fatal: couldn't find remote ref refs/heads/master")));
    assert_false(git_command_lacks_branch(SLICE_LITERAL("fatal: Could not read from remote repository.")));
    assert_false(git_command_lacks_branch((struct slice){NULL, 0}));
}

static void test_default_branch(void **state)
{
    (void)state;
    assert_true(slice_equals_string(
        git_command_default_branch(SLICE_LITERAL("ref: refs/heads/release/1\tHEAD\n" HASH "\tHEAD\n")),
        "release/1"));
    assert_int_equal(git_command_default_branch(SLICE_LITERAL(HASH "\tHEAD\n")).length, 0);
    assert_int_equal(git_command_default_branch(SLICE_LITERAL("ref: refs/heads/main")).length, 0);
    assert_int_equal(git_command_default_branch((struct slice){NULL, 0}).length, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hash), cmocka_unit_test(test_counted_bytes),
        cmocka_unit_test(test_lacks_branch), cmocka_unit_test(test_default_branch)};
    return cmocka_run_group_tests_name("server/policy/source/git_command", tests, NULL, NULL);
}
