/* Runs git (job.h) with the settings that all git commands of opald have, and reads what git prints. */
#ifndef OPALD_SERVER_POLICY_SOURCE_GIT_COMMAND_H
#define OPALD_SERVER_POLICY_SOURCE_GIT_COMMAND_H

#include "shm/common/object.h"
#include "server/policy/source/job.h"

/* Of a command that prints a few lines. */
#define GIT_OUTPUT_SMALL (64 * 1024)

struct git_command {
    /* Folder with .git in it; NULL: none yet. */
    const char *repository;
    /* "NAME=value", NULL at the end; may be NULL. */
    const char *const *environment;
    /* From the subcommand on, NULL at the end. */
    const char *const *arguments;
    /* Of its standard output; 0: GIT_OUTPUT_SMALL. */
    size_t output_max;
    /* Of each file that it writes; 0: no limit. */
    uint64_t file_bytes_max;
    /* It talks to the remote: OPAL_POLICY_REPO_STALL_SECONDS applies, otherwise a limit for local work. */
    bool remote;
    void (*done)(void *context, const struct job_result *result);
    void *context;
};

/* Starts git. When that fails, `done` is called from the loop all the same, with the reason. Never NULL. */
struct job *git_command_start(struct policy *policy, const struct git_command *command);

/* ---- what git prints. Pure ---- */

/* Whether `output` begins with a commit's hash. Then it is copied to `hash`, POLICY_HASH_LENGTH + 1 bytes. */
MUST_CHECK bool git_command_take_hash(struct slice output, char *hash);
/* The bytes on disk in the output of `git count-objects -v`. */
uint64_t git_command_counted_bytes(struct slice output);
/* Whether the reason of a failed clone or fetch is that the remote has no such branch. */
bool git_command_lacks_branch(struct slice reason);
/* The name of the default branch in the output of `git ls-remote --symref URL HEAD`; empty: there is none. */
struct slice git_command_default_branch(struct slice output);

#endif
