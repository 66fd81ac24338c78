#include "server/policy/source/git_fetch.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"
#include "shm/common/object.h"
#include "server/policy/source/git_access.h"
#include "server/policy/source/git_command.h"
#include "server/policy/source/policy_context.h"

#define GIT_FETCH_MAGIC UINT32_C(0x67666368)

struct git_fetch {
    uint32_t magic;
    struct policy *policy;
    /* What runs; NULL: `begin` is pending. */
    struct job *job;
    /* Takes the first step from the loop. */
    struct event *begin;
    char *repository;
    struct git_room *room;
    void (*done)(void *context, const struct git_fetch_result *result);
    void *context;
};

static void fetch_step(struct git_fetch *fetch);

static void fetch_free(struct git_fetch *fetch)
{
    event_free(fetch->begin);
    free(fetch->repository);
    fetch->magic = 0;
    free(fetch);
}

static void fetch_end(struct git_fetch *fetch, enum git_fetch_outcome outcome, struct slice reason)
{
    fetch->done(fetch->context, &(struct git_fetch_result){.outcome = outcome, .reason = reason});
    fetch_free(fetch);
}

static const char *branch_of(const struct git_fetch *fetch)
{
    return fetch->policy->config->policy_repo_main_branch;
}

/* On the local repository. */
static void fetch_git(struct git_fetch *fetch, const char *const *arguments,
    void (*done)(void *context, const struct job_result *result))
{
    const struct git_command command = {
        .repository = fetch->repository, .arguments = arguments, .done = done, .context = fetch};
    fetch->job = git_command_start(fetch->policy, &command);
}

/* ---- third: the commit ---- */

static void fetch_on_commit(void *context, const struct job_result *result)
{
    struct git_fetch *fetch = object_cast(struct git_fetch, GIT_FETCH_MAGIC, context);
    char hash[POLICY_HASH_LENGTH + 1];
    fetch->job = NULL;
    if (!result->ok || !git_command_take_hash(result->output, hash)) {
        fetch_end(fetch, GIT_FETCH_DAMAGED, SLICE_LITERAL("what was fetched can't be read"));
        return;
    }
    fetch->done(fetch->context, &(struct git_fetch_result){.outcome = GIT_FETCH_DONE, .hash = hash});
    fetch_free(fetch);
}

static void fetch_read_commit(struct git_fetch *fetch)
{
    struct text commit = {0};
    text_append_format(&commit, "refs/remotes/origin/%s^{commit}", branch_of(fetch));
    const char *const arguments[] = {"rev-parse", "--verify", commit.data, NULL};
    fetch_git(fetch, arguments, fetch_on_commit);
    text_free(&commit);
}

/* ---- second: the fetch ---- */

static void fetch_failed(struct git_fetch *fetch, struct slice why)
{
    struct text reason = {0};
    text_append_slice(&reason, why);
    if (git_command_lacks_branch(why))
        text_append_format(
            &reason, "; the repository has no branch '%s' (OPAL_POLICY_REPO_MAIN_BRANCH)", branch_of(fetch));
    fetch_end(fetch, GIT_FETCH_FAILED, text_slice(&reason));
    text_free(&reason);
}

static void fetch_on_fetched(void *context, const struct job_result *result)
{
    struct git_fetch *fetch = object_cast(struct git_fetch, GIT_FETCH_MAGIC, context);
    fetch->job = NULL;
    if (result->ok)
        fetch_read_commit(fetch);
    else if (result->file_too_large)
        fetch_end(fetch, GIT_FETCH_NO_ROOM, result->reason);
    else
        fetch_failed(fetch, result->reason);
}

static void fetch_remote(struct git_fetch *fetch, uint64_t pack_bytes_max)
{
    struct error err = {0};
    struct git_access access;
    struct text refspec = {0};
    if (git_access_open(fetch->policy->config, &access, &err) < 0) {
        git_access_free(&access);
        fetch_end(fetch, GIT_FETCH_FAILED, slice_from_string(err.text));
        return;
    }
    text_append_format(&refspec, "+refs/heads/%s:refs/remotes/origin/%s", branch_of(fetch), branch_of(fetch));
    /* fetch.unpackLimit: all that comes is one pack, however few objects it has, so that the limit of a file
     * is the limit of the fetch. */
    const char *const arguments[] = {"-c", "fetch.unpackLimit=1", "fetch", "--progress", "--no-tags",
        "--no-write-fetch-head", "--no-recurse-submodules", "--", access.url, refspec.data, NULL};
    const struct git_command command = {.repository = fetch->repository,
        .environment = (const char *const *)access.variables,
        .arguments = arguments,
        .file_bytes_max = pack_bytes_max,
        .remote = true,
        .done = fetch_on_fetched,
        .context = fetch};
    fetch->job = git_command_start(fetch->policy, &command);
    git_access_free(&access);
    text_free(&refspec);
}

/* ---- first: whether there is room ---- */

static void fetch_on_measured(void *context, const struct job_result *result)
{
    struct git_fetch *fetch = object_cast(struct git_fetch, GIT_FETCH_MAGIC, context);
    fetch->job = NULL;
    if (!result->ok) {
        fetch_end(fetch, GIT_FETCH_DAMAGED, SLICE_LITERAL("its size can't be read"));
        return;
    }
    git_room_measured(fetch->room, git_command_counted_bytes(result->output));
    fetch_step(fetch);
}

static void fetch_step(struct git_fetch *fetch)
{
    static const char *const measure[] = {"count-objects", "-v", NULL};
    uint64_t pack_bytes_max;
    switch (git_room_next(fetch->room, &pack_bytes_max)) {
    case GIT_ROOM_MEASURE:
        fetch_git(fetch, measure, fetch_on_measured);
        break;
    case GIT_ROOM_FETCH:
        fetch_remote(fetch, pack_bytes_max);
        break;
    case GIT_ROOM_CLONE:
        fetch_end(fetch, GIT_FETCH_NO_ROOM, SLICE_LITERAL("the clone is too large"));
        break;
    }
}

static void fetch_on_begin(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    fetch_step(object_cast(struct git_fetch, GIT_FETCH_MAGIC, context));
}

struct git_fetch *git_fetch_start(struct policy *policy, const char *repository, struct git_room *room,
    void (*done)(void *context, const struct git_fetch_result *result), void *context)
{
    struct git_fetch *fetch = memory_allocate(sizeof *fetch);
    fetch->magic = GIT_FETCH_MAGIC;
    fetch->policy = policy;
    fetch->repository = memory_copy_string(repository);
    fetch->room = room;
    fetch->done = done;
    fetch->context = context;
    fetch->begin = event_new(policy->base, -1, 0, fetch_on_begin, fetch);
    event_active(fetch->begin, EV_TIMEOUT, 0);
    return fetch;
}

void git_fetch_abandon(struct git_fetch *fetch)
{
    if (fetch->job)
        job_abandon(fetch->job);
    fetch_free(fetch);
}
