/*
 * From an old to a new commit of the local repository: finds what changed (git, as a child), makes the new
 * commit the one that is served, publishes the event, and only then moves the branch on. If the process is
 * killed between any two of these, the next start finds the branch where it was, sees the same change and
 * publishes it again: a change is announced at least once. Policy process's loop.
 */
#ifndef OPALD_SERVER_POLICY_SOURCE_CHANGE_H
#define OPALD_SERVER_POLICY_SOURCE_CHANGE_H

#include <stdbool.h>

struct change;
struct policy;

/* `done` is called once, from the loop, and the change is freed afterwards. False: the repository is damaged
 * (the log says why); what was served still is. Never NULL. */
struct change *change_start(struct policy *policy, const char *repository, const char *old_hash,
    const char *new_hash, const char *branch, void (*done)(void *context, bool ok), void *context);
/* `done` is not called any more. */
void change_abandon(struct change *change);

#endif
