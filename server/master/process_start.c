#include "server/master/process_start.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/common/memory.h"

extern char **environ;

/* ---- between fork and exec: async-signal-safe calls only ---- */

static void child_execute(char *const *argv, char *const *envp, const struct process_start *start)
    __attribute__((noreturn));

static void child_execute(char *const *argv, char *const *envp, const struct process_start *start)
{
    sigset_t none;
    for (size_t i = 0; i < start->descriptor_count; i++)
        if (start->descriptors[i] >= 0)
            fcntl(start->descriptors[i], F_SETFD, 0);
    /* The master's handlers write into the master's own signal pipe, which this child shares until the exec:
     * take them out before any signal can be delivered here. */
    for (int number = 1; number < NSIG; number++)
        if (number != SIGKILL && number != SIGSTOP && number != SIGPIPE)
            signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* Not the path: the file may have been replaced by an upgrade, and a child must be of the master's
     * version. */
    execve("/proc/self/exe", argv, envp);
    static const char failure[] = "opald: cannot execute /proc/self/exe to start a process\n";
    if (write(STDERR_FILENO, failure, sizeof failure - 1) < 0)
        _exit(126);
    _exit(127);
}

pid_t process_start(char **argv, int argc, const struct process_start *start, struct error *err)
{
    size_t environment_count = 0;
    sigset_t all, before;

    /* "run" may stand anywhere among the options and may be an option's value too, so it is left where it is:
     * the hidden flag in front decides. */
    char **child_argv = memory_allocate(sizeof *child_argv * ((size_t)argc + 2));
    child_argv[0] = argv[0];
    child_argv[1] = memory_copy_string(start->flag);
    for (int i = 1; i < argc; i++)
        child_argv[i + 1] = argv[i];
    while (environ[environment_count])
        environment_count++;
    char **envp = memory_allocate(sizeof *envp * (environment_count + 2));
    /* In front, so that it wins over a variable of that name from outside. */
    envp[0] = memory_copy_string(start->assignment);
    memcpy(envp + 1, environ, sizeof *envp * environment_count);

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    int failure = errno;
    if (pid == 0)
        child_execute(child_argv, envp, start);
    sigprocmask(SIG_SETMASK, &before, NULL);

    free(child_argv[1]);
    free(child_argv);
    free(envp[0]);
    free(envp);
    if (pid < 0)
        return error_set_errno(err, failure, "cannot start a process");
    return pid;
}
