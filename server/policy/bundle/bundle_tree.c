#include "server/policy/bundle/bundle_tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"
#include "server/policy/bundle/bundle_path.h"

/* A path of git's own limit, 4096 bytes, seldom has more. It keeps the recursion small. */
#define TREE_DEPTH_MAX 200

int bundle_tree_git_error(struct error *err, const char *what)
{
    const git_error *last = git_error_last();
    return error_set(
        err, EIO, "%s: %s", what, last && last->message ? last->message : "unknown error of libgit2");
}

static int tree_add(struct bundle_tree *tree, const struct bundle_tree_limits *limits, struct slice path,
    const git_oid *oid, bool directory, struct error *err)
{
    if (tree->count == limits->nodes)
        return error_set(err, E2BIG, "the repository has more than %zu files and directories", limits->nodes);
    if (path.length > limits->path_bytes)
        return error_set(err, E2BIG, "the repository has a path of more than %zu bytes", limits->path_bytes);
    if (tree->count == tree->capacity) {
        tree->capacity = tree->capacity ? tree->capacity * 2 : 256;
        tree->nodes = memory_resize(tree->nodes, tree->capacity * sizeof *tree->nodes);
    }
    struct bundle_node *node = &tree->nodes[tree->count++];
    node->path = (struct slice){memory_copy(path.data, path.length), path.length};
    node->oid = *oid;
    node->directory = directory;
    return 0;
}

/* git makes no such name, but a hostile repository can have one: in a path it would name something else. */
static bool name_is_safe(const char *name)
{
    return *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !strchr(name, '/');
}

struct tree_walk {
    struct bundle_tree *tree;
    git_repository *repository;
    const struct bundle_tree_limits *limits;
    /* Of the directory in hand; empty at the root. */
    struct text path;
};

static int walk_directory(struct tree_walk *walk, const git_oid *oid, unsigned depth, struct error *err);

/* The entries of one kind, in the tree's order. */
static int walk_entries(
    struct tree_walk *walk, const git_tree *directory, git_object_t kind, unsigned depth, struct error *err)
{
    size_t before = walk->path.length;
    size_t count = git_tree_entrycount(directory);
    for (size_t i = 0; i < count; i++) {
        const git_tree_entry *entry = git_tree_entry_byindex(directory, i);
        if (git_tree_entry_type(entry) != kind || !name_is_safe(git_tree_entry_name(entry)))
            continue;
        if (before > 0)
            text_append_char(&walk->path, '/');
        text_append_string(&walk->path, git_tree_entry_name(entry));
        int result = kind == GIT_OBJECT_TREE ? walk_directory(walk, git_tree_entry_id(entry), depth + 1, err)
                                             : tree_add(walk->tree, walk->limits, text_slice(&walk->path),
                                                   git_tree_entry_id(entry), false, err);
        walk->path.length = before;
        if (result < 0)
            return -1;
    }
    return 0;
}

static int walk_directory(struct tree_walk *walk, const git_oid *oid, unsigned depth, struct error *err)
{
    git_tree *directory;
    struct slice path = walk->path.length ? text_slice(&walk->path) : SLICE_LITERAL(".");
    if (depth > TREE_DEPTH_MAX)
        return error_set(err, E2BIG, "the repository has more than %d levels of directories", TREE_DEPTH_MAX);
    if (tree_add(walk->tree, walk->limits, path, oid, true, err) < 0)
        return -1;
    if (git_tree_lookup(&directory, walk->repository, oid) < 0)
        return bundle_tree_git_error(err, "cannot read a directory");
    int result = walk_entries(walk, directory, GIT_OBJECT_BLOB, depth, err);
    if (result == 0)
        result = walk_entries(walk, directory, GIT_OBJECT_TREE, depth, err);
    git_tree_free(directory);
    return result;
}

static int compare_nodes(const void *a, const void *b, void *argument)
{
    const struct bundle_tree *tree = argument;
    return bundle_path_compare(tree->nodes[*(const size_t *)a].path, tree->nodes[*(const size_t *)b].path);
}

int bundle_tree_read(struct bundle_tree *tree, git_repository *repository, const git_oid *commit,
    const struct bundle_tree_limits *limits, struct error *err)
{
    struct tree_walk walk = {.tree = tree, .repository = repository, .limits = limits};
    git_commit *object;
    if (git_commit_lookup(&object, repository, commit) < 0)
        return bundle_tree_git_error(err, "cannot read the commit");
    int result = walk_directory(&walk, git_commit_tree_id(object), 0, err);
    git_commit_free(object);
    text_free(&walk.path);
    if (result < 0) {
        bundle_tree_free(tree);
        return -1;
    }
    tree->by_path = memory_allocate(tree->count * sizeof *tree->by_path);
    for (size_t i = 0; i < tree->count; i++)
        tree->by_path[i] = i;
    qsort_r(tree->by_path, tree->count, sizeof *tree->by_path, compare_nodes, tree);
    return 0;
}

void bundle_tree_free(struct bundle_tree *tree)
{
    for (size_t i = 0; i < tree->count; i++)
        free((void *)(uintptr_t)tree->nodes[i].path.data);
    free(tree->nodes);
    free(tree->by_path);
    *tree = (struct bundle_tree){0};
}

const struct bundle_node *bundle_tree_find(const struct bundle_tree *tree, struct slice path)
{
    size_t low = 0, high = tree->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct bundle_node *node = &tree->nodes[tree->by_path[middle]];
        int order = bundle_path_compare(node->path, path);
        if (order == 0)
            return node;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

size_t bundle_tree_file_count(const struct bundle_tree *tree)
{
    size_t count = 0;
    for (size_t i = 0; i < tree->count; i++)
        count += !tree->nodes[i].directory;
    return count;
}
