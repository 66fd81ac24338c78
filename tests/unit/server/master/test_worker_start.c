/* What the master hands to a worker must arrive as it was, through a real fork and exec. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/master/worker_start.h"

static struct worker_descriptors example(void)
{
    struct worker_descriptors descriptors = {
        .slot = 3, .listener_count = 2, .slot_count = 4, .handoff_receive = -1, .tls_store = -1};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    descriptors.segment = (struct segment_descriptors){null, dup(null), dup(null)};
    descriptors.lifeline = fcntl(null, F_DUPFD_CLOEXEC, 0);
    descriptors.listeners[0] = fcntl(null, F_DUPFD_CLOEXEC, 0);
    descriptors.listeners[1] = fcntl(null, F_DUPFD_CLOEXEC, 0);
    for (unsigned i = 0; i < descriptors.slot_count; i++)
        descriptors.handoff_send[i] = i == 2 ? -1 : fcntl(null, F_DUPFD_CLOEXEC, 0);
    return descriptors;
}

/* The child: this program again. Exits with 0 when all came through and every descriptor is open. */
static int child(int argc, char **argv)
{
    struct worker_descriptors got;
    struct error err = {0};
    if (argc != 4 || strcmp(argv[2], "run") != 0 || strcmp(argv[3], "--port=1") != 0)
        return 10;
    if (worker_start_receive(&got, &err) < 0)
        return 11;
    if (got.slot != 3 || got.listener_count != 2 || got.slot_count != 4 || got.handoff_receive != -1 ||
        got.tls_store != -1)
        return 12;
    if (got.handoff_send[2] != -1)
        return 13;
    const int open_ones[] = {got.segment.memory, got.segment.doorbell, got.segment.wake, got.lifeline,
        got.listeners[0], got.listeners[1], got.handoff_send[0], got.handoff_send[1], got.handoff_send[3]};
    for (size_t i = 0; i < sizeof open_ones / sizeof open_ones[0]; i++)
        if (fcntl(open_ones[i], F_GETFD) < 0)
            return 14;
    if (getenv(WORKER_START_VARIABLE))
        return 15; /* not for the worker's own children */
    return 0;
}

static void test_through_exec(void **state)
{
    struct worker_descriptors descriptors = example();
    char *argv[] = {(char *)"opald", (char *)"run", (char *)"--port=1", NULL};
    struct error err = {0};
    int status;
    (void)state;
    /* A value from outside must not win. */
    setenv(WORKER_START_VARIABLE, "0 0 0 0 0 0 0 0", 1);
    pid_t pid = worker_start(argv, 3, &descriptors, &err);
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    /* The master's own copies stay close-on-exec: nothing else it might start inherits them. */
    assert_true(fcntl(descriptors.lifeline, F_GETFD) & FD_CLOEXEC);
    unsetenv(WORKER_START_VARIABLE);
}

static void test_malformed(void **state)
{
    static const char *const wrong[] = {"", "x", "1 2 3", "0 1 2 3 4 5 1", "0 1 2 3 4 5 99",
        "500 1 2 3 4 5 0 0", "0 1 2 3 4 -7 0 0", "0 1 2 3 4 5 0 9999", "0 1 2 3 4 5 0 3 1 1",
        "99999999999999999999 1 1 1 1 1 0 0"};
    struct worker_descriptors got;
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct error err = {0};
        setenv(WORKER_START_VARIABLE, wrong[i], 1);
        assert_int_equal(worker_start_receive(&got, &err), -1);
        assert_true(strlen(err.text) > 0);
    }
    unsetenv(WORKER_START_VARIABLE);
    struct error err = {0};
    assert_int_equal(worker_start_receive(&got, &err), -1);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--as-worker") == 0)
        return child(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_through_exec), cmocka_unit_test(test_malformed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
