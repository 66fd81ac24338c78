/* Which files make a bundle: chosen from a commit's tree or from the changes between two commits, in the
 * reference's order. Pure. */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_MODULES_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_MODULES_H

#include "server/policy/bundle/bundle_diff.h"
#include "server/policy/bundle/bundle_rules.h"
#include "server/policy/bundle/bundle_tree.h"

struct bundle_module {
    /* The tree's or the diff's. */
    struct slice path;
    git_oid oid;
    enum bundle_kind kind;
};

/* Zero-initialise; bundle_modules_free at the end. */
struct bundle_modules {
    struct bundle_module *items;
    size_t count;
    size_t capacity;
};

/* The directories asked for, in normal form. */
struct bundle_directories {
    const struct slice *paths;
    size_t count;
};

/* All modules of a commit under the directories. */
void bundle_modules_of_tree(struct bundle_modules *modules, const struct bundle_tree *tree,
    const struct bundle_directories *directories, const struct bundle_rules *rules);
/* Whether the commit has any. */
bool bundle_modules_any(const struct bundle_tree *tree, const struct bundle_rules *rules);
/* What was added, what was renamed (its new side), then what was modified. A file that was renamed and
 * changed is in there twice, as in the reference. */
void bundle_modules_of_diff(struct bundle_modules *modules, const struct bundle_diff *diff,
    const struct bundle_directories *directories, const struct bundle_rules *rules);
/* What was deleted, then the old side of what was renamed. `oid` is not set. */
void bundle_modules_deleted(struct bundle_modules *modules, const struct bundle_diff *diff,
    const struct bundle_directories *directories, const struct bundle_rules *rules);
void bundle_modules_free(struct bundle_modules *modules);

#endif
