/* Which lines of a failed child's error output reach the log. The outputs are those of git 2.39 and OpenSSH
 * 9.2. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "shm/common/child.h"
#include "server/policy/source/job_reason.h"

#define EXITED(status) ((status) << 8)

struct row {
    const char *errors;
    struct job_end end;
    const char *reason;
};

static const struct row rows[] = {
    /* A key that ssh cannot read: the line that explains it comes first and is not the loudest. */
    {"Cloning into '/x/.opald-work-1'...\n"
     "Load key \"/root/.ssh/opal_repo_ssh_key\": error in libcrypto\r\n"
     "git@127.0.0.1: Permission denied (publickey).\r\n"
     "fatal: Could not read from remote repository.\n\n"
     "Please make sure you have the correct access rights\nand the repository exists.\n",
        {.name = "git", .status = EXITED(128)},
        "Load key \"/root/.ssh/opal_repo_ssh_key\": error in libcrypto; git@127.0.0.1: Permission denied "
        "(publickey).; "
        "fatal: Could not read from remote repository."},
    /* An image that runs under a uid without a name. */
    {"No user exists for uid 1000700000\r\nfatal: Could not read from remote repository.\n",
        {.name = "git", .status = EXITED(128)},
        "No user exists for uid 1000700000; fatal: Could not read from remote repository."},
    {"ssh: Could not resolve hostname nowhere.invalid: Name or service not known\r\nfatal: Could not read "
     "from remote "
     "repository.\n",
        {.name = "git", .status = EXITED(128)},
        "ssh: Could not resolve hostname nowhere.invalid: Name or service not known; fatal: Could not read "
        "from remote "
        "repository."},
    {"remote: Enumerating objects: 5, done.\nremote: Counting objects:  20% (1/5)\rremote: Counting objects: "
     "100% "
     "(5/5)\rremote: Counting objects: 100% (5/5), done.\nremote: Total 5 (delta 0), reused 0 (delta 0)\n"
     "Receiving objects:  40% (2/5)\rfatal: write error: No space left on device\nfatal: fetch-pack: invalid "
     "index-pack "
     "output\n",
        {.name = "git", .status = EXITED(128)},
        "fatal: write error: No space left on device; fatal: fetch-pack: invalid index-pack output"},
    {"From /remotes/policies\n + 1f2e...77ab master -> origin/master (forced update)\nremote: the repository "
     "is 100% "
     "gone\nfatal: bad\n",
        {.name = "git", .status = EXITED(1)}, "remote: the repository is 100% gone; fatal: bad"},
    {"1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n", {.name = "git", .status = EXITED(1)}, "3; 4; 5; 6; 7; 8; 9; 10"},
    {"\r\r\ropald: the bundle is damaged", {.name = "opald", .status = EXITED(1)},
        "opald: the bundle is damaged"},
    {"", {.name = "git", .status = EXITED(2)}, "git ended with status 2"},
    {"\r\r\n", {.name = "git", .status = 9}, "git was killed by signal 9"},
    {"", {.name = "git", .status = EXITED(CHILD_STATUS_NO_START)}, "git: the program can't be started"},
    {"", {.name = "git", .status = 9, .late = true},
        "git made no progress in time and was killed; git was killed by signal 9"},
    {"fatal: x", {.name = "git", .status = 9, .too_much = true, .output_max = 7},
        "git wrote more than 7 bytes; fatal: x"},
};

static void test_reasons(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct text out = {0};
        job_reason_append(&out, slice_from_string(rows[i].errors), &rows[i].end);
        assert_string_equal(out.data, rows[i].reason);
        text_free(&out);
    }
}

static void test_file_too_large(void **state)
{
    (void)state;
    assert_true(job_reason_is_file_too_large(slice_from_string("fatal: write error: File too large\n")));
    assert_false(job_reason_is_file_too_large(slice_from_string("fatal: write error: No space left\n")));
    assert_false(job_reason_is_file_too_large((struct slice){NULL, 0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reasons), cmocka_unit_test(test_file_too_large)};
    return cmocka_run_group_tests_name("server/policy/source/job_reason", tests, NULL, NULL);
}
