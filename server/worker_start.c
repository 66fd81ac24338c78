#include "server/worker_start.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/common/memory.h"
#include "server/common/text.h"

extern char **environ;

/* slot memory doorbell wake lifeline handoff_receive | listener_count listeners... | slot_count
 * handoff_send... */
static void worker_start_encode(const struct worker_descriptors *descriptors, struct text *out)
{
    text_append_format(out, "%s=%u %d %d %d %d %d %d", WORKER_START_VARIABLE, descriptors->slot,
        descriptors->segment.memory, descriptors->segment.doorbell, descriptors->segment.wake,
        descriptors->lifeline, descriptors->handoff_receive, descriptors->listener_count);
    for (int i = 0; i < descriptors->listener_count; i++)
        text_append_format(out, " %d", descriptors->listeners[i]);
    text_append_format(out, " %u", descriptors->slot_count);
    for (unsigned i = 0; i < descriptors->slot_count; i++)
        text_append_format(out, " %d", descriptors->handoff_send[i]);
}

static int worker_start_number(const char **cursor, long low, long high, long *out)
{
    char *end;
    errno = 0;
    *out = strtol(*cursor, &end, 10);
    if (errno || end == *cursor || *out < low || *out > high)
        return -1;
    *cursor = end;
    return 0;
}

int worker_start_receive(struct worker_descriptors *descriptors, struct error *err)
{
    const char *cursor = getenv(WORKER_START_VARIABLE);
    long numbers[7];
    long value;
    memset(descriptors, 0, sizeof *descriptors);
    if (!cursor)
        return error_set(err, EINVAL, "--as-worker is for the master only; use 'opald run'");
    for (size_t i = 0; i < 7; i++)
        if (worker_start_number(&cursor, i == 5 ? -1 : 0, 1 << 20, &numbers[i]) < 0)
            return error_set(err, EINVAL, "%s is malformed", WORKER_START_VARIABLE);
    if (numbers[0] >= SEGMENT_SLOTS_MAX || numbers[6] > WORKER_LISTENERS_MAX)
        return error_set(err, EINVAL, "%s is malformed", WORKER_START_VARIABLE);
    descriptors->slot = (unsigned)numbers[0];
    descriptors->segment = (struct segment_descriptors){(int)numbers[1], (int)numbers[2], (int)numbers[3]};
    descriptors->lifeline = (int)numbers[4];
    descriptors->handoff_receive = (int)numbers[5];
    descriptors->listener_count = (int)numbers[6];
    for (int i = 0; i < descriptors->listener_count; i++) {
        if (worker_start_number(&cursor, 0, 1 << 20, &value) < 0)
            return error_set(err, EINVAL, "%s is malformed", WORKER_START_VARIABLE);
        descriptors->listeners[i] = (int)value;
    }
    if (worker_start_number(&cursor, 0, SEGMENT_SLOTS_MAX, &value) < 0)
        return error_set(err, EINVAL, "%s is malformed", WORKER_START_VARIABLE);
    descriptors->slot_count = (unsigned)value;
    for (unsigned i = 0; i < descriptors->slot_count; i++) {
        if (worker_start_number(&cursor, -1, 1 << 20, &value) < 0)
            return error_set(err, EINVAL, "%s is malformed", WORKER_START_VARIABLE);
        descriptors->handoff_send[i] = (int)value;
    }
    unsetenv(WORKER_START_VARIABLE);
    return 0;
}

/* ---- between fork and exec: async-signal-safe calls only ---- */

static void child_keep(int descriptor)
{
    if (descriptor >= 0)
        fcntl(descriptor, F_SETFD, 0);
}

static void child_execute(char *const *argv, char *const *envp, const struct worker_descriptors *descriptors)
    __attribute__((noreturn));

static void child_execute(char *const *argv, char *const *envp, const struct worker_descriptors *descriptors)
{
    sigset_t none;
    child_keep(descriptors->segment.memory);
    child_keep(descriptors->segment.doorbell);
    child_keep(descriptors->segment.wake);
    child_keep(descriptors->lifeline);
    child_keep(descriptors->handoff_receive);
    for (int i = 0; i < descriptors->listener_count; i++)
        child_keep(descriptors->listeners[i]);
    for (unsigned i = 0; i < descriptors->slot_count; i++)
        child_keep(descriptors->handoff_send[i]);
    /* The master's handlers write into the master's own signal pipe, which this child shares until the exec:
     * take them out before any signal can be delivered here. */
    for (int number = 1; number < NSIG; number++)
        if (number != SIGKILL && number != SIGSTOP && number != SIGPIPE)
            signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* Not the path: the file may have been replaced by an upgrade, and a worker must be of the master's
     * version. */
    execve("/proc/self/exe", argv, envp);
    static const char failure[] = "opald: cannot execute /proc/self/exe to start a worker\n";
    if (write(STDERR_FILENO, failure, sizeof failure - 1) < 0)
        _exit(126);
    _exit(127);
}

pid_t worker_start(char **argv, int argc, const struct worker_descriptors *descriptors, struct error *err)
{
    struct text variable = {0};
    size_t environment_count = 0;
    sigset_t all, before;
    worker_start_encode(descriptors, &variable);

    /* "run" may stand anywhere among the options and may be an option's value too, so it is left where it is:
     * the hidden flag in front decides. */
    char **child_argv = memory_allocate(sizeof *child_argv * ((size_t)argc + 2));
    child_argv[0] = argv[0];
    child_argv[1] = memory_copy_string("--as-worker");
    for (int i = 1; i < argc; i++)
        child_argv[i + 1] = argv[i];
    while (environ[environment_count])
        environment_count++;
    char **envp = memory_allocate(sizeof *envp * (environment_count + 2));
    /* In front, so that it wins over a variable of that name from outside. */
    envp[0] = variable.data;
    memcpy(envp + 1, environ, sizeof *envp * environment_count);

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    int failure = errno;
    if (pid == 0)
        child_execute(child_argv, envp, descriptors);
    sigprocmask(SIG_SETMASK, &before, NULL);

    free(child_argv[1]);
    free(child_argv);
    free(envp);
    text_free(&variable);
    if (pid < 0)
        return error_set_errno(err, failure, "cannot start a worker");
    return pid;
}
