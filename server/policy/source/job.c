#include "server/policy/source/job.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/common/child.h"
#include "shm/common/clock.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"
#include "server/policy/bundle/child_environment.h"
#include "server/policy/source/job_reason.h"
#include "server/policy/source/policy_context.h"

#define JOB_MAGIC  UINT32_C(0x6a6f6273)
#define READ_BYTES (64 * 1024)
/* The last of the error output is kept. */
#define REASON_MAX (8 * 1024)
#define CHECK_MS   100

struct job {
    uint32_t magic;
    LIST_ENTRY(job) link;
    struct policy *policy;
    pid_t pid;
    int output;
    int errors;
    size_t output_max;
    bool limits_files;
    uint64_t stall_ns;
    /* When the last byte came. */
    uint64_t progress_ns;
    /* 0: none. */
    uint64_t deadline_ns;
    bool killed;
    bool late;
    bool too_much;
    bool abandoned;
    struct event *output_event;
    struct event *errors_event;
    struct event *child_event;
    struct event *check;
    struct text output_text;
    struct text errors_text;
    void (*done)(void *context, const struct job_result *result);
    void *context;
    char name[32];
};

static void job_kill(struct job *job)
{
    if (job->killed || job->pid <= 0)
        return;
    job->killed = true;
    kill(-job->pid, SIGKILL);
    kill(job->pid, SIGKILL); /* it may not have made its group yet */
}

static void job_free(struct job *job)
{
    LIST_REMOVE(job, link);
    struct event *const events[] = {job->output_event, job->errors_event, job->child_event, job->check};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (events[i])
            event_free(events[i]);
    if (job->output >= 0)
        close(job->output);
    if (job->errors >= 0)
        close(job->errors);
    text_free(&job->output_text);
    text_free(&job->errors_text);
    job->magic = 0;
    free(job);
}

/* ---- what it says ---- */

static void job_read(struct job *job, int descriptor, struct text *into, bool keep_last)
{
    for (;;) {
        ssize_t length = read(descriptor, text_reserve(into, READ_BYTES), READ_BYTES);
        if (length < 0 && errno == EINTR)
            continue;
        if (length <= 0) {
            if (length == 0) /* the end: nothing to wait for */
                event_del(descriptor == job->output ? job->output_event : job->errors_event);
            return;
        }
        job->progress_ns = clock_monotonic_ns();
        into->length += (size_t)length;
        if (keep_last && into->length > REASON_MAX) {
            memmove(into->data, into->data + into->length - REASON_MAX, REASON_MAX);
            into->length = REASON_MAX;
        } else if (!keep_last && into->length > job->output_max) {
            job->too_much = true;
            job_kill(job);
            return;
        }
    }
}

static void job_on_output(evutil_socket_t descriptor, short what, void *context)
{
    struct job *job = object_cast(struct job, JOB_MAGIC, context);
    (void)what;
    job_read(job, descriptor, &job->output_text, false);
}

static void job_on_errors(evutil_socket_t descriptor, short what, void *context)
{
    struct job *job = object_cast(struct job, JOB_MAGIC, context);
    (void)what;
    job_read(job, descriptor, &job->errors_text, true);
}

/* ---- its end ---- */

static void job_on_child(evutil_socket_t number, short what, void *context)
{
    struct job *job = object_cast(struct job, JOB_MAGIC, context);
    int status;
    (void)number;
    (void)what;
    if (job->pid <= 0 || waitpid(job->pid, &status, WNOHANG) != job->pid)
        return;
    kill(-job->pid, SIGKILL); /* what it has left behind in its group */
    if (worker_table_child_group(job->policy->segment, job->policy->slot) == job->pid)
        worker_table_set_child_group(job->policy->segment, job->policy->slot, 0);
    if (!job->abandoned) {
        struct text reason = {0};
        job_read(job, job->output, &job->output_text, false);
        job_read(job, job->errors, &job->errors_text, true);
        bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0 && !job->too_much;
        const struct job_end end = {.name = job->name,
            .status = status,
            .too_much = job->too_much,
            .output_max = job->output_max,
            .late = job->late};
        if (!ok)
            job_reason_append(&reason, text_slice(&job->errors_text), &end);
        struct job_result result = {.ok = ok,
            .status = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
            .too_much = job->too_much,
            .late = job->late,
            .file_too_large =
                !ok && job->limits_files && job_reason_is_file_too_large(text_slice(&job->errors_text)),
            .output = text_slice(&job->output_text),
            .reason = text_slice(&reason)};
        job->done(job->context, &result);
        text_free(&reason);
    }
    job_free(job);
}

static void job_on_check(evutil_socket_t descriptor, short what, void *context)
{
    struct job *job = object_cast(struct job, JOB_MAGIC, context);
    uint64_t now = clock_monotonic_ns();
    (void)descriptor;
    (void)what;
    if (now - job->progress_ns > job->stall_ns || (job->deadline_ns && now > job->deadline_ns)) {
        job->late = !job->killed;
        job_kill(job);
    }
}

/* ---- its start ---- */

static const char **job_environment(const struct job *job, const struct job_settings *settings)
{
    /* git and ssh must not speak another language, and must not ask */
    static const char *const quiet[] = {
        "LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=", "SSH_ASKPASS_REQUIRE=never"};
    const size_t quiet_count = settings->whole_environment ? 0 : sizeof quiet / sizeof *quiet;
    size_t given = 0;
    while (settings->environment && settings->environment[given])
        given++;
    const char **own = memory_allocate((given + quiet_count + 1) * sizeof *own);
    for (size_t i = 0; i < given; i++)
        own[i] = settings->environment[i]; /* in front: they win */
    for (size_t i = 0; i < quiet_count; i++)
        own[given + i] = quiet[i];
    const char **made =
        child_make_environment(own, settings->whole_environment ? NULL : child_environment_keeps,
            &job->policy->config->policy_repo_environment);
    free(own);
    return made;
}

static int job_fork(struct job *job, const struct job_settings *settings, struct error *err)
{
    int output[2], errors[2];
    if (pipe2(output, O_CLOEXEC | O_NONBLOCK) < 0)
        return error_set_errno(err, errno, "cannot start %s", settings->argv[0]);
    if (pipe2(errors, O_CLOEXEC | O_NONBLOCK) < 0) {
        error_set_errno(err, errno, "cannot start %s", settings->argv[0]);
        close(output[0]);
        close(output[1]);
        return -1;
    }
    /* The child's ends block, as programs expect. */
    fcntl(output[1], F_SETFL, 0);
    fcntl(errors[1], F_SETFL, 0);
    const char **environment = job_environment(job, settings);
    const struct child_descriptor descriptors[] = {{.from = CHILD_NOTHING, .to = STDIN_FILENO},
        {.from = output[1], .to = STDOUT_FILENO}, {.from = errors[1], .to = STDERR_FILENO}};
    const struct child_settings child = {.program = settings->argv[0],
        .argv = settings->argv,
        .environment = environment,
        .descriptors = descriptors,
        .descriptor_count = sizeof descriptors / sizeof *descriptors,
        .dies_with_parent = true,
        .own_group = true,
        .file_bytes_max = settings->file_bytes_max};
    job->pid = child_start(&child, err);
    free(environment);
    close(output[1]);
    close(errors[1]);
    if (job->pid < 0) {
        close(output[0]);
        close(errors[0]);
        return -1;
    }
    job->output = output[0];
    job->errors = errors[0];
    return 0;
}

/* It never was a process. */
static void job_on_unstarted(evutil_socket_t descriptor, short what, void *context)
{
    struct job *job = object_cast(struct job, JOB_MAGIC, context);
    const struct job_result result = {
        .status = -1, .output = SLICE_LITERAL(""), .reason = text_slice(&job->errors_text)};
    (void)descriptor;
    (void)what;
    if (!job->abandoned)
        job->done(job->context, &result);
    job_free(job);
}

struct job *job_start(struct policy *policy, const struct job_settings *settings)
{
    struct error err = {0};
    struct job *job = memory_allocate(sizeof *job);
    job->magic = JOB_MAGIC;
    const struct timeval interval = {0, CHECK_MS * 1000};
    uint64_t now = clock_monotonic_ns();
    job->policy = policy;
    job->output_max = settings->output_max;
    job->limits_files = settings->file_bytes_max > 0;
    job->stall_ns = (uint64_t)(settings->stall_seconds * (double)CLOCK_SECOND);
    job->progress_ns = now;
    job->deadline_ns =
        settings->limit_seconds > 0 ? now + (uint64_t)(settings->limit_seconds * (double)CLOCK_SECOND) : 0;
    job->done = settings->done;
    job->context = settings->context;
    snprintf(job->name, sizeof job->name, "%s", settings->argv[0]);
    /* Before the fork, so that the end is not missed. */
    job->child_event = event_new(policy->base, SIGCHLD, EV_SIGNAL | EV_PERSIST, job_on_child, job);
    event_add(job->child_event, NULL);
    job->output = job->errors = -1;
    LIST_INSERT_HEAD(&policy->jobs, job, link);
    if (job_fork(job, settings, &err) < 0) {
        job->pid = 0;
        text_append_string(&job->errors_text, err.text);
        job->check = event_new(policy->base, -1, 0, job_on_unstarted, job);
        event_active(job->check, EV_TIMEOUT, 0);
        return job;
    }
    worker_table_set_child_group(policy->segment, policy->slot, job->pid);
    job->output_event = event_new(policy->base, job->output, EV_READ | EV_PERSIST, job_on_output, job);
    job->errors_event = event_new(policy->base, job->errors, EV_READ | EV_PERSIST, job_on_errors, job);
    job->check = event_new(policy->base, -1, EV_PERSIST, job_on_check, job);
    event_add(job->output_event, NULL);
    event_add(job->errors_event, NULL);
    event_add(job->check, &interval);
    return job;
}

void job_abandon(struct job *job)
{
    job->abandoned = true;
    job_kill(job);
}

void job_kill_all(struct policy *policy)
{
    struct job *job;
    while ((job = LIST_FIRST(&policy->jobs))) {
        job_kill(job);
        job_free(job);
    }
}
