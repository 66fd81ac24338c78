/*
 * The explicit order of a bundle: `.manifest` files, in which each line is a path relative to its directory;
 * the line of a directory stands for what that directory's own `.manifest` lists. A line that leads outside,
 * to nothing, to what is ignored or to what was named before is skipped with a warning. OPA's own
 * `.manifest`, a JSON object, gives no order and no warning. Bundle builder's process.
 */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_MANIFEST_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_MANIFEST_H

#include "shm/common/object.h"
#include "server/policy/bundle/bundle_rules.h"
#include "server/policy/bundle/bundle_tree.h"

/* Zero-initialise; bundle_manifest_free at the end. */
struct bundle_manifest {
    /* Of the tree, each once, in the order wanted. */
    const struct bundle_node **files;
    size_t count;
    size_t capacity;
};

/* Fills an empty manifest. A manifest file that can't be read (not UTF-8, a NUL in a path) counts as empty,
 * as with the reference. -1 with `err` (code E2BIG): the manifest files have more than `bytes_max` bytes
 * together; the manifest is empty then. */
MUST_CHECK int bundle_manifest_read(struct bundle_manifest *manifest, git_repository *repository,
    const struct bundle_tree *tree, const struct bundle_rules *rules, size_t bytes_max, struct error *err);
void bundle_manifest_free(struct bundle_manifest *manifest);

/* Brings `paths` into the manifest's order: those it names first, each taken once, then the others as they
 * were. */
void bundle_manifest_sort(const struct bundle_manifest *manifest, struct slice *paths, size_t count);

#endif
