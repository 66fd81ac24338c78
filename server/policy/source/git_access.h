/*
 * How git reaches the repository: the URL without its password, and the environment that has the secrets: a password never stands in a
 * command line (anybody can read those) nor in the clone's configuration; a key lies in a file that only this user can read.
 */
#ifndef OPALD_SERVER_POLICY_SOURCE_GIT_ACCESS_H
#define OPALD_SERVER_POLICY_SOURCE_GIT_ACCESS_H

#include <stdbool.h>
#include "shm/common/error.h"
#include "shm/common/config.h"

#define GIT_ACCESS_VARIABLES 16

/* Owned; git_access_free. */
struct git_access {
    char *url;                                 /* for the command line: http(s) without user and password */
    char *variables[GIT_ACCESS_VARIABLES + 1]; /* "NAME=value", NULL at the end */
};

/* Writes the SSH key to its file when one is configured and the URL is of SSH. -1 with `err` when that fails. */
int git_access_open(const struct config *config, struct git_access *access, struct error *err);
void git_access_free(struct git_access *access);
/* Whether `url`, as a clone's configuration has it (by us or by the reference), is the configured repository. */
bool git_access_same_url(const struct config *config, const char *url);

#endif
