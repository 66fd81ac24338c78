/*
 * Where the clone is: <base>/<prefix>-<random>, or <base>/<prefix> with OPAL_POLICY_REPO_REUSE_CLONE_PATH, as
 * with the reference. A clone under way is next to it under a name of its own, and gets its place by rename
 * when it is whole. One server at a time uses a base with a prefix: a lock that the kernel drops with the
 * process.
 */
#ifndef OPALD_SERVER_POLICY_SOURCE_CLONE_FOLDER_H
#define OPALD_SERVER_POLICY_SOURCE_CLONE_FOLDER_H

#include <stdbool.h>
#include "shm/common/config.h"
#include "shm/common/error.h"
#include "shm/common/object.h"

struct clone_folder;

/* Never NULL. `config` must outlive the folder. */
struct clone_folder *clone_folder_open(const struct config *config);
void clone_folder_close(struct clone_folder *folder);

/* Makes the base and takes the lock. -1 with `err`, code EWOULDBLOCK when another server has it. Nothing
 * happens when the lock is taken already. */
MUST_CHECK int clone_folder_lock(struct clone_folder *folder, struct error *err);
const char *clone_folder_base(const struct clone_folder *folder);
/* Whether there is a repository in the folder `place`. */
bool clone_folder_is_repository(const char *place);
/* The one clone that is there; NULL when there is none, or several. The caller frees. */
char *clone_folder_find(const struct clone_folder *folder);
/* The path of a clone to be made now, and of the folder where it is made. The callers free. */
char *clone_folder_new_place(const struct clone_folder *folder);
char *clone_folder_new_work(const struct clone_folder *folder);
/* Everything in the base that is this server's, except `keep` (may be NULL): clones that are not used, work
 * left behind. NULL at the end; clone_folder_free_list. With a fixed path the clone itself is never among
 * them. */
char **clone_folder_leftovers(const struct clone_folder *folder, const char *keep);
void clone_folder_free_list(char **list);
/* Renames `work` to `place` and makes it last (fsync); what was there before is then `work`. -1 with `err`.
 * */
MUST_CHECK int clone_folder_move(
    const struct clone_folder *folder, const char *work, const char *place, struct error *err);
/* Removes what a killed or failed git has left in a repository: *.lock files, which would stop every later
 * git, and unfinished packs and objects, which nothing else would ever remove. Only while no git runs there.
 * */
void clone_folder_unlock(const char *repository);
/* "~" and "~/x" as the home directory's, as Python's expanduser. The caller frees. */
char *clone_folder_expand(const char *path);

#endif
