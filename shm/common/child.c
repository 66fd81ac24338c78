#include "shm/common/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include "shm/common/memory.h"
#include "shm/common/signals.h"

/* ---- between fork and exec: async-signal-safe calls only ---- */

static void signals_reset(bool keep_sigpipe)
{
    sigset_t none;
    /* Our handlers write into our own loop's signal pipe, which the child shares until the exec: they go
     * before any signal can be delivered here. */
    for (int number = 1; number < NSIG; number++)
        if (number != SIGKILL && number != SIGSTOP && !(keep_sigpipe && number == SIGPIPE))
            signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void descriptors_arrange(const struct child_settings *settings)
{
    for (size_t i = 0; i < settings->descriptor_count; i++) {
        int from = settings->descriptors[i].from, to = settings->descriptors[i].to;
        if (from == CHILD_NOTHING)
            from = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (from == to)
            fcntl(to, F_SETFD, 0);
        else
            dup2(from, to);
    }
}

static _Noreturn void child_execute(const struct child_settings *settings, pid_t parent)
{
    bool this_program = settings->program == CHILD_THIS_PROGRAM;
    char *const *argv = (char *const *)(uintptr_t)settings->argv;
    char *const *envp = settings->environment ? (char *const *)(uintptr_t)settings->environment : environ;
    if (settings->own_group)
        setpgid(0, 0);
    if (settings->dies_with_parent) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) /* it is dead already */
            _exit(CHILD_STATUS_NO_START);
    }
    descriptors_arrange(settings);
    signals_reset(this_program);
    if (settings->file_bytes_max > 0) {
        const struct rlimit limit = {settings->file_bytes_max, settings->file_bytes_max};
        signal(SIGXFSZ, SIG_IGN); /* the write fails instead, and the program cleans up and says why */
        setrlimit(RLIMIT_FSIZE, &limit);
    }
    if (this_program)
        execve("/proc/self/exe", argv, envp);
    else
        execvpe(settings->program, argv, envp);
    static const char failure[] = "opald: cannot execute /proc/self/exe to start a process\n";
    ssize_t written = this_program ? write(STDERR_FILENO, failure, sizeof failure - 1) : 0;
    (void)written;
    _exit(CHILD_STATUS_NO_START);
}

/* ---- the parent's side ---- */

pid_t child_start(const struct child_settings *settings, struct error *err)
{
    const char *name = settings->program == CHILD_THIS_PROGRAM ? "a process" : settings->program;
    pid_t parent = getpid();
    sigset_t before;
    signals_hold(&before);
    pid_t pid = fork();
    int failure = errno;
    if (pid == 0)
        child_execute(settings, parent);
    signals_release(&before);
    if (pid < 0)
        return error_set_errno(err, failure, "cannot start %s", name);
    if (settings->own_group)
        setpgid(pid, pid); /* the child does it too: whoever comes first */
    return pid;
}

/* ---- its environment ---- */

/* Whether `own` sets the variable of `assignment` too. */
static bool is_overridden(const char *assignment, const char *const *own)
{
    size_t name = strcspn(assignment, "=") + 1;
    for (; *own; own++)
        if (strncmp(*own, assignment, name) == 0)
            return true;
    return false;
}

const char **child_make_environment(
    const char *const *own, bool (*keeps)(const char *assignment, const void *context), const void *context)
{
    size_t own_count = 0, count = 0, made_count = 0;
    while (own[own_count])
        own_count++;
    while (environ && environ[count])
        count++;
    const char **made = memory_allocate((own_count + count + 1) * sizeof *made);
    for (size_t i = 0; i < own_count; i++)
        made[made_count++] = own[i];
    for (size_t i = 0; i < count; i++)
        if ((!keeps || keeps(environ[i], context)) && !is_overridden(environ[i], own))
            made[made_count++] = environ[i];
    return made;
}
