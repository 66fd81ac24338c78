/*
 * A git repository as the source. Its life:
 *
 *   LOCKING -> (a clone is there: OPENING) or (none, or it can't be used: CLONING)
 *           -> IDLE <-> FETCHING -> CHANGING -> IDLE
 *
 * Each step runs git as a child with limits. A step that fails is tried again after a growing pause, without
 * end, except that OPAL_POLICY_REPO_CLONE_TIMEOUT may limit the clone. A clone is made under another name and
 * renamed when it is whole. After a fetch the branch is set to what the remote has, whether that goes forward
 * or, after a force-push, elsewhere.
 */
#include <stdlib.h>
#include <string.h>

#include "shm/common/backoff.h"
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"
#include "server/policy/source/git_access.h"
#include "server/policy/source/git_clone.h"
#include "server/policy/source/git_command.h"
#include "server/policy/source/git_fetch.h"
#include "server/policy/source/source_base.h"

#define GIT_SOURCE_MAGIC    UINT32_C(0x67697473)
#define RETRY_FIRST_SECONDS 0.5
#define RETRY_MOST_SECONDS  30.0
/* After a clone that was too large: each try brings that many bytes. */
#define RETRY_LARGE_FIRST_SECONDS 4.0
#define RETRY_LARGE_MOST_SECONDS  600.0
/* Fetches with changes until git looks whether to pack the clone again. */
#define COLLECT_EVERY 50

struct git_source {
    uint32_t magic;
    struct source_base base;
    /* What runs, of both at most one. */
    struct git_clone *clone;
    struct git_fetch *fetch;
    /* Where the clone under way goes when it is whole. */
    char *place;
    struct git_room room;
    struct backoff backoff;
    struct backoff backoff_large;
    unsigned changes;
    uint64_t clone_since_ns;
};

static void git_begin_clone(struct git_source *source);
static void git_begin_fetch(struct git_source *source);

static struct git_source *git_source_of(void *context)
{
    return object_cast(struct git_source, GIT_SOURCE_MAGIC, context);
}

static const struct config *config_of(const struct git_source *source)
{
    return source->base.policy->config;
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

/* It works, and waits for the next check. */
static void git_check_done(struct git_source *source)
{
    git_reset_backoff(source);
    source_base_idle(&source->base);
}

/* ---- cloning ---- */

static bool git_clone_timed_out(const struct git_source *source)
{
    int64_t limit = config_of(source)->policy_repo_clone_timeout;
    uint64_t spent = clock_monotonic_ns() - source->clone_since_ns;
    return limit > 0 && spent > (uint64_t)limit * CLOCK_SECOND;
}

static void git_clone_failed(struct git_source *source, struct backoff *backoff, struct slice reason)
{
    double seconds = git_pause(backoff);
    log_write(LOG_ERROR, LOGGER_POLICY, "cannot clone policy repo: %.*s", (int)reason.length, reason.data);
    policy_count(source->base.policy, COUNTER_POLICY_CHECKS_FAILED, 1);
    free(source->base.work);
    source->base.work = NULL;
    source_base_remove_leftovers(&source->base);
    if (!git_clone_timed_out(source)) {
        source_base_retry_after(&source->base, seconds);
        return;
    }
    log_write(LOG_ERROR, LOGGER_POLICY,
        "policy watcher failed with exception: no clone within OPAL_POLICY_REPO_CLONE_TIMEOUT=%lld seconds",
        (long long)config_of(source)->policy_repo_clone_timeout);
    source->base.hooks.gave_up(source->base.hooks.context);
}

static void git_clone_too_large(struct git_source *source, struct slice reason)
{
    struct text text = {0};
    policy_count(source->base.policy, COUNTER_POLICY_REPO_TOO_LARGE, 1);
    text_append_format(&text, "it is larger than OPAL_POLICY_REPO_MAX_BYTES=%lld allows (%.*s)",
        (long long)config_of(source)->policy_repo_max_bytes, (int)reason.length, reason.data);
    git_clone_failed(source, &source->backoff_large, text_slice(&text));
    text_free(&text);
}

static void git_clone_settled(struct git_source *source)
{
    source->room = git_room_of_new_clone((uint64_t)config_of(source)->policy_repo_max_bytes);
    log_write(LOG_INFO, LOGGER_POLICY, "Clone succeeded");
    if (source->base.head[0] && strcmp(source->base.head, source->base.fetched) != 0) {
        /* It takes the place of a damaged one: the clients know an older commit. */
        source_base_change(&source->base, config_of(source)->policy_repo_main_branch);
        return;
    }
    source_base_serve(&source->base, source->base.fetched);
    source_base_remove_leftovers(&source->base);
    git_check_done(source);
}

static void git_on_cloned(void *context, const struct git_clone_result *result)
{
    struct git_source *source = git_source_of(context);
    struct error err = {0};
    source->clone = NULL;
    if (result->too_large) {
        git_clone_too_large(source, result->reason);
        return;
    }
    if (!result->hash) {
        git_clone_failed(source, &source->backoff, result->reason);
        return;
    }
    memcpy(source->base.fetched, result->hash, sizeof source->base.fetched);
    char *place = source->place;
    source->place = NULL;
    if (source_base_settle(&source->base, place, &err) < 0)
        git_clone_failed(source, &source->backoff, slice_from_string(err.text));
    else
        git_clone_settled(source);
}

static void git_begin_clone(struct git_source *source)
{
    struct error err = {0};
    source->base.state = SOURCE_CLONING;
    if (source->backoff.attempt == 0 && source->backoff_large.attempt == 0)
        source->clone_since_ns = clock_monotonic_ns();
    source_base_new_work(&source->base);
    free(source->place);
    source->place = clone_folder_new_place(source->base.folder);
    source->clone =
        git_clone_start(source->base.policy, source->base.work, source->place, git_on_cloned, source, &err);
    if (!source->clone)
        git_clone_failed(source, &source->backoff, slice_from_string(err.text));
}

/* ---- a clone that is there ---- */

static void git_discard(struct git_source *source, struct slice why)
{
    log_write(LOG_WARNING, LOGGER_POLICY, "the clone in %s is not used (%.*s): cloning anew",
        source->base.repository, (int)why.length, why.data);
    source_base_forget(&source->base);
    git_reset_backoff(source);
    git_begin_clone(source);
}

static void git_on_opened(void *context, const struct job_result *result)
{
    struct git_source *source = git_source_of(context);
    source->base.job = NULL;
    if (!result->ok || !git_command_take_hash(result->output, source->base.head)) {
        git_discard(source, SLICE_LITERAL("it has no whole commit of the branch"));
        return;
    }
    char *url = git_access_plain_url(config_of(source));
    log_write(LOG_INFO, LOGGER_POLICY,
        "SKIPPED cloning policy repo, found existing repo at '%s' with remotes: ['%s']",
        source->base.repository, url);
    free(url);
    source->room = git_room_of_found_clone((uint64_t)config_of(source)->policy_repo_max_bytes);
    source_base_serve(&source->base, source->base.head);
    source_base_remove_leftovers(&source->base);
    /* It may be old: look for changes at once. */
    source->base.again = true;
    git_check_done(source);
}

/* Whether one of the lines is the configured URL. */
static bool has_configured_url(const struct config *config, struct slice lines)
{
    bool same = false;
    while (!same && lines.length > 0) {
        const char *stop = memchr(lines.data, '\n', lines.length);
        size_t length = stop ? (size_t)(stop - lines.data) : lines.length;
        char *url = memory_copy(lines.data, length);
        same = git_access_same_url(config, url);
        free(url);
        length += stop != NULL;
        lines = (struct slice){lines.data + length, lines.length - length};
    }
    return same;
}

static void git_on_remote_read(void *context, const struct job_result *result)
{
    struct git_source *source = git_source_of(context);
    struct text commit = {0};
    source->base.job = NULL;
    if (!has_configured_url(config_of(source), result->output)) {
        if (!config_of(source)->policy_repo_reuse_clone_path) {
            git_discard(source, SLICE_LITERAL("Existing repo has wrong remote url"));
            return;
        }
        /* Whatever it is, it is not opald's to delete. */
        log_write(LOG_ERROR, LOGGER_POLICY,
            "policy watcher failed with exception: Existing repo has wrong remote url: %s is no clone of the "
            "configured repository; move it away or set another OPAL_POLICY_REPO_CLONE_PATH",
            source->base.repository);
        source->base.hooks.gave_up(source->base.hooks.context);
        return;
    }
    text_append_format(&commit, "refs/heads/%s^{commit}", config_of(source)->policy_repo_main_branch);
    const char *const arguments[] = {"rev-parse", "--verify", commit.data, NULL};
    source_base_git(&source->base, source->base.repository, arguments, git_on_opened);
    text_free(&commit);
}

/* ---- looking for changes ---- */

static void git_check_failed(struct git_source *source, struct slice reason)
{
    double seconds = git_pause(&source->backoff);
    source->base.state = SOURCE_IDLE;
    policy_count(source->base.policy, COUNTER_POLICY_CHECKS_FAILED, 1);
    log_write(LOG_ERROR, LOGGER_POLICY,
        "cannot pull changes of the policy repo: %.*s; trying again in %.1f s (failure %u)",
        (int)reason.length, reason.data, seconds, source->backoff.attempt);
    source->base.again = false;
    clone_folder_unlock(source->base.repository);
    source_base_retry_after(&source->base, seconds);
}

static void git_take_fetched(struct git_source *source, const char *hash)
{
    struct source_base *base = &source->base;
    memcpy(base->fetched, hash, sizeof base->fetched);
    if (strcmp(base->fetched, base->head) == 0) {
        log_write(LOG_INFO, LOGGER_POLICY, "No new commits: HEAD is at '%s'", base->head);
        git_check_done(source);
        return;
    }
    log_write(LOG_INFO, LOGGER_POLICY, "Found new commits: old HEAD was '%s', new HEAD is '%s'", base->head,
        base->fetched);
    git_room_fetched(&source->room);
    source_base_change(base, config_of(source)->policy_repo_main_branch);
}

static void git_on_fetched(void *context, const struct git_fetch_result *result)
{
    struct git_source *source = git_source_of(context);
    source->fetch = NULL;
    switch (result->outcome) {
    case GIT_FETCH_DONE:
        git_take_fetched(source, result->hash);
        break;
    case GIT_FETCH_FAILED:
        git_check_failed(source, result->reason);
        break;
    case GIT_FETCH_NO_ROOM:
        /* Another clone has nothing that the remote has taken back. While that is too large as well, it is
         * tried again and again, and the old one is served. */
        policy_count(source->base.policy, COUNTER_POLICY_REPO_TOO_LARGE, 1);
        clone_folder_unlock(source->base.repository);
        git_discard(source, SLICE_LITERAL("it would get larger than OPAL_POLICY_REPO_MAX_BYTES allows"));
        break;
    case GIT_FETCH_DAMAGED:
        git_discard(source, result->reason);
        break;
    }
}

static void git_begin_fetch(struct git_source *source)
{
    log_write(LOG_INFO, LOGGER_POLICY, "Pulling changes from remote: 'origin'");
    policy_count(source->base.policy, COUNTER_POLICY_CHECKS, 1);
    source->base.state = SOURCE_FETCHING;
    event_del(source->base.retry);
    source->fetch =
        git_fetch_start(source->base.policy, source->base.repository, &source->room, git_on_fetched, source);
}

static void git_on_collected(void *context, const struct job_result *result)
{
    struct git_source *source = git_source_of(context);
    source->base.job = NULL;
    git_room_packed(&source->room);
    if (!result->ok)
        log_write(LOG_WARNING, LOGGER_POLICY, "the clone could not be packed: %.*s",
            (int)result->reason.length, result->reason.data);
    git_check_done(source);
}

/* ---- steps of the base ---- */

static void git_open(void *context)
{
    struct git_source *source = git_source_of(context);
    static const char *const arguments[] = {"config", "--local", "--get-all", "remote.origin.url", NULL};
    source_base_git(&source->base, source->base.repository, arguments, git_on_remote_read);
}

static void git_load(void *context)
{
    git_begin_clone(git_source_of(context));
}

static void git_look(void *context)
{
    git_begin_fetch(git_source_of(context));
}

static void git_retry(void *context)
{
    struct git_source *source = git_source_of(context);
    if (source->clone || source->fetch)
        return;
    if (source->base.state == SOURCE_CLONING)
        git_begin_clone(source);
    else
        git_begin_fetch(source);
}

static void git_changed(void *context, bool ok)
{
    struct git_source *source = git_source_of(context);
    static const char *const arguments[] = {"-c", "gc.auto=1000", "gc", "--auto", "--quiet", NULL};
    if (!ok) {
        git_discard(source, SLICE_LITERAL("it can't be read or written"));
        return;
    }
    /* A damaged clone that this one replaces. */
    source_base_remove_leftovers(&source->base);
    if (++source->changes % COLLECT_EVERY == 0)
        source_base_git(&source->base, source->base.repository, arguments, git_on_collected);
    else
        git_check_done(source);
}

/* ---- from outside ---- */

static void *git_source_open(struct policy *policy, const struct source_hooks *hooks)
{
    static const struct source_steps steps = {
        .open = git_open, .load = git_load, .fetch = git_look, .retry = git_retry, .changed = git_changed};
    struct git_source *source = memory_allocate(sizeof *source);
    source->magic = GIT_SOURCE_MAGIC;
    backoff_init(&source->backoff, RETRY_FIRST_SECONDS, RETRY_MOST_SECONDS);
    backoff_init(&source->backoff_large, RETRY_LARGE_FIRST_SECONDS, RETRY_LARGE_MOST_SECONDS);
    source_base_open(&source->base, policy, hooks, &steps, source);
    return source;
}

static void git_source_close(void *context)
{
    struct git_source *source = git_source_of(context);
    if (source->clone)
        git_clone_abandon(source->clone);
    if (source->fetch)
        git_fetch_abandon(source->fetch);
    source_base_close(&source->base);
    free(source->place);
    source->magic = 0;
    free(source);
}

static void git_source_check(void *context)
{
    source_base_check(&git_source_of(context)->base);
}

const struct source_kind git_source_kind = {
    .open = git_source_open, .close = git_source_close, .check = git_source_check};
