/*
 * A server of bundles as the source: its tar.gz becomes commits of a local repository, and from there on it
 * is as with git. Its life:
 *
 *   LOCKING -> (a repository is there: OPENING ->) FETCHING <-> IDLE, CHANGING after a fetch with news
 *
 * A fetch is one run of the fetcher (api_fetch.h). A failed one is tried again after five seconds, without
 * end, as with the reference.
 */
#include <stdlib.h>
#include <string.h>

#include "shm/common/git_url.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/common/object.h"
#include "server/policy/source/api_fetch.h"
#include "server/policy/source/api_unpack.h"
#include "server/policy/source/git_command.h"
#include "server/policy/source/source_base.h"

#define API_SOURCE_MAGIC UINT32_C(0x61706973)
#define RETRY_SECONDS    5

struct api_source {
    uint32_t magic;
    struct source_base base;
    /* Of the bundle server, without user and password. */
    char *url;
    /* Of the bundle that the head is; empty: not known. */
    struct text version;
};

static void api_fetch(struct api_source *source);

static struct api_source *api_source_of(void *context)
{
    return object_cast(struct api_source, API_SOURCE_MAGIC, context);
}

/* The version as people know it. */
static const char *shown(const struct text *version)
{
    const char *colon = version->data ? strchr(version->data, ':') : NULL;
    return colon ? colon + 1 : "None";
}

/* ---- after a fetch ---- */

static void api_failed(struct api_source *source, struct slice reason)
{
    log_write(LOG_ERROR, LOGGER_POLICY,
        "Failed to %s policy from remote API bundle server: %.*s; trying again in %d s",
        source->base.repository ? "update" : "load initial", (int)reason.length, reason.data, RETRY_SECONDS);
    policy_count(source->base.policy, COUNTER_POLICY_CHECKS_FAILED, 1);
    /* It stays so until a fetch works: a check changes nothing. */
    source->base.state = SOURCE_FETCHING;
    source_base_remove_leftovers(&source->base);
    if (source->base.repository)
        clone_folder_unlock(source->base.repository);
    source_base_retry_after(&source->base, RETRY_SECONDS);
}

static void api_changed(void *context, bool ok)
{
    struct api_source *source = api_source_of(context);
    if (!ok) {
        source_base_forget(&source->base); /* a new one takes its place */
        text_clear(&source->version);
        api_failed(source, SLICE_LITERAL("the local repository can't be read or written"));
        return;
    }
    source_base_idle(&source->base);
}

static void api_take_commit(struct api_source *source)
{
    struct error err = {0};
    bool first = !source->base.repository;
    if (first && source_base_settle(&source->base, clone_folder_new_place(source->base.folder), &err) < 0) {
        api_failed(source, slice_from_string(err.text));
        return;
    }
    if (first && !source->base.head[0]) {
        source_base_serve(&source->base, source->base.fetched);
        source_base_remove_leftovers(&source->base);
        source_base_idle(&source->base);
        return;
    }
    if (strcmp(source->base.head, source->base.fetched) == 0) { /* another archive of the same files */
        log_write(LOG_INFO, LOGGER_POLICY, "No new version: current hash is: %s", shown(&source->version));
        source_base_serve(&source->base, source->base.head);
        source_base_idle(&source->base);
        return;
    }
    source_base_change(&source->base, API_UNPACK_BRANCH);
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
    struct api_source *source = api_source_of(context);
    struct slice rest = result->output;
    struct slice what, version, commit;
    source->base.job = NULL;
    if (!result->ok || !take_line(&rest, &what) || !take_line(&rest, &version) ||
        !take_line(&rest, &commit)) {
        api_failed(source, result->reason);
        return;
    }
    if (slice_equals_string(what, "unchanged")) {
        log_write(LOG_INFO, LOGGER_POLICY, "No new version: current hash is: %s", shown(&source->version));
        source_base_idle(&source->base);
        return;
    }
    if (commit.length != POLICY_HASH_LENGTH || !git_command_take_hash(commit, source->base.fetched)) {
        api_failed(source, SLICE_LITERAL("the fetcher named no commit"));
        return;
    }
    struct text before = source->version;
    source->version = (struct text){0};
    text_append_slice(&source->version, version);
    log_write(LOG_INFO, LOGGER_POLICY,
        "Found new version: old version hash was '%s', new version hash is '%s'", shown(&before),
        shown(&source->version));
    text_free(&before);
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
    const struct policy *policy = source->base.policy;
    const char **argv = memory_allocate(sizeof *argv * ((size_t)policy->argc + 2));
    event_del(source->base.retry);
    source->base.state = SOURCE_FETCHING;
    policy_count(source->base.policy, COUNTER_POLICY_CHECKS, 1);
    log_write(LOG_INFO, LOGGER_POLICY, "Fetching changes from remote: '%s'", source->url);
    source_base_new_work(&source->base);
    char *environment[] = {assignment(API_FETCH_REPOSITORY,
                               source->base.repository ? source->base.repository : source->base.work),
        assignment(API_FETCH_VERSION, source->version.data ? source->version.data : ""),
        assignment(API_FETCH_FOLDER, clone_folder_base(source->base.folder)), NULL};
    argv[0] = "/proc/self/exe";
    argv[1] = "--as-bundle-fetcher";
    for (int i = 1; i < policy->argc; i++)
        argv[i + 1] = policy->argv[i];
    const struct job_settings settings = {.argv = argv,
        .environment = (const char *const *)environment,
        .stall_seconds = policy->config->policy_repo_stall_seconds,
        .output_max = GIT_OUTPUT_SMALL,
        .whole_environment = true,
        .done = api_on_fetched,
        .context = source};
    source->base.job = job_start(source->base.policy, &settings);
    for (size_t i = 0; environment[i]; i++)
        free(environment[i]);
    free(argv);
}

/* ---- the start ---- */

static void api_on_opened(void *context, const struct job_result *result)
{
    struct api_source *source = api_source_of(context);
    source->base.job = NULL;
    if (result->ok && git_command_take_hash(result->output, source->base.head)) {
        source_base_serve(&source->base, source->base.head);
        source_base_remove_leftovers(&source->base);
    } else {
        log_write(LOG_WARNING, LOGGER_POLICY, "the repository in %s is not used: it has no whole commit",
            source->base.repository);
        source_base_forget(&source->base);
    }
    api_fetch(source);
}

static void api_open(void *context)
{
    struct api_source *source = api_source_of(context);
    static const char *const arguments[] = {
        "rev-parse", "--verify", "refs/heads/" API_UNPACK_BRANCH "^{commit}", NULL};
    source_base_git(&source->base, source->base.repository, arguments, api_on_opened);
}

/* The first fetch, a check and another attempt are the same here. */
static void api_check(void *context)
{
    api_fetch(api_source_of(context));
}

static void *api_source_open(struct policy *policy, const struct source_hooks *hooks)
{
    static const struct source_steps steps = {
        .open = api_open, .load = api_check, .fetch = api_check, .retry = api_check, .changed = api_changed};
    struct api_source *source = memory_allocate(sizeof *source);
    source->magic = API_SOURCE_MAGIC;
    struct git_url url = {0};
    struct error err = {0};
    bool good = git_url_parse(&url, policy->config->policy_bundle_url, &err) == 0;
    source->url = memory_copy_string(good ? text_slice(&url.plain).data : "***");
    git_url_free(&url);
    source_base_open(&source->base, policy, hooks, &steps, source);
    return source;
}

static void api_source_close(void *context)
{
    struct api_source *source = api_source_of(context);
    source_base_close(&source->base);
    text_free(&source->version);
    free(source->url);
    source->magic = 0;
    free(source);
}

static void api_source_check(void *context)
{
    struct api_source *source = api_source_of(context);
    source_base_check(&source->base);
}

const struct source_kind api_source_kind = {
    .open = api_source_open, .close = api_source_close, .check = api_source_check};
