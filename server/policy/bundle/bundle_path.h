/* Paths of a repository as Python's PurePosixPath has them, because the reference filters and orders by it.
 * Pure. */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_PATH_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_PATH_H

#include <stdbool.h>
#include "shm/common/text.h"

/* Appends the normal form: doubled and final slashes and "." parts vanish, ".." stays, nothing at all is ".".
 * A leading '/' stays (exactly two of them stay two), and then the path names nothing in a repository. */
void bundle_path_normalize(struct slice path, struct text *out);

/* ---- of a normal path, as views into it ---- */

struct slice bundle_path_name(struct slice path);
/* ".rego" of "a/b.rego"; empty for ".rego", "a." and "a". */
struct slice bundle_path_suffix(struct slice path);
/* "." for what is at the root. */
struct slice bundle_path_parent(struct slice path);
/* True when `directory` ("." is the root) holds `path` at any depth; false for the directory itself. */
bool bundle_path_is_under(struct slice path, struct slice directory);
/* The order of the bytes: below, at or above 0, as memcmp. */
int bundle_path_compare(struct slice a, struct slice b);

/* False for a path with a part that is empty, "." or "..": git makes no such path, but a hostile repository
 * can have one. */
bool bundle_path_is_safe(struct slice path);

#endif
