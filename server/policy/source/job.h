/*
 * A child that does one thing (git, a download) while the loop goes on: its own process group, nothing of this server's secrets in its
 * environment, its output captured within limits, killed with all it started when it makes no progress or takes too long. It dies
 * with the policy process; what it started itself is then killed by the master (worker_table_child_group).
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
    bool ok;             /* exit status 0 */
    int status;          /* of the exit; -1 when it did not exit by itself */
    bool too_much;       /* more output than output_max */
    bool late;           /* killed: no progress, or its time was up */
    bool file_too_large; /* it could not write a file above file_bytes_max */
    struct slice output; /* standard output */
    struct slice reason; /* why it failed, for people: from its error output, or what happened to it */
};

struct job_settings {
    const char *const *argv;        /* NULL at the end; argv[0] is looked up in PATH */
    const char *const *environment; /* "NAME=value", NULL at the end; may be NULL */
    double stall_seconds;           /* without a byte of output it is killed */
    double limit_seconds;           /* 0: no other limit */
    size_t output_max;
    uint64_t file_bytes_max; /* of each file that it writes; 0: no limit */
    bool keep_secrets;       /* a child of this program: gets the environment whole */
    /* Called once, from the loop; the job is freed afterwards. */
    void (*done)(void *context, const struct job_result *result);
    void *context;
};

/* Copies what `settings` points to. When it can't be started `done` is called all the same, from the loop, with the reason. Never NULL. */
struct job *job_start(struct policy *policy, const struct job_settings *settings);
/* Kills it with all it started; `done` is not called any more. */
void job_abandon(struct job *job);
/* At the end of the process: all jobs of it, whether abandoned or not. */
void job_kill_all(struct policy *policy);

#endif
