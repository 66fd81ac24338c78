/*
 * A tar.gz becomes a commit of a local repository. Nothing is unpacked into files: each member goes straight
 * into git's object store, so that no name and no link in an archive can reach anything outside. It waits:
 * the fetcher's process (api_fetch.h).
 *
 * The whole archive is refused for: an absolute path, a `..` or `.git` part, a link that leads out, a device
 * or the like, a name that is not valid, more bytes or members than the options allow, no file at all,
 * damage.
 */
#ifndef OPALD_SERVER_POLICY_SOURCE_API_UNPACK_H
#define OPALD_SERVER_POLICY_SOURCE_API_UNPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/error.h"
#include "shm/common/object.h"

#define API_UNPACK_BRANCH "master"

struct api_unpack {
    /* A descriptor, at its beginning. */
    int archive;
    /* A folder; it is made into a repository when it is none. */
    const char *repository;
    /* Which files count, as git's path patterns. */
    const char *pattern;
    /* Of the commit. */
    const char *message;
    /* Of all files together. */
    uint64_t bytes_max;
    uint64_t members_max;
};

/* `hash` (41 bytes) becomes the commit: a new one on top of the branch, or the branch's own when the files
 * are the same. The branch itself moves only when there was none. All of it is on the disk then. -1 with
 * `err`. */
MUST_CHECK int api_unpack_run(const struct api_unpack *unpack, char *hash, struct error *err);
/* Pure: the path as it goes into the tree ("./a//b" is "a/b"), at most `size` bytes with its NUL. 1: nothing
 * of it is left ("./"); -1 with `err`: refused. */
MUST_CHECK int api_unpack_path(const char *name, char *path, size_t size, struct error *err);
/* Pure: whether a symbolic link at `path` (as above) with this target stays within the tree. */
bool api_unpack_link_stays(const char *path, const char *target);

#endif
