/*
 * OPAL_BUNDLE_IGNORE: which paths of a repository are left out. A pattern is one of
 *   "/" or a lone "/" and two stars        everything
 *   DIR and "/" and two stars at its end   DIR itself and all below it, from the root
 *   anything else                          Python's PurePath.match: compared from the right, part by part, by
 *                                          fnmatch (* ? [a-z] [!a-z]; two stars are as one); a pattern that
 *                                          begins with "/" never matches
 * Pure.
 */
#ifndef OPALD_SERVER_POLICY_BUNDLE_IGNORE_GLOB_H
#define OPALD_SERVER_POLICY_BUNDLE_IGNORE_GLOB_H

#include "shm/common/config.h"
#include "shm/common/text.h"

/* The first pattern that takes `path` (normal form: no "//", no "." parts) out; NULL: none. */
const char *ignore_glob_find(const struct config_list *patterns, struct slice path);

#endif
