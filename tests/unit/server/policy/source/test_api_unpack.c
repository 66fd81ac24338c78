/* What was unpacked is on the disk before anybody hears of it. syncfs is this file's own here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/policy/source/api_unpack.h"

static char folder[] = "/tmp/opald-unpack-XXXXXX";
static unsigned calls;
static int failure;
static bool written; /* the commit was there at the call */

int syncfs(int descriptor)
{
    calls++;
    /* in the repository, whose branch has been made */
    written = faccessat(descriptor, "refs/heads/" API_UNPACK_BRANCH, F_OK, 0) == 0;
    errno = failure;
    return failure ? -1 : 0;
}

static int unpack(char *hash, struct error *err)
{
    char archive[100], repository[100];
    snprintf(archive, sizeof archive, "%s/bundle.tar.gz", folder);
    snprintf(repository, sizeof repository, "%s/repository", folder);
    const struct api_unpack settings = {.archive = open(archive, O_RDONLY | O_CLOEXEC),
        .repository = repository,
        .pattern = "*",
        .message = "m",
        .bytes_max = 1000,
        .members_max = 10};
    assert_true(settings.archive >= 0);
    calls = 0;
    written = false;
    /* its signs of life go to standard error, which a log of both has before the test's own lines */
    fflush(stdout);
    int output = dup(STDERR_FILENO), nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_true(output >= 0 && nowhere >= 0 && dup2(nowhere, STDERR_FILENO) >= 0);
    int result = api_unpack_run(&settings, hash, err);
    fflush(stdout);
    assert_true(dup2(output, STDERR_FILENO) >= 0);
    close(output);
    close(nowhere);
    close(settings.archive);
    return result;
}

static void test_on_the_disk_before_it_is_named(void **state)
{
    char hash[41] = "";
    struct error err = {0};
    (void)state;
    assert_int_equal(unpack(hash, &err), 0);
    assert_int_equal(calls, 1);
    assert_true(written);
    assert_int_equal(strlen(hash), 40);
}

static void test_a_disk_that_fails(void **state)
{
    char hash[41] = "";
    struct error err = {0};
    (void)state;
    failure = EIO;
    assert_int_equal(unpack(hash, &err), -1);
    failure = 0;
    assert_int_equal(calls, 1);
    assert_non_null(strstr(err.text, "cannot write to the disk: Input/output error"));
    assert_int_equal(unpack(hash, &err), 0); /* the next try, of the same files, does it all the same */
    assert_int_equal(calls, 1);
}

static int make_archive(void **state)
{
    char command[300];
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(command, sizeof command,
        "cd %s && mkdir a && echo 'package a' >a/a.rego && tar -czf bundle.tar.gz a", folder);
    return system(command);
}

static int remove_all(void **state)
{
    char command[100];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_on_the_disk_before_it_is_named),
        cmocka_unit_test(test_a_disk_that_fails),
    };
    return cmocka_run_group_tests(tests, make_archive, remove_all);
}
