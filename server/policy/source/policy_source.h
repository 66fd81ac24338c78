/*
 * Where policies come from. Both kinds (a git repository, a server of bundles) end in the same: a local repository, and a commit in it. The
 * source keeps it up to date, and publishes what a new commit changed. Policy process's loop.
 */
#ifndef OPALD_SERVER_POLICY_SOURCE_POLICY_SOURCE_H
#define OPALD_SERVER_POLICY_SOURCE_POLICY_SOURCE_H

#include <stdbool.h>

struct policy;
struct policy_source;

/* Begins at once. Gives what it finds by policy_set_head. */
struct policy_source *policy_source_open(struct policy *policy);
/* Kills what it has running, and leaves the repository as it is. NULL is allowed. */
void policy_source_close(struct policy_source *source);
/* Look for changes: now, or once more when it is looking already. */
void policy_source_check(struct policy_source *source);
/* The loop was left because the source gave up. */
bool policy_source_failed(const struct policy_source *source);

#endif
