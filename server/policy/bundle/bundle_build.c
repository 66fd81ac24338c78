#include "server/policy/bundle/bundle_build.h"

#include <errno.h>
#include <git2.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "server/policy/bundle/bundle_manifest.h"
#include "server/policy/bundle/bundle_modules.h"
#include "server/policy/bundle/bundle_path.h"
#include "server/policy/bundle/bundle_revision.h"
#include "server/policy/bundle/bundle_write.h"

struct bundle_builder {
    struct bundle_rules rules;
    struct bundle_limits limits;
    /* Of the commit last asked for. */
    char *path;
    char head_hash[BUNDLE_HASH_LENGTH + 1];
    git_repository *repository;
    struct bundle_tree tree;
    struct bundle_manifest manifest;
};

/* One bundle in the making. */
struct bundle_job {
    struct bundle_builder *builder;
    struct bundle_result *result;
    /* The memory of `paths`. */
    struct text normal;
    struct slice *paths;
    struct bundle_directories directories;
    /* Empty: a full bundle. */
    char old_hash[BUNDLE_HASH_LENGTH + 1];
    struct bundle_diff diff;
    struct bundle_modules modules;
    struct bundle_modules deleted;
};

/* ---- the repository ---- */

static void builder_forget(struct bundle_builder *builder)
{
    bundle_manifest_free(&builder->manifest);
    bundle_tree_free(&builder->tree);
    git_repository_free(builder->repository);
    free(builder->path);
    builder->repository = NULL;
    builder->path = NULL;
    builder->head_hash[0] = '\0';
}

struct bundle_builder *bundle_builder_open(
    const struct bundle_rules *rules, const struct bundle_limits *limits)
{
    struct bundle_builder *builder = memory_allocate(sizeof *builder);
    static const int levels[] = {
        GIT_CONFIG_LEVEL_PROGRAMDATA, GIT_CONFIG_LEVEL_SYSTEM, GIT_CONFIG_LEVEL_XDG, GIT_CONFIG_LEVEL_GLOBAL};
    builder->rules = *rules;
    builder->limits = *limits;
    git_libgit2_init();
    /* Our own configuration names the folder; its owner means nothing, since containers run under any uid. */
    git_libgit2_opts(GIT_OPT_SET_OWNER_VALIDATION, 0);
    /* git has checked the hash of each object when it fetched it, and does not do it again at each read
     * either. zlib's checksum stays. */
    git_libgit2_opts(GIT_OPT_ENABLE_STRICT_HASH_VERIFICATION, 0);
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        git_libgit2_opts(GIT_OPT_SET_SEARCH_PATH, levels[i], "");
    return builder;
}

void bundle_builder_close(struct bundle_builder *builder)
{
    builder_forget(builder);
    free(builder);
    git_libgit2_shutdown();
}

static void append_list(struct text *out, const struct config_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        text_append_format(out, "%s%s", i > 0 ? "," : "", list->items[i]);
}

/* A mistake in an option may leave nothing of a repository. Clients then get an empty bundle and report no
 * error. */
static void builder_warn_when_empty(const struct bundle_builder *builder)
{
    const struct bundle_rules *rules = &builder->rules;
    size_t files = bundle_tree_file_count(&builder->tree);
    struct text extensions = {0}, policies = {0}, ignored = {0};
    if (files == 0 || bundle_modules_any(&builder->tree, rules))
        return;
    append_list(&extensions, rules->extensions);
    append_list(&policies, rules->policy_extensions);
    append_list(&ignored, rules->ignore);
    log_write(LOG_WARNING, LOGGER_BUNDLE,
        "The policy bundle of %.12s is empty: 0 of the repository's %zu files are in it. "
        "OPAL_FILTER_FILE_EXTENSIONS=%s, OPAL_POLICY_REPO_POLICY_EXTENSIONS=%s and OPAL_BUNDLE_IGNORE=%s "
        "choose the "
        "files",
        builder->head_hash, files, text_slice(&extensions).data, text_slice(&policies).data,
        text_slice(&ignored).data);
    text_free(&extensions);
    text_free(&policies);
    text_free(&ignored);
}

/* The repository is opened again for each commit: packs may have come and gone since. */
MUST_CHECK static int builder_look_at(
    struct bundle_builder *builder, const char *path, const char *head, struct error *err)
{
    git_oid oid;
    const struct bundle_tree_limits limits = {
        .nodes = builder->limits.files, .path_bytes = builder->limits.path_bytes};
    if (builder->repository && strcmp(builder->path, path) == 0 && strcmp(builder->head_hash, head) == 0)
        return 0;
    builder_forget(builder);
    if (strlen(head) != BUNDLE_HASH_LENGTH || git_oid_fromstr(&oid, head) < 0)
        return error_set(err, EINVAL, "'%s' is no commit hash", head);
    builder->path = memory_copy_string(path);
    if (git_repository_open_ext(&builder->repository, path, GIT_REPOSITORY_OPEN_NO_SEARCH, NULL) < 0) {
        bundle_tree_git_error(err, "cannot open the policy repository");
        builder_forget(builder);
        return -1;
    }
    if (bundle_tree_read(&builder->tree, builder->repository, &oid, &limits, err) < 0 ||
        bundle_manifest_read(&builder->manifest, builder->repository, &builder->tree, &builder->rules,
            builder->limits.bytes, err) < 0) {
        builder_forget(builder);
        return -1;
    }
    memcpy(builder->head_hash, head, sizeof builder->head_hash);
    builder_warn_when_empty(builder);
    return 0;
}

/* ---- what is asked for ---- */

/* False: a path is not in the commit, and the result says so. */
static bool job_take_paths(struct bundle_job *job, const struct bundle_request *request)
{
    size_t count = request->path_count ? request->path_count : 1;
    size_t *ends = memory_allocate(count * sizeof *ends);
    job->paths = memory_allocate(count * sizeof *job->paths);
    for (size_t i = 0; i < count; i++) {
        struct slice path = request->path_count ? request->paths[i] : SLICE_LITERAL("");
        bool absolute = path.length > 0 && path.data[0] == '/';
        bundle_path_normalize((struct slice){path.data + absolute, path.length - absolute}, &job->normal);
        ends[i] = job->normal.length;
    }
    for (size_t i = 0, begin = 0; i < count; begin = ends[i++])
        job->paths[i] = (struct slice){job->normal.data + begin, ends[i] - begin};
    free(ends);
    job->directories = (struct bundle_directories){.paths = job->paths, .count = count};
    for (size_t i = 0; i < count; i++) {
        if (bundle_tree_find(&job->builder->tree, job->paths[i]))
            continue;
        struct text *detail = &job->result->detail;
        job->result->status = 404;
        text_append_string(detail, "requested path ");
        text_append_slice(detail, job->paths[i]);
        text_append_string(detail, " was not found in the policy repo!");
        return false;
    }
    return true;
}

/* Sets job->old_hash to the commit that `base` names. False: `base` is not that hash itself, and the result
 * says what to ask with. */
static bool job_take_base(struct bundle_job *job, struct slice base)
{
    static struct log_limiter limiter;
    if (base.length == 0)
        return true;
    if (!bundle_revision_find(job->builder->repository, base, job->old_hash))
        log_write_limited(&limiter, LOG_WARNING, LOGGER_BUNDLE,
            "base_hash %.*s not exist in the repo: a full bundle is given",
            (int)(base.length < 64 ? base.length : 64), base.data);
    if (slice_equals_string(base, job->old_hash))
        return true;
    job->result->status = BUNDLE_OTHER_BASE;
    memcpy(job->result->base, job->old_hash, sizeof job->old_hash);
    return false;
}

/* -1: not all objects of the base are here any more, as after a force-push and git's cleaning up. */
MUST_CHECK static int job_take_diff(struct bundle_job *job)
{
    struct bundle_builder *builder = job->builder;
    struct error err = {0};
    if (strcmp(job->old_hash, builder->head_hash) == 0)
        return 0;
    if (bundle_diff_run(&job->diff, git_repository_path(builder->repository), job->old_hash,
            builder->head_hash, builder->limits.files, &err) == 0)
        return 0;
    log_write(LOG_WARNING, LOGGER_BUNDLE, "No difference from %s to %s to be had, a full bundle is given: %s",
        job->old_hash, builder->head_hash, err.text);
    bundle_diff_free(&job->diff);
    return -1;
}

static void job_choose(struct bundle_job *job)
{
    const struct bundle_rules *rules = &job->builder->rules;
    if (job->old_hash[0] && job_take_diff(job) < 0)
        job->old_hash[0] = '\0';
    job->result->diff = job->old_hash[0] != '\0';
    if (job->result->diff) {
        bundle_modules_of_diff(&job->modules, &job->diff, &job->directories, rules);
        bundle_modules_deleted(&job->deleted, &job->diff, &job->directories, rules);
    } else {
        bundle_modules_of_tree(&job->modules, &job->builder->tree, &job->directories, rules);
    }
    job->result->files = job->modules.count;
}

/* ---- the whole ---- */

MUST_CHECK static int job_write(struct bundle_job *job, struct error *err)
{
    const struct bundle_builder *builder = job->builder;
    const struct bundle_content content = {.repository = builder->repository,
        .manifest = &builder->manifest,
        .hash = builder->head_hash,
        .old_hash = job->result->diff ? job->old_hash : NULL,
        .modules = &job->modules,
        .deleted = &job->deleted,
        .file_bytes_max = builder->limits.bytes};
    struct bundle_output *output = bundle_output_open(builder->limits.bytes, err);
    if (!output)
        return -1;
    if (bundle_write(&content, output, &job->result->repaired, err) < 0) {
        bundle_output_abandon(output);
        return -1;
    }
    return bundle_output_finish(output, &job->result->body, err);
}

MUST_CHECK static int job_run(struct bundle_job *job, const struct bundle_request *request, struct error *err)
{
    if (builder_look_at(job->builder, request->repository, request->head, err) < 0)
        return -1;
    if (!job_take_paths(job, request) || !job_take_base(job, request->base))
        return 0;
    job_choose(job);
    if (job_write(job, err) < 0)
        return -1;
    job->result->status = 200;
    return 0;
}

void bundle_builder_make(
    struct bundle_builder *builder, const struct bundle_request *request, struct bundle_result *result)
{
    struct bundle_job job = {.builder = builder, .result = result};
    struct error err = {0};
    /* Clients ask again and again. */
    static struct log_limiter limiter;
    if (job_run(&job, request, &err) < 0) {
        log_write_limited(&limiter, LOG_ERROR, LOGGER_BUNDLE, "No bundle of %s: %s", request->head, err.text);
        result->status = 500;
        text_append_string(
            &result->detail, err.code == E2BIG ? err.text : "the policy bundle could not be made");
        builder_forget(builder); /* the next attempt opens the repository again */
    }
    free(job.paths);
    text_free(&job.normal);
    bundle_modules_free(&job.modules);
    bundle_modules_free(&job.deleted);
    bundle_diff_free(&job.diff);
}
