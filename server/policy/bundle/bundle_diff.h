/*
 * What changed between two commits, as git itself sees it: `git diff-tree -r -M --raw -z`. The program and
 * not libgit2, because git decides which deleted and added files are a rename (similarity, names, limits),
 * and the reference takes git's decision. Bundle builder's process, which may wait for the program.
 */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_DIFF_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_DIFF_H

#include <stddef.h>
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

#define BUNDLE_HASH_LENGTH 40

struct bundle_change {
    /* A, D, M, R, T (type changed). */
    char status;
    /* As git writes them: 0100644; 0160000 is a submodule; 0: not there. */
    unsigned old_mode;
    unsigned new_mode;
    /* Of the blob; zeros: not there. */
    char old_hash[BUNDLE_HASH_LENGTH + 1];
    char new_hash[BUNDLE_HASH_LENGTH + 1];
    /* The same unless it was renamed; views into the output that was parsed. */
    struct slice old_path;
    struct slice new_path;
};

/* Zero-initialise; bundle_diff_free at the end. */
struct bundle_diff {
    struct text output;
    struct bundle_change *changes;
    size_t count;
    size_t capacity;
};

/* Runs git in `repository` (its .git folder) on two full hashes. -1 with `err`: git can't be run, it failed,
 * or it reports more than `changes_max` changes (code E2BIG). */
MUST_CHECK int bundle_diff_run(struct bundle_diff *diff, const char *repository, const char *old_hash,
    const char *new_hash, size_t changes_max, struct error *err);
/* Pure: parses diff->output. */
MUST_CHECK int bundle_diff_parse(struct bundle_diff *diff, size_t changes_max, struct error *err);
void bundle_diff_free(struct bundle_diff *diff);

#endif
