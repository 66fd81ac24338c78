/*
 * What changed between two commits, as git itself sees it: `git diff-tree -r -M --raw -z`. The program and not libgit2, because
 * which deleted and added files make a rename is git's own judgement (similarity, names, limits), and the reference takes git's.
 * Bundle builder's process, which may wait for the program.
 */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_DIFF_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_DIFF_H

#include <stddef.h>
#include "shm/common/error.h"
#include "shm/common/text.h"

#define BUNDLE_HASH_LENGTH 40

struct bundle_change {
    char status;       /* A, D, M, R, T (type changed) */
    unsigned old_mode; /* as git writes them: 0100644; 0160000 is a submodule; 0: not there */
    unsigned new_mode;
    char old_hash[BUNDLE_HASH_LENGTH + 1]; /* of the blob; zeros: not there */
    char new_hash[BUNDLE_HASH_LENGTH + 1];
    struct slice old_path; /* the same as new_path unless renamed; views into the output parsed */
    struct slice new_path;
};

/* Zero-initialise; bundle_diff_free at the end. */
struct bundle_diff {
    struct text output;
    struct bundle_change *changes;
    size_t count;
    size_t capacity;
};

/* Runs git in `repository` (its .git folder) on two full hashes. -1 with `err`: git can't be run, failed, or reports more than `changes_max`
 * (code E2BIG). */
int bundle_diff_run(struct bundle_diff *diff, const char *repository, const char *old_hash,
    const char *new_hash, size_t changes_max, struct error *err);
/* Pure: parses diff->output. */
int bundle_diff_parse(struct bundle_diff *diff, size_t changes_max, struct error *err);
void bundle_diff_free(struct bundle_diff *diff);

#endif
