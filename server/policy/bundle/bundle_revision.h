/* Which commit a client's base_hash names. Bundle builder's process. */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_REVISION_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_REVISION_H

#include <git2.h>
#include <stdbool.h>
#include "shm/common/object.h"
#include "shm/common/text.h"
#include "server/policy/bundle/bundle_diff.h"

/* Finds the commit that `revision` names: a hash, also a short one, or a name such as HEAD~2 or a branch.
 * False: there is none, or the search would be too expensive for what a client may ask; then `hash`
 * (BUNDLE_HASH_LENGTH + 1 bytes) is empty. */
MUST_CHECK bool bundle_revision_find(git_repository *repository, struct slice revision, char *hash);

#endif
