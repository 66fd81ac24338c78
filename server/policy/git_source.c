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

#include "server/common/clock.h"
#include "server/common/log.h"
#include "server/common/memory.h"
#include "server/policy/change.h"
#include "server/policy/clone_folder.h"
#include "server/policy/git_access.h"
#include "server/policy/git_command.h"
#include "server/policy/policy_source_internal.h"

#define RETRY_FIRST_SECONDS 0.5
#define RETRY_MOST_SECONDS  30.0
#define LOCK_RETRY_SECONDS  5.0
/* After a clone that was too large. */
#define RETRY_LARGE_FIRST_SECONDS 4.0
#define RETRY_LARGE_MOST_SECONDS  600.0
/* With less left of OPAL_POLICY_REPO_MAX_BYTES the clone is made anew; one that is new may have that much more. */
#define ROOM_LEAST (64u * 1024u)
/* Fetches with changes between two looks whether the clone should be packed anew. */
#define COLLECT_EVERY 50

enum git_state { GIT_LOCKING, GIT_OPENING, GIT_CLONING, GIT_IDLE, GIT_FETCHING, GIT_CHANGING };

struct git_source {
    struct policy *policy;
    struct clone_folder *folder;
    struct git_access access;
    enum git_state state;
    struct job *job;
    struct change *change;
    struct event *retry;
    char *repository; /* where the clone is; NULL: not known */
    char *work;       /* a clone being made, and where it goes */
    char *place;
    char head[POLICY_HASH_LENGTH + 1];
    char fetched[POLICY_HASH_LENGTH + 1];
    char **leftovers; /* being removed */
    bool again;       /* another check when this one is done */
    bool ready;       /* polling has begun */
    bool fresh;       /* cloned, and nothing fetched since: another clone would be no smaller */
    bool measured;    /* `bytes` is what the clone has now */
    uint64_t bytes;
    unsigned failures;
    unsigned changes;
    uint64_t clone_since_ns;
    struct log_limiter limit_lock;
};

static void git_begin(struct git_source *source);
static void git_clone(struct git_source *source);
static void git_fetch(struct git_source *source);

static const char *branch_of(const struct git_source *source)
{
    return source->policy->config->policy_repo_main_branch;
}

static void git_retry_after(struct git_source *source, double seconds)
{
    struct timeval delay = clock_timeval(seconds);
    delay.tv_usec++; /* never at once */
    event_add(source->retry, &delay);
}

typedef void git_done(void *context, const struct job_result *result);

static void git_run(
    struct git_source *source, const char *repository, const char *const *arguments, git_done *done)
{
    const struct git_command command = {
        .repository = repository, .arguments = arguments, .done = done, .context = source};
    source->job = git_command_start(source->policy, &command);
}

/* The same over the network: with source->access, and no pack may get larger than that (0: no limit). */
static void git_run_remote(struct git_source *source, const char *repository, const char *const *arguments,
    uint64_t pack_bytes_max, git_done *done)
{
    const struct git_command command = {.repository = repository,
        .environment = (const char *const *)source->access.variables,
        .arguments = arguments,
        .file_bytes_max = pack_bytes_max,
        .remote = true,
        .done = done,
        .context = source};
    source->job = git_command_start(source->policy, &command);
}

static uint64_t bytes_max_of(const struct git_source *source)
{
    return (uint64_t)source->policy->config->policy_repo_max_bytes;
}

/* The first line when it is a commit's hash. */
static bool take_hash(struct slice output, char *hash)
{
    if (output.length < POLICY_HASH_LENGTH)
        return false;
    for (size_t i = 0; i < POLICY_HASH_LENGTH; i++)
        if (text_hex_value(output.data[i]) < 0)
            return false;
    memcpy(hash, output.data, POLICY_HASH_LENGTH);
    hash[POLICY_HASH_LENGTH] = '\0';
    return true;
}

/* ---- away with what is not needed ---- */

static void git_on_removed(void *context, const struct job_result *result)
{
    struct git_source *source = context;
    (void)result; /* rm tells the operator nothing that the next clone's failure would not */
    clone_folder_free_list(source->leftovers);
    source->leftovers = NULL;
}

static void git_remove_leftovers(struct git_source *source)
{
    size_t count = 0;
    if (source->leftovers)
        return; /* the next time */
    /* A damaged clone is served until there is another one. */
    source->leftovers = clone_folder_leftovers(
        source->folder, source->repository ? source->repository : source->policy->repository);
    while (source->leftovers[count])
        count++;
    const char **argv = memory_allocate(sizeof *argv * (count + 4));
    argv[0] = "rm";
    argv[1] = "-rf";
    argv[2] = "--";
    for (size_t i = 0; i < count; i++) {
        if (clone_folder_is_repository(source->leftovers[i]))
            log_write(LOG_WARNING, POLICY_LOGGER,
                "Found previous policy repo clone: %s, removing it to avoid conflicts.",
                source->leftovers[i]);
        argv[3 + i] = source->leftovers[i];
    }
    const struct job_settings settings = {.argv = argv,
        .stall_seconds = 3600,
        .output_max = GIT_OUTPUT_SMALL,
        .done = git_on_removed,
        .context = source};
    if (count > 0) {
        job_start(source->policy, &settings);
    } else {
        clone_folder_free_list(source->leftovers);
        source->leftovers = NULL;
    }
    free(argv);
}

/* ---- serving ---- */

static void git_become_ready(struct git_source *source)
{
    source->state = GIT_IDLE;
    source->failures = 0;
    git_remove_leftovers(source);
    if (!source->ready) {
        source->ready = true;
        policy_source_ready(source->policy);
    }
    if (source->again) {
        source->again = false;
        git_fetch(source);
    }
}

/* ---- cloning ---- */

static void git_clone_failed(struct git_source *source, struct slice reason)
{
    const struct config *config = source->policy->config;
    uint64_t spent = clock_monotonic_ns() - source->clone_since_ns;
    source->failures++;
    log_write(LOG_ERROR, POLICY_LOGGER, "cannot clone policy repo: %.*s", (int)reason.length, reason.data);
    policy_count(source->policy, COUNTER_POLICY_CHECKS_FAILED, 1);
    free(source->work);
    source->work = NULL;
    git_remove_leftovers(source);
    if (config->policy_repo_clone_timeout > 0 &&
        spent > (uint64_t)config->policy_repo_clone_timeout * CLOCK_SECOND) {
        log_write(LOG_ERROR, POLICY_LOGGER,
            "policy watcher failed with exception: no clone within OPAL_POLICY_REPO_CLONE_TIMEOUT=%lld "
            "seconds",
            (long long)config->policy_repo_clone_timeout);
        policy_source_give_up(source->policy);
        return;
    }
    git_retry_after(source, policy_source_backoff(source->failures, RETRY_FIRST_SECONDS, RETRY_MOST_SECONDS));
}

static void git_clone_too_large(struct git_source *source, struct slice reason)
{
    struct text text = {0};
    policy_count(source->policy, COUNTER_POLICY_REPO_TOO_LARGE, 1);
    text_append_format(&text, "it is larger than OPAL_POLICY_REPO_MAX_BYTES=%lld allows (%.*s)",
        (long long)bytes_max_of(source), (int)reason.length, reason.data);
    git_clone_failed(source, text_slice(&text));
    text_free(&text);
    /* Each try brings that many bytes: not as often as others. */
    if (event_pending(source->retry, EV_TIMEOUT, NULL))
        git_retry_after(source,
            policy_source_backoff(source->failures, RETRY_LARGE_FIRST_SECONDS, RETRY_LARGE_MOST_SECONDS));
}

static void git_on_changed(void *context, bool ok);

static void git_on_clone_read(void *context, const struct job_result *result)
{
    struct git_source *source = context;
    struct error err = {0};
    source->job = NULL;
    if (!result->ok || !take_hash(result->output, source->fetched)) {
        git_clone_failed(source, result->ok ? SLICE_LITERAL("git rev-parse gave no commit") : result->reason);
        return;
    }
    if (clone_folder_move(source->folder, source->work, source->place, &err) < 0) {
        git_clone_failed(source, slice_from_string(err.text));
        return;
    }
    free(source->work);
    source->work = NULL;
    free(source->repository);
    source->repository = source->place;
    source->place = NULL;
    source->fresh = true;
    log_write(LOG_INFO, POLICY_LOGGER, "Clone succeeded");
    if (source->head[0] && strcmp(source->head, source->fetched) != 0) {
        /* In place of a damaged one: what the clients know is older. */
        source->state = GIT_CHANGING;
        source->change = change_start(source->policy, source->repository, source->head, source->fetched,
            branch_of(source), git_on_changed, source);
        return;
    }
    memcpy(source->head, source->fetched, sizeof source->head);
    policy_set_head(source->policy, source->repository, source->head);
    git_become_ready(source);
}

static void git_on_cloned(void *context, const struct job_result *result)
{
    struct git_source *source = context;
    static const char *const arguments[] = {"rev-parse", "--verify", "HEAD^{commit}", NULL};
    source->job = NULL;
    if (!result->ok) {
        if (result->file_too_large)
            git_clone_too_large(source, result->reason);
        else
            git_clone_failed(source, result->reason);
        return;
    }
    git_run(source, source->work, arguments, git_on_clone_read);
}

static void git_clone(struct git_source *source)
{
    struct error err = {0};
    source->state = GIT_CLONING;
    if (source->failures == 0)
        source->clone_since_ns = clock_monotonic_ns();
    free(source->work);
    source->work = clone_folder_new_work(source->folder);
    free(source->place);
    source->place = clone_folder_new_place(source->folder);
    if (git_access_open(source->policy->config, &source->access, &err) < 0) {
        git_access_free(&source->access);
        git_clone_failed(source, slice_from_string(err.text));
        return;
    }
    /* --no-local: through the same checks of every object as over a network, also from a path. */
    const char *const arguments[] = {"clone", "--progress", "--no-checkout", "--no-tags", "--single-branch",
        "--no-local", "--branch", branch_of(source), "--", source->access.url, source->work, NULL};
    log_write(LOG_INFO, POLICY_LOGGER, "Cloning repo from '%s' to '%s' (branch: '%s')", source->access.url,
        source->place, branch_of(source));
    git_run_remote(source, NULL, arguments, bytes_max_of(source), git_on_cloned);
    git_access_free(&source->access);
}

/* ---- a clone that is there ---- */

static void git_discard(struct git_source *source, const char *why)
{
    log_write(LOG_WARNING, POLICY_LOGGER, "the clone in %s is not used (%s): cloning anew",
        source->repository, why);
    free(source->repository);
    source->repository = NULL;
    source->failures = 0;
    source->measured = false;
    git_clone(source);
}

static void git_on_opened(void *context, const struct job_result *result)
{
    struct git_source *source = context;
    source->job = NULL;
    if (result->ok && take_hash(result->output, source->head)) {
        log_write(LOG_INFO, POLICY_LOGGER,
            "SKIPPED cloning policy repo, found existing repo at '%s' with remotes: ['%s']",
            source->repository, source->policy->config->policy_repo_url);
        policy_set_head(source->policy, source->repository, source->head);
        source->again = true; /* it may be of long ago */
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
    source->job = NULL;
    while (at && at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        char *url = memory_copy(at, (size_t)((stop ? stop : end) - at));
        same = same || git_access_same_url(source->policy->config, url);
        free(url);
        at = stop ? stop + 1 : end;
    }
    if (!same) {
        if (source->policy->config->policy_repo_reuse_clone_path) {
            /* Whatever it is, it is not ours to delete. */
            log_write(LOG_ERROR, POLICY_LOGGER,
                "policy watcher failed with exception: Existing repo has wrong remote url: %s is no clone of "
                "the "
                "configured repository; move it away or set another OPAL_POLICY_REPO_CLONE_PATH",
                source->repository);
            policy_source_give_up(source->policy);
            return;
        }
        git_discard(source, "Existing repo has wrong remote url");
        return;
    }
    text_append_format(&commit, "refs/heads/%s^{commit}", branch_of(source));
    const char *const arguments[] = {"rev-parse", "--verify", commit.data, NULL};
    git_run(source, source->repository, arguments, git_on_opened);
    text_free(&commit);
}

static void git_open_clone(struct git_source *source)
{
    static const char *const arguments[] = {"config", "--local", "--get-all", "remote.origin.url", NULL};
    source->state = GIT_OPENING;
    clone_folder_unlock(source->repository);
    git_run(source, source->repository, arguments, git_on_remote_read);
}

static void git_begin(struct git_source *source)
{
    struct error err = {0};
    source->state = GIT_LOCKING;
    if (clone_folder_lock(source->folder, &err) < 0) {
        log_write_limited(&source->limit_lock, LOG_ERROR, POLICY_LOGGER, "%s", err.text);
        git_retry_after(source, LOCK_RETRY_SECONDS);
        return;
    }
    free(source->repository);
    source->repository = clone_folder_find(source->folder);
    if (source->repository && clone_folder_is_repository(source->repository)) {
        git_open_clone(source);
        return;
    }
    free(source->repository);
    source->repository = NULL;
    git_clone(source);
}

/* ---- looking for changes ---- */

static void git_check_done(struct git_source *source)
{
    source->state = GIT_IDLE;
    source->failures = 0;
    event_del(source->retry);
    if (source->again) {
        source->again = false;
        git_fetch(source);
    }
}

static void git_check_failed(struct git_source *source, struct slice reason)
{
    source->failures++;
    source->state = GIT_IDLE;
    policy_count(source->policy, COUNTER_POLICY_CHECKS_FAILED, 1);
    double seconds = policy_source_backoff(source->failures, RETRY_FIRST_SECONDS, RETRY_MOST_SECONDS);
    log_write(LOG_ERROR, POLICY_LOGGER,
        "cannot pull changes of the policy repo: %.*s; trying again in %.1f s (failure %u)",
        (int)reason.length, reason.data, seconds, source->failures);
    source->again = false;
    clone_folder_unlock(source->repository);
    git_retry_after(source, seconds);
}

static void git_on_collected(void *context, const struct job_result *result)
{
    struct git_source *source = context;
    source->job = NULL;
    source->measured = false;
    if (!result->ok)
        log_write(LOG_WARNING, POLICY_LOGGER, "the clone could not be packed: %.*s",
            (int)result->reason.length, result->reason.data);
    git_check_done(source);
}

static void git_on_changed(void *context, bool ok)
{
    struct git_source *source = context;
    source->change = NULL;
    if (!ok) {
        git_discard(source, "it can't be read or written");
        return;
    }
    memcpy(source->head, source->fetched, sizeof source->head);
    source->measured = false;
    git_remove_leftovers(source); /* a damaged clone in whose place this one came */
    if (++source->changes % COLLECT_EVERY == 0) {
        static const char *const arguments[] = {"-c", "gc.auto=1000", "gc", "--auto", "--quiet", NULL};
        git_run(source, source->repository, arguments, git_on_collected);
        return;
    }
    git_check_done(source);
}

static void git_on_fetched_read(void *context, const struct job_result *result)
{
    struct git_source *source = context;
    source->job = NULL;
    if (!result->ok || !take_hash(result->output, source->fetched)) {
        git_discard(source, "what was fetched can't be read");
        return;
    }
    if (strcmp(source->fetched, source->head) == 0) {
        log_write(LOG_INFO, POLICY_LOGGER, "No new commits: HEAD is at '%s'", source->head);
        git_check_done(source);
        return;
    }
    log_write(LOG_INFO, POLICY_LOGGER, "Found new commits: old HEAD was '%s', new HEAD is '%s'", source->head,
        source->fetched);
    source->fresh = false;
    source->state = GIT_CHANGING;
    source->change = change_start(source->policy, source->repository, source->head, source->fetched,
        branch_of(source), git_on_changed, source);
}

/* What is there and what would come are too much together. A clone made anew holds nothing that the remote has taken back; if that is
 * too large as well, it is tried again and again, and the old one goes on being served. */
static void git_no_room(struct git_source *source)
{
    policy_count(source->policy, COUNTER_POLICY_REPO_TOO_LARGE, 1);
    clone_folder_unlock(source->repository);
    git_discard(source, "it would get larger than OPAL_POLICY_REPO_MAX_BYTES allows");
}

static void git_on_fetched(void *context, const struct job_result *result)
{
    struct git_source *source = context;
    struct text commit = {0};
    source->job = NULL;
    if (!result->ok) {
        if (result->file_too_large)
            git_no_room(source);
        else
            git_check_failed(source, result->reason);
        return;
    }
    text_append_format(&commit, "refs/remotes/origin/%s^{commit}", branch_of(source));
    const char *const arguments[] = {"rev-parse", "--verify", commit.data, NULL};
    git_run(source, source->repository, arguments, git_on_fetched_read);
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
    if (git_access_open(source->policy->config, &source->access, &err) < 0) {
        git_access_free(&source->access);
        git_check_failed(source, slice_from_string(err.text));
        return;
    }
    text_append_format(
        &refspec, "+refs/heads/%s:refs/remotes/origin/%s", branch_of(source), branch_of(source));
    /* fetch.unpackLimit: one pack, however few objects come, so that its limit is that of all that comes. */
    const char *const arguments[] = {"-c", "fetch.unpackLimit=1", "fetch", "--progress", "--no-tags",
        "--no-write-fetch-head", "--no-recurse-submodules", "--", source->access.url, refspec.data, NULL};
    git_run_remote(source, source->repository, arguments, room, git_on_fetched);
    git_access_free(&source->access);
    text_free(&refspec);
}

static void git_on_measured(void *context, const struct job_result *result)
{
    struct git_source *source = context;
    source->job = NULL;
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
    log_write(LOG_INFO, POLICY_LOGGER, "Pulling changes from remote: 'origin'");
    policy_count(source->policy, COUNTER_POLICY_CHECKS, 1);
    source->state = GIT_FETCHING;
    event_del(source->retry);
    if (bytes_max_of(source) > 0 && !source->measured)
        git_run(source, source->repository, arguments, git_on_measured);
    else
        git_fetch_now(source);
}

static void git_on_retry(evutil_socket_t descriptor, short what, void *context)
{
    struct git_source *source = context;
    (void)descriptor;
    (void)what;
    if (source->state == GIT_LOCKING)
        git_begin(source);
    else if (source->state == GIT_CLONING)
        git_clone(source);
    else if (source->state == GIT_IDLE)
        git_fetch(source);
}

/* ---- life ---- */

static void *git_source_open(struct policy *policy)
{
    struct git_source *source = memory_allocate(sizeof *source);
    source->policy = policy;
    source->folder = clone_folder_open(policy->config);
    source->retry = event_new(policy->base, -1, 0, git_on_retry, source);
    source->state = GIT_LOCKING;
    event_active(source->retry, EV_TIMEOUT, 0);
    return source;
}

static void git_source_close(void *context)
{
    struct git_source *source = context;
    if (source->job)
        job_abandon(source->job);
    if (source->change)
        change_abandon(source->change);
    event_free(source->retry);
    if (source->leftovers)
        clone_folder_free_list(source->leftovers);
    free(source->repository);
    free(source->work);
    free(source->place);
    clone_folder_close(source->folder);
    free(source);
}

static void git_source_check(void *context)
{
    struct git_source *source = context;
    if (source->state == GIT_IDLE)
        git_fetch(source);
    else
        source->again = true;
}

const struct source_kind git_source_kind = {git_source_open, git_source_close, git_source_check};
