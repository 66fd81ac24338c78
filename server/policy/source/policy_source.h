/*
 * Where policies come from. Both kinds, a git repository and a server of bundles, end in the same: a local
 * repository and a commit in it. The source keeps the repository up to date and publishes what a new commit
 * changed. Policy process's loop.
 */
#ifndef OPALD_SERVER_POLICY_SOURCE_POLICY_SOURCE_H
#define OPALD_SERVER_POLICY_SOURCE_POLICY_SOURCE_H

#include <stdbool.h>

struct policy;
struct policy_source;

/* Begins from the loop. Reports each new commit by policy_set_head. Never NULL. */
struct policy_source *policy_source_open(struct policy *policy);
/* Kills what it has running and leaves the repository as it is. NULL is allowed. */
void policy_source_close(struct policy_source *source);
/* Looks for changes: now, or again when it is looking already. */
void policy_source_check(struct policy_source *source);
/* Whether the source gave up and so ended the loop. */
bool policy_source_failed(const struct policy_source *source);

#endif
