/* The SSH key of the repository, in a file that only this user can read, and the ssh command that uses it. */
#ifndef OPALD_SERVER_POLICY_SOURCE_GIT_SSH_H
#define OPALD_SERVER_POLICY_SOURCE_GIT_SSH_H

#include "shm/common/config.h"
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

/* Writes OPAL_POLICY_REPO_SSH_KEY to its file and appends the value of GIT_SSH_COMMAND to `command`. -1 with
 * `err`. */
MUST_CHECK int git_ssh_open(const struct config *config, struct text *command, struct error *err);

#endif
