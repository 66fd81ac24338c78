/*
 * A child that does one thing (git, a download) while the loop goes on. It has its own process group, an
 * environment without this server's secrets, and limits on its output. It is killed, with all it started,
 * when it makes no progress or takes too long. It dies with the policy process; the master then kills what it
 * started (worker_table_child_group). Policy process's loop.
 */
#ifndef OPALD_SERVER_POLICY_SOURCE_JOB_H
#define OPALD_SERVER_POLICY_SOURCE_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/error.h"
#include "shm/common/text.h"

struct job;
struct policy;

struct job_result {
    /* It exited with status 0. */
    bool ok;
    /* The exit status; -1: a signal ended it, or it was never started. */
    int status;
    /* It wrote more than output_max. */
    bool too_much;
    /* It was killed: no progress, or its time was over. */
    bool late;
    /* It could not write a file above file_bytes_max. */
    bool file_too_large;
    /* Its standard output, valid during the call. */
    struct slice output;
    /* Why it failed, for people (job_reason.h); valid during the call. */
    struct slice reason;
};

struct job_settings {
    /* NULL at the end. argv[0] is looked up in PATH. */
    const char *const *argv;
    /* "NAME=value", NULL at the end, before what it gets of this process's environment; may be NULL. */
    const char *const *environment;
    /* Without a byte of output for so long it is killed. */
    double stall_seconds;
    /* It is killed after so long; 0: no limit. */
    double limit_seconds;
    /* Of its standard output, in bytes. */
    size_t output_max;
    /* Of each file that it writes; 0: no limit. */
    uint64_t file_bytes_max;
    /* A child of this program, which gets the whole environment. Others get what child_environment.h lists.
     * */
    bool whole_environment;
    /* Called once, from the loop; the job is freed afterwards. */
    void (*done)(void *context, const struct job_result *result);
    void *context;
};

/* Copies what `settings` points to. When it can't be started, `done` is called from the loop all the same,
 * with the reason. Never NULL. */
struct job *job_start(struct policy *policy, const struct job_settings *settings);
/* Kills it with all it started; `done` is not called any more. */
void job_abandon(struct job *job);
/* At the end of the process: kills all its jobs, whether abandoned or not. */
void job_kill_all(struct policy *policy);

#endif
