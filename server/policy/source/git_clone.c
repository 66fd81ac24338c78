#include "server/policy/source/git_clone.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"
#include "server/policy/source/git_access.h"
#include "server/policy/source/git_command.h"
#include "server/policy/source/policy_context.h"

#define GIT_CLONE_MAGIC UINT32_C(0x67636c6e)

struct git_clone {
    uint32_t magic;
    struct policy *policy;
    struct git_access access;
    /* What runs. */
    struct job *job;
    char *work;
    /* Why git clone failed, while the default branch is looked up. */
    struct text reason;
    void (*done)(void *context, const struct git_clone_result *result);
    void *context;
};

static void clone_free(struct git_clone *clone)
{
    git_access_free(&clone->access);
    text_free(&clone->reason);
    free(clone->work);
    clone->magic = 0;
    free(clone);
}

static void clone_end(struct git_clone *clone, const struct git_clone_result *result)
{
    clone->done(clone->context, result);
    clone_free(clone);
}

static void clone_fail(struct git_clone *clone, struct slice reason)
{
    clone_end(clone, &(struct git_clone_result){.reason = reason});
}

static void clone_git(struct git_clone *clone, const char *repository, const char *const *arguments,
    void (*done)(void *context, const struct job_result *result))
{
    const struct git_command command = {.repository = repository,
        .environment = repository ? NULL : (const char *const *)clone->access.variables,
        .arguments = arguments,
        .file_bytes_max = repository ? 0 : clone->policy->config->policy_repo_max_bytes,
        .remote = !repository,
        .done = done,
        .context = clone};
    clone->job = git_command_start(clone->policy, &command);
}

/* ---- a branch that is not there ---- */

static void clone_on_default_branch(void *context, const struct job_result *result)
{
    struct git_clone *clone = object_cast(struct git_clone, GIT_CLONE_MAGIC, context);
    struct slice branch = result->ok ? git_command_default_branch(result->output) : SLICE_LITERAL("");
    struct text reason = {0};
    clone->job = NULL;
    text_append_format(&reason,
        "the repository has no branch '%s'; OPAL_POLICY_REPO_MAIN_BRANCH names the branch",
        clone->policy->config->policy_repo_main_branch);
    if (branch.length > 0)
        text_append_format(
            &reason, ", and the repository's default branch is '%.*s'", (int)branch.length, branch.data);
    text_append_format(&reason, " (%s)", text_slice(&clone->reason).data);
    clone_fail(clone, text_slice(&reason));
    text_free(&reason);
}

static void clone_find_default_branch(struct git_clone *clone, struct slice reason)
{
    const char *const arguments[] = {"ls-remote", "--symref", "--", clone->access.url, "HEAD", NULL};
    text_append_slice(&clone->reason, reason);
    clone_git(clone, NULL, arguments, clone_on_default_branch);
}

/* ---- the clone, and its commit ---- */

static void clone_on_commit(void *context, const struct job_result *result)
{
    struct git_clone *clone = object_cast(struct git_clone, GIT_CLONE_MAGIC, context);
    char hash[POLICY_HASH_LENGTH + 1];
    clone->job = NULL;
    if (result->ok && git_command_take_hash(result->output, hash))
        clone_end(clone, &(struct git_clone_result){.hash = hash});
    else
        clone_fail(clone, result->ok ? SLICE_LITERAL("git rev-parse gave no commit") : result->reason);
}

static void clone_on_cloned(void *context, const struct job_result *result)
{
    struct git_clone *clone = object_cast(struct git_clone, GIT_CLONE_MAGIC, context);
    static const char *const arguments[] = {"rev-parse", "--verify", "HEAD^{commit}", NULL};
    clone->job = NULL;
    if (result->ok)
        clone_git(clone, clone->work, arguments, clone_on_commit);
    else if (result->file_too_large)
        clone_end(clone, &(struct git_clone_result){.too_large = true, .reason = result->reason});
    else if (git_command_lacks_branch(result->reason))
        clone_find_default_branch(clone, result->reason);
    else
        clone_fail(clone, result->reason);
}

struct git_clone *git_clone_start(struct policy *policy, const char *work, const char *place,
    void (*done)(void *context, const struct git_clone_result *result), void *context, struct error *err)
{
    struct git_clone *clone = memory_allocate(sizeof *clone);
    const char *branch = policy->config->policy_repo_main_branch;
    clone->magic = GIT_CLONE_MAGIC;
    clone->policy = policy;
    clone->work = memory_copy_string(work);
    clone->done = done;
    clone->context = context;
    if (git_access_open(policy->config, &clone->access, err) < 0) {
        clone_free(clone);
        return NULL;
    }
    /* --no-local: git checks each object as it does over a network, also from a path. */
    const char *const arguments[] = {"clone", "--progress", "--no-checkout", "--no-tags", "--single-branch",
        "--no-local", "--branch", branch, "--", clone->access.url, clone->work, NULL};
    log_write(LOG_INFO, LOGGER_POLICY, "Cloning repo from '%s' to '%s' (branch: '%s')", clone->access.url,
        place, branch);
    clone_git(clone, NULL, arguments, clone_on_cloned);
    return clone;
}

void git_clone_abandon(struct git_clone *clone)
{
    job_abandon(clone->job);
    clone_free(clone);
}
