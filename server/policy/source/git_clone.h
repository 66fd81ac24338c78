/*
 * Clones the configured repository into a folder and reads the commit of its branch: git children, one after
 * another. There is no work tree: bundles are read from the commits, so nothing that a repository holds
 * (filters, links, odd names) is ever written as a file. Policy process's loop.
 */
#ifndef OPALD_SERVER_POLICY_SOURCE_GIT_CLONE_H
#define OPALD_SERVER_POLICY_SOURCE_GIT_CLONE_H

#include <stdbool.h>
#include "shm/common/error.h"
#include "shm/common/text.h"

struct git_clone;
struct policy;

struct git_clone_result {
    /* The commit of the branch, 40 digits; NULL: it failed. */
    const char *hash;
    /* It failed because it would be larger than OPAL_POLICY_REPO_MAX_BYTES. */
    bool too_large;
    /* Why it failed, for people. */
    struct slice reason;
};

/* `work`: a folder that is not there yet; what is in it after a failure is the caller's to remove. `place`:
 * where the caller will move it, for the log. `done` is called once, from the loop; the clone is freed
 * afterwards. NULL with `err`: it can't be started, and `done` is not called. */
struct git_clone *git_clone_start(struct policy *policy, const char *work, const char *place,
    void (*done)(void *context, const struct git_clone_result *result), void *context, struct error *err);
/* Kills what runs; `done` is not called any more. */
void git_clone_abandon(struct git_clone *clone);

#endif
