/* Children with limits: their output, their reasons, and their end with all that they started. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "shm/common/clock.h"
#include "server/policy/source/job.h"
#include "tests/unit/server/policy/source/source_harness.h"

static struct source_harness harness;

static struct {
    bool done;
    bool ok;
    int status;
    bool too_much;
    bool late;
    bool file_too_large;
    char output[8192];
    char reason[8192];
} last;

static void on_done(void *context, const struct job_result *result)
{
    assert_ptr_equal(context, &last);
    assert_false(last.done);
    last.done = true;
    last.ok = result->ok;
    last.status = result->status;
    last.too_much = result->too_much;
    last.late = result->late;
    last.file_too_large = result->file_too_large;
    snprintf(last.output, sizeof last.output, "%.*s", (int)result->output.length,
        result->output.data ? result->output.data : "");
    snprintf(last.reason, sizeof last.reason, "%.*s", (int)result->reason.length, result->reason.data);
}

static struct job *begin(const char *command, struct job_settings settings)
{
    const char *const argv[] = {"sh", "-c", command, NULL};
    memset(&last, 0, sizeof last);
    settings.argv = settings.argv ? settings.argv : argv;
    settings.stall_seconds = settings.stall_seconds > 0 ? settings.stall_seconds : 30;
    settings.output_max = settings.output_max ? settings.output_max : 1000;
    settings.done = on_done;
    settings.context = &last;
    return job_start(&harness.policy, &settings);
}

static void run(const char *command, struct job_settings settings)
{
    begin(command, settings);
    assert_true(source_harness_run(&harness, &last.done));
    assert_null(LIST_FIRST(&harness.policy.jobs));
    assert_int_equal(worker_table_child_group(harness.master, 1), 0);
}

static int open_harness(void **state)
{
    (void)state;
    source_harness_open(&harness, 1 << 20);
    return 0;
}

static int close_harness(void **state)
{
    (void)state;
    source_harness_close(&harness);
    return 0;
}

static void test_output_and_status(void **state)
{
    (void)state;
    run("printf 'one\\ntwo'; echo three >&2", (struct job_settings){0});
    assert_true(last.ok);
    assert_int_equal(last.status, 0);
    assert_string_equal(last.output, "one\ntwo");
    assert_string_equal(last.reason, "");
    run("echo why >&2; exit 3", (struct job_settings){0});
    assert_false(last.ok);
    assert_int_equal(last.status, 3);
    assert_string_equal(last.reason, "why");
    run("kill -9 $$", (struct job_settings){0});
    assert_int_equal(last.status, -1);
    assert_string_equal(last.reason, "sh was killed by signal 9");
    const char *const nowhere[] = {"/nowhere/program", NULL};
    run("", (struct job_settings){.argv = nowhere});
    assert_false(last.ok);
    assert_string_equal(last.reason, "/nowhere/program: the program can't be started");
}

static void test_limits(void **state)
{
    (void)state;
    run("yes", (struct job_settings){.output_max = 10000});
    assert_true(last.too_much && !last.ok);
    assert_non_null(strstr(last.reason, "sh wrote more than 10000 bytes"));
    run("sleep 60", (struct job_settings){.stall_seconds = 0.3});
    assert_true(last.late && !last.ok);
    assert_non_null(strstr(last.reason, "made no progress in time and was killed"));
    /* A byte now and then is progress, but not beyond the limit of the whole. */
    run("for i in 1 2 3 4 5 6; do printf . >&2; sleep 0.1; done",
        (struct job_settings){.stall_seconds = 0.4});
    assert_true(last.ok);
    run("while :; do printf . >&2; sleep 0.05; done",
        (struct job_settings){.stall_seconds = 0.4, .limit_seconds = 0.5});
    assert_true(last.late && !last.ok);
    run("cd /tmp && LC_ALL=C dd if=/dev/zero of=/tmp/opald-test-job-file bs=1000 count=10",
        (struct job_settings){.file_bytes_max = 5000});
    unlink("/tmp/opald-test-job-file");
    assert_true(last.file_too_large && !last.ok);
    /* Without that limit the words mean nothing. */
    run("echo 'File too large' >&2; exit 1", (struct job_settings){0});
    assert_false(last.file_too_large);
}

static void test_environment(void **state)
{
    const char *const given[] = {"GIVEN=yes", "HOME=/given", NULL};
    (void)state;
    setenv("OPAL_SECRET", "secret", 1);
    run("echo $GIVEN $HOME $OPAL_SECRET $LC_ALL $GIT_TERMINAL_PROMPT",
        (struct job_settings){.environment = given});
    assert_string_equal(last.output, "yes /given C 0\n");
    run("echo $GIVEN $OPAL_SECRET", (struct job_settings){.environment = given, .whole_environment = true});
    assert_string_equal(last.output, "yes secret\n");
    unsetenv("OPAL_SECRET");
}

/* True when the process is gone, or a zombie that its new parent has not reaped. */
static bool is_gone(pid_t pid)
{
    char path[64], line[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return true;
    bool zombie = fgets(line, sizeof line, file) && strstr(line, ") Z ");
    fclose(file);
    return zombie;
}

static pid_t read_pid(const char *path)
{
    int pid = 0;
    for (unsigned i = 0; i < 500 && pid == 0; i++) {
        FILE *file = fopen(path, "r");
        if (file && fscanf(file, "%d", &pid) != 1)
            pid = 0;
        if (file)
            fclose(file);
        source_harness_run_for(&harness, 10);
    }
    assert_true(pid > 0);
    return pid;
}

/* What a child has started ends with it, whether it ends by itself, is abandoned, or the process ends. */
static void test_the_whole_group_ends(void **state)
{
    char command[256], path[128];
    (void)state;
    snprintf(path, sizeof path, "%s/pid", harness.folder);
    snprintf(command, sizeof command, "sleep 60 >/dev/null 2>&1 & echo $! >%s", path);
    run(command, (struct job_settings){0});
    pid_t pid = read_pid(path);
    for (unsigned i = 0; i < 500 && !is_gone(pid); i++)
        source_harness_run_for(&harness, 10);
    assert_true(is_gone(pid));
    for (int all = 0; all < 2; all++) {
        unlink(path);
        snprintf(command, sizeof command, "sleep 60 & echo $! >%s; wait", path);
        struct job *job = begin(command, (struct job_settings){0});
        assert_true(worker_table_child_group(harness.master, 1) > 0);
        pid = read_pid(path);
        assert_false(is_gone(pid));
        if (all)
            job_kill_all(&harness.policy);
        else
            job_abandon(job);
        for (unsigned i = 0; i < 500 && !is_gone(pid); i++)
            source_harness_run_for(&harness, 10);
        assert_true(is_gone(pid));
        source_harness_run_for(&harness, 50);
        assert_false(last.done);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_output_and_status),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_environment),
        cmocka_unit_test(test_the_whole_group_ends)};
    return cmocka_run_group_tests_name("server/policy/source/job", tests, open_harness, close_harness);
}
