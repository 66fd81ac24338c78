#include "server/policy/bundle/bundle_build.h"

#include <errno.h>
#include <git2.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "shm/common/loggers.h"
#include "server/policy/bundle/bundle_blob.h"
#include "server/policy/bundle/bundle_manifest.h"
#include "server/policy/bundle/bundle_modules.h"
#include "server/policy/bundle/bundle_path.h"
#include "server/policy/bundle/bundle_text.h"
#include "shm/common/utf8.h"

#define FLUSH_BYTES    65536
#define REVISION_BYTES 255

struct bundle_builder {
    struct bundle_rules rules;
    struct bundle_limits limits;
    /* of the commit last asked for */
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
    struct text normal; /* the directories' memory */
    struct slice *paths;
    struct bundle_directories directories;
    char old_hash[BUNDLE_HASH_LENGTH + 1]; /* empty: a full bundle */
    struct bundle_diff diff;
    struct bundle_modules modules;
    struct bundle_modules deleted;
    struct bundle_output *output;
    struct text text; /* what was not given to the output yet */
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
    /* The folder was named by our own configuration; whose it is says nothing (containers run under any uid). */
    git_libgit2_opts(GIT_OPT_SET_OWNER_VALIDATION, 0);
    /* git has checked each object's hash when it was fetched and does not do it again at each read, either; zlib's sum stays. */
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

/* Opened anew for each commit: packs may have come and gone since. */
static int builder_look_at(
    struct bundle_builder *builder, const char *path, const char *head, struct error *err)
{
    git_oid oid;
    const struct bundle_tree_limits limits = {builder->limits.files, builder->limits.path_bytes};
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
    job->directories = (struct bundle_directories){job->paths, count};
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

/* Hashes, short ones too, and names as HEAD~2 or a branch. Searches through messages (":/text", "^{/text}") and the reflog ("@{1}") are not
 * for a client to start. */
static bool revision_is_plain(struct slice base)
{
    if (base.length == 0 || base.length > REVISION_BYTES)
        return false;
    for (size_t i = 0; i < base.length; i++)
        if ((unsigned char)base.data[i] <= ' ' || strchr(":{}", base.data[i]))
            return false;
    return true;
}

/* Whether `revision` begins with the hash of a file, perhaps abbreviated, or with an ambiguous one: libgit2 would inflate what it finds whole,
 * however large it is, only to see that it is no commit. */
static bool revision_is_file(git_repository *repository, const char *revision)
{
    size_t digits = strspn(revision, "0123456789abcdefABCDEF");
    git_oid brief, whole;
    git_odb *store;
    git_object_t type = GIT_OBJECT_COMMIT;
    size_t length;
    if (digits < GIT_OID_MINPREFIXLEN || digits > BUNDLE_HASH_LENGTH ||
        git_oid_fromstrn(&brief, revision, digits) < 0 || git_repository_odb(&store, repository) < 0)
        return false;
    int found = git_odb_exists_prefix(&whole, store, &brief, digits);
    if (found == 0 && git_odb_read_header(&length, &type, store, &whole) < 0)
        type = GIT_OBJECT_COMMIT; /* what is wrong with it is seen when it is looked up */
    git_odb_free(store);
    return found == GIT_EAMBIGUOUS || type == GIT_OBJECT_BLOB;
}

/* Sets job->old_hash to the commit that `base` names. False: `base` is not that hash itself, and the result says what to ask with. */
static bool job_take_base(struct bundle_job *job, struct slice base)
{
    static struct log_limiter limiter;
    git_object *object = NULL, *commit = NULL;
    if (base.length == 0)
        return true;
    char *revision = memory_copy(base.data, base.length);
    if (revision_is_plain(base) && !revision_is_file(job->builder->repository, revision) &&
        git_revparse_single(&object, job->builder->repository, revision) == 0 &&
        git_object_peel(&commit, object, GIT_OBJECT_COMMIT) == 0)
        git_oid_tostr(job->old_hash, sizeof job->old_hash, git_object_id(commit));
    else
        log_write_limited(&limiter, LOG_WARNING, LOGGER_BUNDLE,
            "base_hash %.64s not exist in the repo: a full bundle is given", revision);
    git_object_free(commit);
    git_object_free(object);
    free(revision);
    if (slice_equals_string(base, job->old_hash))
        return true;
    job->result->status = BUNDLE_OTHER_BASE;
    memcpy(job->result->base, job->old_hash, sizeof job->old_hash);
    return false;
}

/* A base whose objects are not all here any more, as after a force push and git's cleaning up: -1. */
static int job_take_diff(struct bundle_job *job)
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

/* ---- writing ---- */

/* Ill-formed UTF-8 in names and files becomes U+FFFD: one file in another encoding must not keep all others from the clients. */
static void write_string(struct bundle_job *job, struct slice value)
{
    if (utf8_is_valid(value)) {
        text_append_json_utf8(&job->text, value);
        return;
    }
    struct text repaired = {0};
    utf8_repair(value, &repaired);
    text_append_json_utf8(&job->text, text_slice(&repaired));
    text_free(&repaired);
}

static void write_key(struct bundle_job *job, const char *before)
{
    text_append_string(&job->text, before);
}

static void write_strings(struct bundle_job *job, const struct slice *values, size_t count)
{
    text_append_char(&job->text, '[');
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            text_append_char(&job->text, ',');
        write_string(job, values[i]);
    }
    text_append_char(&job->text, ']');
}

static void write_manifest(struct bundle_job *job)
{
    struct slice *paths = memory_allocate((job->modules.count + 1) * sizeof *paths);
    for (size_t i = 0; i < job->modules.count; i++)
        paths[i] = job->modules.items[i].path;
    bundle_manifest_sort(&job->builder->manifest, paths, job->modules.count);
    write_strings(job, paths, job->modules.count);
    free(paths);
}

static void write_module(struct bundle_job *job, const struct bundle_module *module, struct slice content)
{
    if (!utf8_is_valid(content)) {
        job->result->repaired++;
        log_write(LOG_WARNING, LOGGER_BUNDLE,
            "%.*s at %s is not UTF-8: its ill-formed bytes are replaced by U+FFFD", (int)module->path.length,
            module->path.data, job->builder->head_hash);
    }
    write_key(job, "{\"path\":");
    if (module->kind == BUNDLE_DATA) {
        write_string(job, bundle_path_parent(module->path));
        write_key(job, ",\"data\":");
    } else {
        write_string(job, module->path);
        write_key(job, ",\"package_name\":");
        write_string(job, bundle_text_package(content));
        write_key(job, ",\"rego\":");
    }
    write_string(job, content);
    text_append_char(&job->text, '}');
}

static int write_modules(struct bundle_job *job, enum bundle_kind kind, struct error *err)
{
    bool first = true;
    text_append_char(&job->text, '[');
    for (size_t i = 0; i < job->modules.count; i++) {
        const struct bundle_module *module = &job->modules.items[i];
        git_blob *blob;
        if (module->kind != kind)
            continue;
        if (bundle_blob_open(&blob, job->builder->repository, &module->oid, job->builder->limits.bytes, err) <
            0)
            return -1;
        if (!first)
            text_append_char(&job->text, ',');
        first = false;
        write_module(job, module, (struct slice){git_blob_rawcontent(blob), (size_t)git_blob_rawsize(blob)});
        git_blob_free(blob);
        if (job->text.length > FLUSH_BYTES && bundle_output_take(job->output, &job->text) < 0)
            return 0; /* the output says why */
    }
    text_append_char(&job->text, ']');
    return 0;
}

/* Policies last to first, so that what depends on another goes before it. */
static void write_deleted(struct bundle_job *job)
{
    const struct bundle_modules *deleted = &job->deleted;
    struct slice *data = memory_allocate((deleted->count + 1) * sizeof *data);
    struct slice *policies = memory_allocate((deleted->count + 1) * sizeof *policies);
    size_t data_count = 0, policy_count = 0;
    for (size_t i = 0; i < deleted->count; i++)
        if (deleted->items[i].kind == BUNDLE_DATA)
            data[data_count++] = bundle_path_parent(deleted->items[i].path);
        else
            policies[policy_count++] = deleted->items[i].path;
    bundle_manifest_sort(&job->builder->manifest, policies, policy_count);
    for (size_t low = 0, high = policy_count; low + 1 < high; low++) {
        struct slice swapped = policies[low];
        policies[low] = policies[--high];
        policies[high] = swapped;
    }
    write_key(job, "{\"data_modules\":");
    write_strings(job, data, data_count);
    write_key(job, ",\"policy_modules\":");
    write_strings(job, policies, policy_count);
    text_append_char(&job->text, '}');
    free(data);
    free(policies);
}

/* Keys in the reference's order. */
static int job_write(struct bundle_job *job, struct error *err)
{
    write_key(job, "{\"manifest\":");
    write_manifest(job);
    text_append_format(&job->text, ",\"hash\":\"%s\",\"old_hash\":", job->builder->head_hash);
    if (job->result->diff)
        text_append_format(&job->text, "\"%s\"", job->old_hash);
    else
        write_key(job, "null");
    write_key(job, ",\"data_modules\":");
    if (write_modules(job, BUNDLE_DATA, err) < 0)
        return -1;
    write_key(job, ",\"policy_modules\":");
    if (write_modules(job, BUNDLE_POLICY, err) < 0)
        return -1;
    write_key(job, ",\"deleted_files\":");
    if (job->deleted.count > 0)
        write_deleted(job);
    else
        write_key(job, "null");
    text_append_char(&job->text, '}');
    bundle_output_take(job->output, &job->text);
    return 0;
}

static int job_run(struct bundle_job *job, const struct bundle_request *request, struct error *err)
{
    if (builder_look_at(job->builder, request->repository, request->head, err) < 0)
        return -1;
    if (!job_take_paths(job, request) || !job_take_base(job, request->base))
        return 0;
    job_choose(job);
    job->output = bundle_output_open(job->builder->limits.bytes, err);
    if (!job->output)
        return -1;
    if (job_write(job, err) < 0) {
        bundle_output_abandon(job->output);
        return -1;
    }
    if (bundle_output_finish(job->output, &job->result->body, err) < 0)
        return -1;
    job->result->status = 200;
    return 0;
}

void bundle_builder_make(
    struct bundle_builder *builder, const struct bundle_request *request, struct bundle_result *result)
{
    struct bundle_job job = {.builder = builder, .result = result};
    struct error err = {0};
    static struct log_limiter limiter; /* clients ask again */
    if (job_run(&job, request, &err) < 0) {
        log_write_limited(&limiter, LOG_ERROR, LOGGER_BUNDLE, "No bundle of %s: %s", request->head, err.text);
        result->status = 500;
        text_append_string(
            &result->detail, err.code == E2BIG ? err.text : "the policy bundle could not be made");
        builder_forget(builder); /* the next try looks at the repository anew */
    }
    free(job.paths);
    text_free(&job.normal);
    text_free(&job.text);
    bundle_modules_free(&job.modules);
    bundle_modules_free(&job.deleted);
    bundle_diff_free(&job.diff);
}
