#include "server/policy/bundle/bundle_manifest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/json.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "server/policy/bundle/bundle_blob.h"
#include "server/policy/bundle/bundle_path.h"
#include "server/policy/bundle/bundle_text.h"
#include "shm/common/utf8.h"

#define MANIFEST_NAME ".manifest"
/* Of OPA's manifest. */
#define JSON_DEPTH 64

struct manifest_reader {
    struct bundle_manifest *manifest;
    git_repository *repository;
    const struct bundle_tree *tree;
    const struct bundle_rules *rules;
    /* By node. */
    bool *visited;
    size_t bytes_max;
    /* For the manifest files that come; those above a nested one are held while it is read. */
    size_t bytes_left;
    /* E2BIG, which ends the reading. */
    struct error *error;
    bool failed;
};

static void read_file(struct manifest_reader *reader, struct slice directory, struct slice name);

static void manifest_add(struct bundle_manifest *manifest, const struct bundle_node *file)
{
    if (manifest->count == manifest->capacity) {
        manifest->capacity = manifest->capacity ? manifest->capacity * 2 : 32;
        manifest->files = memory_resize(manifest->files, manifest->capacity * sizeof *manifest->files);
    }
    manifest->files[manifest->count++] = file;
}

static void join(struct slice directory, struct slice name, struct text *out)
{
    struct text joined = {0};
    text_append_slice(&joined, directory);
    text_append_char(&joined, '/');
    text_append_slice(&joined, name);
    bundle_path_normalize(text_slice(&joined), out);
    text_free(&joined);
}

/* What is wrong with an entry, or NULL. `*node` is what it names. */
static const char *entry_problem(struct manifest_reader *reader, struct slice directory, struct slice entry,
    struct slice path, const struct bundle_node **node)
{
    if ((entry.length && entry.data[0] == '/') || slice_equals(path, directory))
        return "is outside current .manifest directory";
    *node = bundle_tree_find(reader->tree, path); /* ".." names nothing here, so it can't lead out */
    if (!*node)
        return "does not exist";
    if (bundle_rules_ignores(reader->rules, path))
        return "is ignored by an ignore glob";
    if (reader->visited[*node - reader->tree->nodes])
        return "has redundant references";
    return NULL;
}

static void read_entry(
    struct manifest_reader *reader, struct slice directory, struct slice entry, enum log_level level)
{
    static struct log_limiter limiter;
    const struct bundle_node *node = NULL;
    struct text path = {0};
    join(directory, entry, &path);
    const char *problem = entry_problem(reader, directory, entry, text_slice(&path), &node);
    text_free(&path);
    if (problem) {
        log_write_limited(&limiter, level, LOGGER_MANIFEST, "  Path '%.*s' of the manifest in '%.*s' %s",
            (int)(entry.length < 1024 ? entry.length : 1024), entry.data, (int)directory.length,
            directory.data, problem);
        return;
    }
    reader->visited[node - reader->tree->nodes] = true;
    if (node->directory)
        read_file(reader, node->path, SLICE_LITERAL(MANIFEST_NAME));
    else
        manifest_add(reader->manifest, node);
}

/* OPA puts a JSON object with "revision" and "roots" there. No line of it names a file. */
static bool is_opa_manifest(struct slice text)
{
    struct json_document document = {0};
    struct slice trimmed = slice_trim(text, TEXT_SPACES);
    bool object = trimmed.length > 0 && trimmed.data[0] == '{' &&
                  json_check(&document, trimmed.data, trimmed.length, JSON_DEPTH) == JSON_OK;
    json_free(&document);
    return object;
}

static void read_lines(struct manifest_reader *reader, struct slice directory, struct slice text)
{
    size_t before = reader->manifest->count;
    bool opa = is_opa_manifest(text);
    if (opa)
        log_write(LOG_INFO, LOGGER_MANIFEST,
            "The manifest in '%.*s' is OPA's own: it gives the bundle no order", (int)directory.length,
            directory.data);
    struct slice line;
    while (!reader->failed && bundle_text_line(&text, &line)) {
        if (memchr(line.data, '\0', line.length) && line.data[0] != '/') {
            log_write(LOG_WARNING, LOGGER_MANIFEST,
                "The manifest in '%.*s' has a NUL in a path: taken as empty", (int)directory.length,
                directory.data);
            reader->manifest->count = before;
            return;
        }
        read_entry(reader, directory, line, opa ? LOG_DEBUG : LOG_WARNING);
    }
}

/* False: it can't be read, and the log says why. */
static bool open_file(struct manifest_reader *reader, const struct bundle_node *node, git_blob **blob)
{
    static struct log_limiter limiter;
    struct error err = {0};
    if (bundle_blob_open(blob, reader->repository, &node->oid, reader->bytes_left, &err) == 0)
        return true;
    if (err.code != E2BIG) {
        log_write(LOG_WARNING, LOGGER_MANIFEST, "Cannot read the manifest file '%s': taken as empty",
            node->path.data);
        return false;
    }
    reader->failed = true;
    error_set(reader->error, E2BIG, "the policy manifests are larger than %zu bytes", reader->bytes_max);
    log_write_limited(&limiter, LOG_ERROR, LOGGER_MANIFEST,
        "The manifest file '%s' is too large: OPAL_BUNDLE_MAX_BYTES is the limit of all manifest files "
        "together",
        node->path.data);
    return false;
}

/* The recursion ends: each directory is visited once, and the tree limits its depth. */
static void read_file(struct manifest_reader *reader, struct slice directory, struct slice name)
{
    struct text path = {0};
    git_blob *blob = NULL;
    join(directory, name, &path);
    const struct bundle_node *node = bundle_tree_find(reader->tree, text_slice(&path));
    if (!node || node->directory) {
        log_write(LOG_DEBUG, LOGGER_MANIFEST, "Manifest file %s not found, assuming empty", path.data);
    } else if (open_file(reader, node, &blob)) {
        struct slice text = {git_blob_rawcontent(blob), (size_t)git_blob_rawsize(blob)};
        reader->bytes_left -= text.length;
        if (utf8_is_valid(text))
            read_lines(reader, directory, text);
        else
            log_write(LOG_WARNING, LOGGER_MANIFEST, "The manifest file '%s' is not UTF-8: taken as empty",
                path.data);
        git_blob_free(blob);
    }
    text_free(&path);
}

int bundle_manifest_read(struct bundle_manifest *manifest, git_repository *repository,
    const struct bundle_tree *tree, const struct bundle_rules *rules, size_t bytes_max, struct error *err)
{
    struct manifest_reader reader = {.manifest = manifest,
        .repository = repository,
        .tree = tree,
        .rules = rules,
        .bytes_max = bytes_max,
        .bytes_left = bytes_max,
        .error = err};
    struct text root = {0};
    bundle_path_normalize(slice_from_string(rules->manifest_path ? rules->manifest_path : ""), &root);
    const struct bundle_node *node = bundle_tree_find(tree, text_slice(&root));
    text_free(&root);
    if (!node) {
        log_write(LOG_INFO, LOGGER_MANIFEST,
            "Root manifest path doesn't exist, no explicit order would be imposed on policy bundle");
        return 0;
    }
    reader.visited = memory_allocate(tree->count * sizeof *reader.visited);
    if (node->directory)
        read_file(&reader, node->path, SLICE_LITERAL(MANIFEST_NAME));
    else
        read_file(&reader, bundle_path_parent(node->path), bundle_path_name(node->path));
    free(reader.visited);
    if (!reader.failed)
        return 0;
    bundle_manifest_free(manifest);
    return -1;
}

void bundle_manifest_free(struct bundle_manifest *manifest)
{
    free(manifest->files);
    *manifest = (struct bundle_manifest){0};
}

/* ---- order ---- */

struct sort_item {
    struct slice path;
    /* In the list given. */
    size_t place;
};

static int compare_items(const void *a, const void *b)
{
    const struct sort_item *left = a, *right = b;
    int order = bundle_path_compare(left->path, right->path);
    return order ? order : (left->place > right->place) - (left->place < right->place);
}

/* The first item of that path. */
static struct sort_item *find_item(struct sort_item *items, size_t count, struct slice path)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (bundle_path_compare(items[middle].path, path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && slice_equals(items[low].path, path) ? &items[low] : NULL;
}

void bundle_manifest_sort(const struct bundle_manifest *manifest, struct slice *paths, size_t count)
{
    if (manifest->count == 0 || count == 0)
        return;
    struct sort_item *items = memory_allocate(count * sizeof *items);
    struct slice *sorted = memory_allocate(count * sizeof *sorted);
    bool *taken = memory_allocate(count * sizeof *taken);
    size_t filled = 0;
    for (size_t i = 0; i < count; i++)
        items[i] = (struct sort_item){.path = paths[i], .place = i};
    qsort(items, count, sizeof *items, compare_items);
    for (size_t i = 0; i < manifest->count; i++) {
        const struct sort_item *item = find_item(items, count, manifest->files[i]->path);
        if (!item)
            continue;
        sorted[filled++] = item->path;
        taken[item->place] = true;
    }
    for (size_t i = 0; i < count; i++)
        if (!taken[i])
            sorted[filled++] = paths[i];
    memcpy(paths, sorted, count * sizeof *paths);
    free(items);
    free(sorted);
    free(taken);
}
