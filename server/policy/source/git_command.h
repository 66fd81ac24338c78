/* Runs git (job.h) with the settings that all our git commands have. */
#ifndef OPALD_SERVER_POLICY_SOURCE_GIT_COMMAND_H
#define OPALD_SERVER_POLICY_SOURCE_GIT_COMMAND_H

#include "server/policy/source/job.h"

#define GIT_OUTPUT_SMALL (64 * 1024)

struct git_command {
    const char *repository;         /* folder with .git in it; NULL: none yet */
    const char *const *environment; /* NULL at the end; may be NULL */
    const char *const *arguments;   /* from the subcommand on; NULL at the end, at most 24 */
    size_t output_max;              /* 0: GIT_OUTPUT_SMALL */
    uint64_t file_bytes_max;        /* of each file that it writes; 0: no limit */
    bool
        remote; /* talks to the remote: OPAL_POLICY_REPO_STALL_SECONDS applies. Else a limit for local work */
    void (*done)(void *context, const struct job_result *result);
    void *context;
};

/* When git can't even be started, `done` is called from the loop all the same, with the reason. Never NULL. */
struct job *git_command_start(struct policy *policy, const struct git_command *command);

/* Pure: the bytes on disk that `git count-objects -v` tells of. */
uint64_t git_command_counted_bytes(struct slice output);

#endif
