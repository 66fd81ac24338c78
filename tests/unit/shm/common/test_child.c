/* Starting a program: shm/common/child.h. The child is a shell. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "shm/common/child.h"

static struct child_settings shell(const char *const *argv)
{
    return (struct child_settings){.program = "sh", .argv = argv};
}

/* Runs `script`, whose standard output goes to `out`; returns the exit status. */
static int run(struct child_settings settings, const char *script, char *out, size_t size)
{
    const char *const argv[] = {"sh", "-c", script, NULL};
    int ends[2];
    struct error err = {0};
    size_t used = 0;
    ssize_t length;
    int status;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    const struct child_descriptor descriptors[] = {
        {.from = CHILD_NOTHING, .to = STDIN_FILENO}, {.from = ends[1], .to = STDOUT_FILENO}};
    settings.argv = argv;
    settings.descriptors = descriptors;
    settings.descriptor_count = 2;
    pid_t pid = child_start(&settings, &err);
    assert_true(pid > 0);
    close(ends[1]);
    while ((length = read(ends[0], out + used, size - 1 - used)) > 0)
        used += (size_t)length;
    out[used] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void arguments_output_and_status(void **state)
{
    char out[256];
    (void)state;
    assert_int_equal(run(shell(NULL), "cat; echo hello; exit 3", out, sizeof out), 3);
    assert_string_equal(out, "hello\n"); /* and nothing came from standard input */
}

static bool keeps_path(const char *assignment, const void *name)
{
    return strncmp(assignment, name, strlen(name)) == 0;
}

static void the_environment_is_what_is_kept_and_ours_wins(void **state)
{
    static const char *const own[] = {"A=1", "SHM_TEST=ours", NULL};
    char out[256];
    (void)state;
    setenv("SHM_TEST", "from outside", 1);
    setenv("SHM_TESTS", "another name", 1);
    struct child_settings settings = shell(NULL);
    const char **environment = child_make_environment(own, NULL, NULL);
    settings.environment = environment;
    assert_int_equal(run(settings, "echo $A $SHM_TEST $SHM_TESTS", out, sizeof out), 0);
    assert_string_equal(out, "1 ours another name\n");
    free(environment);
    environment = child_make_environment(own, keeps_path, "PATH=");
    settings.environment = environment;
    assert_int_equal(run(settings, "echo $A $SHM_TEST $SHM_TESTS", out, sizeof out), 0);
    assert_string_equal(out, "1 ours\n");
    free(environment);
}

/* Blocked, ignored and handled signals are ours, not the child's. */
static void signals_start_afresh(void **state)
{
    char out[256];
    sigset_t mask, before;
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    sigfillset(&mask);
    sigprocmask(SIG_SETMASK, &mask, &before);
    assert_int_equal(run(shell(NULL), "kill -USR1 $$; echo survived", out, sizeof out), -SIGUSR1);
    assert_int_equal(run(shell(NULL), "kill -PIPE $$; echo survived", out, sizeof out), -SIGPIPE);
    sigprocmask(SIG_SETMASK, &before, NULL);
    signal(SIGUSR1, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
}

static void a_group_of_its_own(void **state)
{
    char out[256];
    struct child_settings settings = shell(NULL);
    (void)state;
    settings.own_group = true;
    assert_int_equal(
        run(settings, "test \"$(ps -o pgid= -p $$ | tr -d ' ')\" = $$ && echo yes", out, sizeof out), 0);
    assert_string_equal(out, "yes\n");
}

static void a_file_has_its_limit(void **state)
{
    char out[256], path[] = "/tmp/test_child.XXXXXX";
    struct child_settings settings = shell(NULL);
    (void)state;
    int file = mkstemp(path);
    settings.file_bytes_max = 1000;
    setenv("SHM_TEST", path, 1);
    assert_int_not_equal(run(settings, "head -c 5000 /dev/zero >$SHM_TEST 2>/dev/null", out, sizeof out), 0);
    assert_int_equal(lseek(file, 0, SEEK_END), 1000);
    close(file);
    unlink(path);
}

static void a_program_that_is_not_there(void **state)
{
    char out[256];
    (void)state;
    struct child_settings settings = {.program = "/nowhere/such-a-program"};
    assert_int_equal(run(settings, "", out, sizeof out), CHILD_STATUS_NO_START);
    assert_string_equal(out, "");
}

/* A parent in between is killed; the end of its child closes the last writing end of the pipe. */
static void dies_with_its_parent(void **state)
{
    int ends[2];
    char byte;
    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t parent = fork();
    if (parent == 0) {
        const char *const argv[] = {"sh", "-c", "echo; exec sleep 100", NULL};
        const struct child_descriptor descriptor = {.from = ends[1], .to = STDOUT_FILENO};
        const struct child_settings settings = {.program = "sh",
            .argv = argv,
            .descriptors = &descriptor,
            .descriptor_count = 1,
            .dies_with_parent = true};
        if (child_start(&settings, NULL) < 0)
            _exit(1);
        close(ends[1]);
        pause();
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 1); /* it runs */
    kill(parent, SIGKILL);
    assert_int_equal(waitpid(parent, NULL, 0), parent);
    assert_int_equal(read(ends[0], &byte, 1), 0); /* and no longer */
    close(ends[0]);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_output_and_status),
        cmocka_unit_test(the_environment_is_what_is_kept_and_ours_wins),
        cmocka_unit_test(signals_start_afresh),
        cmocka_unit_test(a_group_of_its_own),
        cmocka_unit_test(a_file_has_its_limit),
        cmocka_unit_test(a_program_that_is_not_there),
        cmocka_unit_test(dies_with_its_parent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
