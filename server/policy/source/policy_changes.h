/*
 * What a new commit means to clients: the directories in which a tracked file changed, with all directories
 * above them. Each is a topic (policy:DIR), and all get the same message. As the reference publishes it, to
 * the byte. Pure.
 */
#ifndef OPALD_SERVER_POLICY_SOURCE_POLICY_CHANGES_H
#define OPALD_SERVER_POLICY_SOURCE_POLICY_CHANGES_H

#include <stdbool.h>
#include <stddef.h>
#include "shm/common/text.h"
#include "server/policy/bundle/bundle_diff.h"
#include "server/policy/bundle/bundle_rules.h"

/* Zero-initialise; policy_directories_free at the end. */
struct policy_directories {
    /* UTF-8 (U+FFFD in place of ill-formed bytes); "." is the root. */
    char **items;
    size_t count;
    size_t capacity;
};

/* Of what changed: the old and the new name of each changed file that counts. */
void policy_directories_of_diff(
    struct policy_directories *directories, const struct bundle_diff *diff, const struct bundle_rules *rules);
/* Of all files of a commit; `listing` has NUL-terminated paths (git ls-tree -r -z --name-only). */
void policy_directories_of_listing(
    struct policy_directories *directories, struct slice listing, const struct bundle_rules *rules);
void policy_directories_free(struct policy_directories *directories);

/*
 * One publication: the message for directories from `first` on, as many as fit into `bytes_max` with their
 * topics (at least one). Appends the JSON to `data`; returns the index of the first directory that is not in
 * it. Nearly always one publication holds all.
 */
size_t policy_changes_message(const struct policy_directories *directories, size_t first,
    const char *old_hash, const char *new_hash, size_t bytes_max, struct text *data);
/* Appends "policy:DIR". */
void policy_changes_topic(const char *directory, struct text *topic);

#endif
