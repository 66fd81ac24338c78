/*
 * A server of bundles as the source: its tar.gz becomes commits of a local repository, and from there on all is as with git. Its life:
 *
 *   LOCKING -> (a repository is there: OPENING ->) FETCHING <-> IDLE, CHANGING after a fetch with news
 *
 * A fetch is one run of the fetcher (api_fetch.h). A failed one is tried again after five seconds, for ever, as with the reference.
 */
#include <stdlib.h>
#include <string.h>

#include "server/common/log.h"
#include "server/common/memory.h"
#include "server/policy/api_fetch.h"
#include "server/policy/api_unpack.h"
#include "server/policy/change.h"
#include "server/policy/clone_folder.h"
#include "server/policy/git_command.h"
#include "server/policy/policy_source_internal.h"

#define RETRY_SECONDS 5

enum api_state { API_LOCKING, API_OPENING, API_FETCHING, API_CHANGING, API_IDLE };

struct api_source {
    struct policy *policy;
    struct clone_folder *folder;
    enum api_state state;
    struct job *job;
    struct change *change;
    struct event *retry;
    char *repository; /* NULL: there is none yet */
    char *work;       /* the first one, being made */
    char head[POLICY_HASH_LENGTH + 1];
    char fetched[POLICY_HASH_LENGTH + 1];
    struct text version; /* of the bundle that `head` is; empty: not known */
    char **leftovers;
    bool again;
    bool ready;
    struct log_limiter limit_lock;
};

static void api_fetch(struct api_source *source);

static void api_retry_later(struct api_source *source)
{
    const struct timeval delay = {RETRY_SECONDS, 0};
    event_add(source->retry, &delay);
}

/* The version as people know it. */
static const char *shown(const struct text *version)
{
    const char *colon = version->data ? strchr(version->data, ':') : NULL;
    return colon ? colon + 1 : "None";
}

/* ---- away with what is not needed ---- */

static void api_on_removed(void *context, const struct job_result *result)
{
    struct api_source *source = context;
    (void)result;
    clone_folder_free_list(source->leftovers);
    source->leftovers = NULL;
}

static void api_remove_leftovers(struct api_source *source)
{
    size_t count = 0;
    if (source->leftovers)
        return;
    source->leftovers = clone_folder_leftovers(
        source->folder, source->repository ? source->repository : source->policy->repository);
    while (source->leftovers[count])
        count++;
    const char **argv = memory_allocate(sizeof *argv * (count + 4));
    argv[0] = "rm";
    argv[1] = "-rf";
    argv[2] = "--";
    memcpy(argv + 3, source->leftovers, count * sizeof *argv);
    const struct job_settings settings = {.argv = argv,
        .stall_seconds = 3600,
        .output_max = GIT_OUTPUT_SMALL,
        .done = api_on_removed,
        .context = source};
    if (count > 0)
        job_start(source->policy, &settings);
    else
        api_on_removed(source, NULL);
    free(argv);
}

/* ---- after a fetch ---- */

static void api_become_idle(struct api_source *source)
{
    source->state = API_IDLE;
    if (!source->ready) {
        source->ready = true;
        policy_source_ready(source->policy);
    }
    if (source->again) {
        source->again = false;
        api_fetch(source);
    }
}

static void api_failed(struct api_source *source, struct slice reason)
{
    log_write(LOG_ERROR, POLICY_LOGGER,
        "Failed to %s policy from remote API bundle server: %.*s; trying again in %d s",
        source->repository ? "update" : "load initial", (int)reason.length, reason.data, RETRY_SECONDS);
    policy_count(source->policy, COUNTER_POLICY_CHECKS_FAILED, 1);
    source->state = API_FETCHING; /* and stays so until it worked: a check now changes nothing */
    api_remove_leftovers(source);
    if (source->repository)
        clone_folder_unlock(source->repository);
    api_retry_later(source);
}

static void api_on_changed(void *context, bool ok)
{
    struct api_source *source = context;
    source->change = NULL;
    if (!ok) {
        free(source->repository); /* a new one takes its place */
        source->repository = NULL;
        text_clear(&source->version);
        api_failed(source, SLICE_LITERAL("the local repository can't be read or written"));
        return;
    }
    memcpy(source->head, source->fetched, sizeof source->head);
    api_become_idle(source);
}

static void api_take_commit(struct api_source *source)
{
    struct error err = {0};
    bool first = !source->repository;
    if (first) {
        char *place = clone_folder_new_place(source->folder);
        if (clone_folder_move(source->folder, source->work, place, &err) < 0) {
            free(place);
            api_failed(source, slice_from_string(err.text));
            return;
        }
        source->repository = place;
    }
    if (first && !source->head[0]) {
        memcpy(source->head, source->fetched, sizeof source->head);
        policy_set_head(source->policy, source->repository, source->head);
        api_remove_leftovers(source);
        api_become_idle(source);
        return;
    }
    if (strcmp(source->head, source->fetched) == 0) { /* another archive of the same files */
        log_write(LOG_INFO, POLICY_LOGGER, "No new version: current hash is: %s", shown(&source->version));
        policy_set_head(source->policy, source->repository, source->head);
        api_become_idle(source);
        return;
    }
    source->state = API_CHANGING;
    source->change = change_start(source->policy, source->repository, source->head, source->fetched,
        API_UNPACK_BRANCH, api_on_changed, source);
}

/* ---- the fetch ---- */

static bool take_line(struct slice *rest, struct slice *line)
{
    const char *end = rest->length ? memchr(rest->data, '\n', rest->length) : NULL;
    if (!end)
        return false;
    *line = (struct slice){rest->data, (size_t)(end - rest->data)};
    *rest = (struct slice){end + 1, rest->length - line->length - 1};
    return true;
}

static void api_on_fetched(void *context, const struct job_result *result)
{
    struct api_source *source = context;
    struct slice rest = result->output;
    struct slice what, version, commit;
    source->job = NULL;
    if (!result->ok || !take_line(&rest, &what) || !take_line(&rest, &version) ||
        !take_line(&rest, &commit)) {
        api_failed(source, result->reason);
        return;
    }
    if (slice_equals_string(what, "unchanged")) {
        log_write(LOG_INFO, POLICY_LOGGER, "No new version: current hash is: %s", shown(&source->version));
        api_become_idle(source);
        return;
    }
    if (commit.length != POLICY_HASH_LENGTH) {
        api_failed(source, SLICE_LITERAL("the fetcher named no commit"));
        return;
    }
    struct text before = source->version;
    source->version = (struct text){0};
    text_append_slice(&source->version, version);
    log_write(LOG_INFO, POLICY_LOGGER,
        "Found new version: old version hash was '%s', new version hash is '%s'", shown(&before),
        shown(&source->version));
    text_free(&before);
    memcpy(source->fetched, commit.data, POLICY_HASH_LENGTH);
    source->fetched[POLICY_HASH_LENGTH] = '\0';
    api_take_commit(source);
}

static char *assignment(const char *name, const char *value)
{
    struct text text = {0};
    text_append_format(&text, "%s=%s", name, value);
    return text.data;
}

static void api_fetch(struct api_source *source)
{
    const struct policy *policy = source->policy;
    const char **argv = memory_allocate(sizeof *argv * ((size_t)policy->argc + 2));
    event_del(source->retry);
    source->state = API_FETCHING;
    policy_count(source->policy, COUNTER_POLICY_CHECKS, 1);
    log_write(
        LOG_INFO, POLICY_LOGGER, "Fetching changes from remote: '%s'", policy->config->policy_bundle_url);
    free(source->work);
    source->work = clone_folder_new_work(source->folder);
    char *environment[] = {
        assignment(API_FETCH_REPOSITORY, source->repository ? source->repository : source->work),
        assignment(API_FETCH_VERSION, source->version.data ? source->version.data : ""),
        assignment(API_FETCH_FOLDER, clone_folder_base(source->folder)), NULL};
    argv[0] = "/proc/self/exe";
    argv[1] = "--as-bundle-fetcher";
    for (int i = 1; i < policy->argc; i++)
        argv[i + 1] = policy->argv[i];
    const struct job_settings settings = {.argv = argv,
        .environment = (const char *const *)environment,
        .stall_seconds = policy->config->policy_repo_stall_seconds,
        .output_max = GIT_OUTPUT_SMALL,
        .keep_secrets = true,
        .done = api_on_fetched,
        .context = source};
    source->job = job_start(source->policy, &settings);
    for (size_t i = 0; environment[i]; i++)
        free(environment[i]);
    free(argv);
}

/* ---- the start ---- */

static void api_on_opened(void *context, const struct job_result *result)
{
    struct api_source *source = context;
    source->job = NULL;
    if (result->ok && result->output.length >= POLICY_HASH_LENGTH) {
        memcpy(source->head, result->output.data, POLICY_HASH_LENGTH);
        policy_set_head(source->policy, source->repository, source->head);
        api_remove_leftovers(source);
    } else {
        log_write(LOG_WARNING, POLICY_LOGGER, "the repository in %s is not used: it has no whole commit",
            source->repository);
        free(source->repository);
        source->repository = NULL;
    }
    api_fetch(source);
}

static void api_begin(struct api_source *source)
{
    static const char *const arguments[] = {
        "rev-parse", "--verify", "refs/heads/" API_UNPACK_BRANCH "^{commit}", NULL};
    struct error err = {0};
    if (clone_folder_lock(source->folder, &err) < 0) {
        log_write_limited(&source->limit_lock, LOG_ERROR, POLICY_LOGGER, "%s", err.text);
        api_retry_later(source);
        return;
    }
    source->repository = clone_folder_find(source->folder);
    if (source->repository && !clone_folder_is_repository(source->repository)) {
        free(source->repository);
        source->repository = NULL;
    }
    if (!source->repository) {
        api_fetch(source);
        return;
    }
    source->state = API_OPENING;
    clone_folder_unlock(source->repository);
    const struct git_command command = {
        .repository = source->repository, .arguments = arguments, .done = api_on_opened, .context = source};
    source->job = git_command_start(source->policy, &command);
}

static void api_on_retry(evutil_socket_t descriptor, short what, void *context)
{
    struct api_source *source = context;
    (void)descriptor;
    (void)what;
    if (source->state == API_LOCKING)
        api_begin(source);
    else if (!source->job && !source->change)
        api_fetch(source);
}

static void *api_source_open(struct policy *policy)
{
    struct api_source *source = memory_allocate(sizeof *source);
    source->policy = policy;
    source->folder = clone_folder_open(policy->config);
    source->retry = event_new(policy->base, -1, 0, api_on_retry, source);
    source->state = API_LOCKING;
    event_active(source->retry, EV_TIMEOUT, 0);
    return source;
}

static void api_source_close(void *context)
{
    struct api_source *source = context;
    if (source->job)
        job_abandon(source->job);
    if (source->change)
        change_abandon(source->change);
    event_free(source->retry);
    if (source->leftovers)
        clone_folder_free_list(source->leftovers);
    text_free(&source->version);
    free(source->repository);
    free(source->work);
    clone_folder_close(source->folder);
    free(source);
}

static void api_source_check(void *context)
{
    struct api_source *source = context;
    if (source->state == API_IDLE)
        api_fetch(source);
    else
        source->again = true;
}

const struct source_kind api_source_kind = {api_source_open, api_source_close, api_source_check};
