/*
 * A git repository as the source. Its life:
 *
 *   LOCKING -> (a clone is there: OPENING) or (none, or it is no good: CLONING) -> IDLE <-> FETCHING -> CHANGING
 *
 * Every step is a git child with its limits; a failed one is tried again after a growing pause, for ever (a clone only as long as
 * OPAL_POLICY_REPO_CLONE_TIMEOUT allows). A clone is made under another name and renamed when it is whole. There is no work tree: bundles are
 * read from the commits, so nothing that a repository holds (filters, links, odd names) is ever written as a file. After a fetch the branch
 * is set to what the remote has, whether that goes forward or, after a force-push, elsewhere.
 */
#include <stdlib.h>
#include <string.h>

#include "shm/common/backoff.h"
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"
#include "server/policy/source/git_access.h"
#include "server/policy/source/git_command.h"
#include "server/policy/source/source_base.h"

#define RETRY_FIRST_SECONDS 0.5
#define RETRY_MOST_SECONDS  30.0
/* After a clone that was too large. */
#define RETRY_LARGE_FIRST_SECONDS 4.0
#define RETRY_LARGE_MOST_SECONDS  600.0
/* With less left of OPAL_POLICY_REPO_MAX_BYTES the clone is made anew; one that is new may have that much more. */
#define ROOM_LEAST (64u * 1024u)
/* Fetches with changes between two looks whether the clone should be packed anew. */
#define COLLECT_EVERY 50

struct git_source {
    struct source_base base;
    struct git_access access;
    char *place;   /* where a clone being made goes */
    bool fresh;    /* cloned, and nothing fetched since: another clone would be no smaller */
    bool measured; /* `bytes` is what the clone has now */
    uint64_t bytes;
    /* Of failures in a row. */
    struct backoff backoff;
    /* The same after a clone that was too large: each try brings that many bytes. */
    struct backoff backoff_large;
    unsigned changes;
    uint64_t clone_since_ns;
};

static void git_clone(struct git_source *source);
static void git_fetch(struct git_source *source);

static const char *branch_of(const struct git_source *source)
{
    return source->base.policy->config->policy_repo_main_branch;
}

/* Over the network: with source->access, and no pack may get larger than that (0: no limit). */
static void git_run_remote(struct git_source *source, const char *repository, const char *const *arguments,
    uint64_t pack_bytes_max, void (*done)(void *context, const struct job_result *result))
{
    const struct git_command command = {.repository = repository,
        .environment = (const char *const *)source->access.variables,
        .arguments = arguments,
        .file_bytes_max = pack_bytes_max,
        .remote = true,
        .done = done,
        .context = source};
    source->base.job = git_command_start(source->base.policy, &command);
}

static uint64_t bytes_max_of(const struct git_source *source)
{
    return (uint64_t)source->base.policy->config->policy_repo_max_bytes;
}

static void git_reset_backoff(struct git_source *source)
{
    backoff_reset(&source->backoff);
    backoff_reset(&source->backoff_large);
}

/* Seconds until the next attempt. */
static double git_pause(struct backoff *backoff)
{
    uint64_t random;
    evutil_secure_rng_get_bytes(&random, sizeof random);
    return (double)backoff_fail(backoff, random) / (double)CLOCK_SECOND;
}

/* ---- serving ---- */

static void git_become_ready(struct git_source *source)
{
    git_reset_backoff(source);
    source_base_remove_leftovers(&source->base);
    source_base_idle(&source->base);
}

/* ---- cloning ---- */

static void git_clone_failed(struct git_source *source, struct slice reason)
{
    const struct config *config = source->base.policy->config;
    uint64_t spent = clock_monotonic_ns() - source->clone_since_ns;
    log_write(LOG_ERROR, LOGGER_POLICY, "cannot clone policy repo: %.*s", (int)reason.length, reason.data);
    policy_count(source->base.policy, COUNTER_POLICY_CHECKS_FAILED, 1);
    free(source->base.work);
    source->base.work = NULL;
    source_base_remove_leftovers(&source->base);
    if (config->policy_repo_clone_timeout > 0 &&
        spent > (uint64_t)config->policy_repo_clone_timeout * CLOCK_SECOND) {
        log_write(LOG_ERROR, LOGGER_POLICY,
            "policy watcher failed with exception: no clone within OPAL_POLICY_REPO_CLONE_TIMEOUT=%lld "
            "seconds",
            (long long)config->policy_repo_clone_timeout);
        source->base.hooks.gave_up(source->base.hooks.context);
        return;
    }
    source_base_retry_after(&source->base, git_pause(&source->backoff));
}

static void git_clone_too_large(struct git_source *source, struct slice reason)
{
    struct text text = {0};
    policy_count(source->base.policy, COUNTER_POLICY_REPO_TOO_LARGE, 1);
    text_append_format(&text, "it is larger than OPAL_POLICY_REPO_MAX_BYTES=%lld allows (%.*s)",
        (long long)bytes_max_of(source), (int)reason.length, reason.data);
    git_clone_failed(source, text_slice(&text));
    text_free(&text);
    if (event_pending(source->base.retry, EV_TIMEOUT, NULL))
        source_base_retry_after(&source->base, git_pause(&source->backoff_large));
}

static void git_on_clone_read(void *context, const struct job_result *result)
{
    struct git_source *source = context;
    struct error err = {0};
    source->base.job = NULL;
    if (!result->ok || !source_base_take_hash(result->output, source->base.fetched)) {
        git_clone_failed(source, result->ok ? SLICE_LITERAL("git rev-parse gave no commit") : result->reason);
        return;
    }
    char *place = source->place;
    source->place = NULL;
    if (source_base_settle(&source->base, place, &err) < 0) {
        git_clone_failed(source, slice_from_string(err.text));
        return;
    }
    source->fresh = true;
    log_write(LOG_INFO, LOGGER_POLICY, "Clone succeeded");
    if (source->base.head[0] && strcmp(source->base.head, source->base.fetched) != 0) {
        /* In place of a damaged one: what the clients know is older. */
        source_base_change(&source->base, branch_of(source));
        return;
    }
    source_base_serve(&source->base, source->base.fetched);
    git_become_ready(source);
}

static void git_on_cloned(void *context, const struct job_result *result)
{
    struct git_source *source = context;
    static const char *const arguments[] = {"rev-parse", "--verify", "HEAD^{commit}", NULL};
    source->base.job = NULL;
    if (!result->ok) {
        if (result->file_too_large)
            git_clone_too_large(source, result->reason);
        else
            git_clone_failed(source, result->reason);
        return;
    }
    source_base_git(&source->base, source->base.work, arguments, git_on_clone_read);
}

static void git_clone(struct git_source *source)
{
    struct error err = {0};
    source->base.state = SOURCE_CLONING;
    if (source->backoff.attempt == 0)
        source->clone_since_ns = clock_monotonic_ns();
    source_base_new_work(&source->base);
    free(source->place);
    source->place = clone_folder_new_place(source->base.folder);
    if (git_access_open(source->base.policy->config, &source->access, &err) < 0) {
        git_access_free(&source->access);
        git_clone_failed(source, slice_from_string(err.text));
        return;
    }
    /* --no-local: through the same checks of every object as over a network, also from a path. */
    const char *const arguments[] = {"clone", "--progress", "--no-checkout", "--no-tags", "--single-branch",
        "--no-local", "--branch", branch_of(source), "--", source->access.url, source->base.work, NULL};
    log_write(LOG_INFO, LOGGER_POLICY, "Cloning repo from '%s' to '%s' (branch: '%s')", source->access.url,
        source->place, branch_of(source));
    git_run_remote(source, NULL, arguments, bytes_max_of(source), git_on_cloned);
    git_access_free(&source->access);
}

/* ---- a clone that is there ---- */

static void git_discard(struct git_source *source, const char *why)
{
    log_write(LOG_WARNING, LOGGER_POLICY, "the clone in %s is not used (%s): cloning anew",
        source->base.repository, why);
    source_base_forget(&source->base);
    git_reset_backoff(source);
    source->measured = false;
    git_clone(source);
}

static void git_on_opened(void *context, const struct job_result *result)
{
    struct git_source *source = context;
    source->base.job = NULL;
    if (result->ok && source_base_take_hash(result->output, source->base.head)) {
        char *url = git_access_plain_url(source->base.policy->config);
        log_write(LOG_INFO, LOGGER_POLICY,
            "SKIPPED cloning policy repo, found existing repo at '%s' with remotes: ['%s']",
            source->base.repository, url);
        free(url);
        source_base_serve(&source->base, source->base.head);
        source->base.again = true; /* it may be of long ago */
        git_become_ready(source);
        return;
    }
    git_discard(source, "it has no whole commit of the branch");
}

static void git_on_remote_read(void *context, const struct job_result *result)
{
    struct git_source *source = context;
    struct text commit = {0};
    bool same = false;
    const char *at = result->output.data;
    const char *end = at ? at + result->output.length : NULL;
    source->base.job = NULL;
    while (at && at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        char *url = memory_copy(at, (size_t)((stop ? stop : end) - at));
        same = same || git_access_same_url(source->base.policy->config, url);
        free(url);
        at = stop ? stop + 1 : end;
    }
    if (!same) {
        if (source->base.policy->config->policy_repo_reuse_clone_path) {
            /* Whatever it is, it is not ours to delete. */
            log_write(LOG_ERROR, LOGGER_POLICY,
                "policy watcher failed with exception: Existing repo has wrong remote url: %s is no clone of "
                "the "
                "configured repository; move it away or set another OPAL_POLICY_REPO_CLONE_PATH",
                source->base.repository);
            source->base.hooks.gave_up(source->base.hooks.context);
            return;
        }
        git_discard(source, "Existing repo has wrong remote url");
        return;
    }
    text_append_format(&commit, "refs/heads/%s^{commit}", branch_of(source));
    const char *const arguments[] = {"rev-parse", "--verify", commit.data, NULL};
    source_base_git(&source->base, source->base.repository, arguments, git_on_opened);
    text_free(&commit);
}

static void git_open(void *context)
{
    struct git_source *source = context;
    static const char *const arguments[] = {"config", "--local", "--get-all", "remote.origin.url", NULL};
    source_base_git(&source->base, source->base.repository, arguments, git_on_remote_read);
}

/* ---- looking for changes ---- */

static void git_check_done(struct git_source *source)
{
    git_reset_backoff(source);
    source_base_idle(&source->base);
}

static void git_check_failed(struct git_source *source, struct slice reason)
{
    source->base.state = SOURCE_IDLE;
    policy_count(source->base.policy, COUNTER_POLICY_CHECKS_FAILED, 1);
    double seconds = git_pause(&source->backoff);
    log_write(LOG_ERROR, LOGGER_POLICY,
        "cannot pull changes of the policy repo: %.*s; trying again in %.1f s (failure %u)",
        (int)reason.length, reason.data, seconds, source->backoff.attempt);
    source->base.again = false;
    clone_folder_unlock(source->base.repository);
    source_base_retry_after(&source->base, seconds);
}

static void git_on_collected(void *context, const struct job_result *result)
{
    struct git_source *source = context;
    source->base.job = NULL;
    source->measured = false;
    if (!result->ok)
        log_write(LOG_WARNING, LOGGER_POLICY, "the clone could not be packed: %.*s",
            (int)result->reason.length, result->reason.data);
    git_check_done(source);
}

static void git_changed(void *context, bool ok)
{
    struct git_source *source = context;
    if (!ok) {
        git_discard(source, "it can't be read or written");
        return;
    }
    source->measured = false;
    source_base_remove_leftovers(&source->base); /* a damaged clone in whose place this one came */
    if (++source->changes % COLLECT_EVERY == 0) {
        static const char *const arguments[] = {"-c", "gc.auto=1000", "gc", "--auto", "--quiet", NULL};
        source_base_git(&source->base, source->base.repository, arguments, git_on_collected);
        return;
    }
    git_check_done(source);
}

static void git_on_fetched_read(void *context, const struct job_result *result)
{
    struct git_source *source = context;
    source->base.job = NULL;
    if (!result->ok || !source_base_take_hash(result->output, source->base.fetched)) {
        git_discard(source, "what was fetched can't be read");
        return;
    }
    if (strcmp(source->base.fetched, source->base.head) == 0) {
        log_write(LOG_INFO, LOGGER_POLICY, "No new commits: HEAD is at '%s'", source->base.head);
        git_check_done(source);
        return;
    }
    log_write(LOG_INFO, LOGGER_POLICY, "Found new commits: old HEAD was '%s', new HEAD is '%s'",
        source->base.head, source->base.fetched);
    source->fresh = false;
    source_base_change(&source->base, branch_of(source));
}

/* What is there and what would come are too much together. A clone made anew holds nothing that the remote has taken back; if that is
 * too large as well, it is tried again and again, and the old one goes on being served. */
static void git_no_room(struct git_source *source)
{
    policy_count(source->base.policy, COUNTER_POLICY_REPO_TOO_LARGE, 1);
    clone_folder_unlock(source->base.repository);
    git_discard(source, "it would get larger than OPAL_POLICY_REPO_MAX_BYTES allows");
}

static void git_on_fetched(void *context, const struct job_result *result)
{
    struct git_source *source = context;
    struct text commit = {0};
    source->base.job = NULL;
    if (!result->ok) {
        if (result->file_too_large)
            git_no_room(source);
        else
            git_check_failed(source, result->reason);
        return;
    }
    text_append_format(&commit, "refs/remotes/origin/%s^{commit}", branch_of(source));
    const char *const arguments[] = {"rev-parse", "--verify", commit.data, NULL};
    source_base_git(&source->base, source->base.repository, arguments, git_on_fetched_read);
    text_free(&commit);
}

static void git_fetch_now(struct git_source *source)
{
    struct error err = {0};
    struct text refspec = {0};
    uint64_t room = 0;
    if (bytes_max_of(source) > 0) {
        room = source->bytes < bytes_max_of(source) ? bytes_max_of(source) - source->bytes : 0;
        if (room < ROOM_LEAST && !source->fresh) {
            git_no_room(source);
            return;
        }
        room = room < ROOM_LEAST ? ROOM_LEAST : room;
    }
    if (git_access_open(source->base.policy->config, &source->access, &err) < 0) {
        git_access_free(&source->access);
        git_check_failed(source, slice_from_string(err.text));
        return;
    }
    text_append_format(
        &refspec, "+refs/heads/%s:refs/remotes/origin/%s", branch_of(source), branch_of(source));
    /* fetch.unpackLimit: one pack, however few objects come, so that its limit is that of all that comes. */
    const char *const arguments[] = {"-c", "fetch.unpackLimit=1", "fetch", "--progress", "--no-tags",
        "--no-write-fetch-head", "--no-recurse-submodules", "--", source->access.url, refspec.data, NULL};
    git_run_remote(source, source->base.repository, arguments, room, git_on_fetched);
    git_access_free(&source->access);
    text_free(&refspec);
}

static void git_on_measured(void *context, const struct job_result *result)
{
    struct git_source *source = context;
    source->base.job = NULL;
    if (!result->ok) {
        git_discard(source, "its size can't be read");
        return;
    }
    source->measured = true;
    source->bytes = git_command_counted_bytes(result->output);
    git_fetch_now(source);
}

static void git_fetch(struct git_source *source)
{
    static const char *const arguments[] = {"count-objects", "-v", NULL};
    log_write(LOG_INFO, LOGGER_POLICY, "Pulling changes from remote: 'origin'");
    policy_count(source->base.policy, COUNTER_POLICY_CHECKS, 1);
    source->base.state = SOURCE_FETCHING;
    event_del(source->base.retry);
    if (bytes_max_of(source) > 0 && !source->measured)
        source_base_git(&source->base, source->base.repository, arguments, git_on_measured);
    else
        git_fetch_now(source);
}

/* ---- life ---- */

static void git_load(void *context)
{
    git_clone(context);
}

static void git_check(void *context)
{
    git_fetch(context);
}

static void git_retry(void *context)
{
    struct git_source *source = context;
    if (source->base.state == SOURCE_CLONING)
        git_clone(source);
    else
        git_fetch(source);
}

static void *git_source_open(struct policy *policy, const struct source_hooks *hooks)
{
    static const struct source_steps steps = {
        .open = git_open, .load = git_load, .fetch = git_check, .retry = git_retry, .changed = git_changed};
    struct git_source *source = memory_allocate(sizeof *source);
    backoff_init(&source->backoff, RETRY_FIRST_SECONDS, RETRY_MOST_SECONDS);
    backoff_init(&source->backoff_large, RETRY_LARGE_FIRST_SECONDS, RETRY_LARGE_MOST_SECONDS);
    source_base_open(&source->base, policy, hooks, &steps, source);
    return source;
}

static void git_source_close(void *context)
{
    struct git_source *source = context;
    source_base_close(&source->base);
    free(source->place);
    free(source);
}

static void git_source_check(void *context)
{
    struct git_source *source = context;
    source_base_check(&source->base);
}

const struct source_kind git_source_kind = {git_source_open, git_source_close, git_source_check};
