/*
 * All files and directories of one commit, in the reference's order: a directory, then its files as git sorts
 * them, then its sub-directories, each with all it holds. Submodules are left out. Symbolic links count as
 * files, as in the reference. Bundle builder's process.
 */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_TREE_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_TREE_H

#include <git2.h>
#include <stdbool.h>
#include <stddef.h>
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

struct bundle_node {
    /* "." for the root; NUL-terminated; the tree's. */
    struct slice path;
    git_oid oid;
    bool directory;
};

/* Zero-initialise; bundle_tree_free at the end. */
struct bundle_tree {
    struct bundle_node *nodes;
    size_t count;
    size_t capacity;
    /* Indices of nodes, sorted by the bytes of the path. */
    size_t *by_path;
};

struct bundle_tree_limits {
    /* Files and directories. */
    size_t nodes;
    /* Of one path. */
    size_t path_bytes;
};

/* Reads `commit` into an empty tree. -1 with `err`: not a commit, broken objects, over a limit (code E2BIG).
 * */
MUST_CHECK int bundle_tree_read(struct bundle_tree *tree, git_repository *repository, const git_oid *commit,
    const struct bundle_tree_limits *limits, struct error *err);
void bundle_tree_free(struct bundle_tree *tree);
/* `path` in normal form. NULL: there is no such file or directory. */
const struct bundle_node *bundle_tree_find(const struct bundle_tree *tree, struct slice path);
size_t bundle_tree_file_count(const struct bundle_tree *tree);
/* Sets `err` from libgit2's last error of this thread; returns -1. */
int bundle_tree_git_error(struct error *err, const char *what);

#endif
