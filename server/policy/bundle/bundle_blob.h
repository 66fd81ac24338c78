/* A file of the repository. Its size is looked at before its bytes: a huge file must not be inflated just to
 * be refused. Bundle builder's process. */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_BLOB_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_BLOB_H

#include <git2.h>
#include <stddef.h>
#include "shm/common/error.h"
#include "shm/common/object.h"

/* The caller frees `*blob` by git_blob_free. -1 with `err`: it has more than `bytes_max` bytes (code E2BIG),
 * or it can't be read. */
MUST_CHECK int bundle_blob_open(
    git_blob **blob, git_repository *repository, const git_oid *oid, size_t bytes_max, struct error *err);

#endif
