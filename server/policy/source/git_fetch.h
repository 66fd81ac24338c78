/* Looks for changes: measures the clone when that is needed, fetches the branch and reads its commit. Git
 * children, one after another. Policy process's loop. */
#ifndef OPALD_SERVER_POLICY_SOURCE_GIT_FETCH_H
#define OPALD_SERVER_POLICY_SOURCE_GIT_FETCH_H

#include "shm/common/text.h"
#include "server/policy/source/git_room.h"

struct git_fetch;
struct policy;

enum git_fetch_outcome {
    /* `hash` is the commit of the remote's branch. */
    GIT_FETCH_DONE,
    GIT_FETCH_FAILED,
    /* The clone would get larger than OPAL_POLICY_REPO_MAX_BYTES. */
    GIT_FETCH_NO_ROOM,
    /* The clone can't be used any more. */
    GIT_FETCH_DAMAGED,
};

struct git_fetch_result {
    enum git_fetch_outcome outcome;
    /* 40 digits. */
    const char *hash;
    /* What is wrong, for people. */
    struct slice reason;
};

/* `room` is updated, and stays valid until the end. `done` is called once, from the loop; the fetch is freed
 * afterwards. Never NULL. */
struct git_fetch *git_fetch_start(struct policy *policy, const char *repository, struct git_room *room,
    void (*done)(void *context, const struct git_fetch_result *result), void *context);
/* Kills what runs; `done` is not called any more. */
void git_fetch_abandon(struct git_fetch *fetch);

#endif
