/*
 * How git reaches the repository: the URL without its password, and environment variables with the secrets. A
 * password is never in a command line, which every user of the host can read, nor in the clone's
 * configuration.
 */
#ifndef OPALD_SERVER_POLICY_SOURCE_GIT_ACCESS_H
#define OPALD_SERVER_POLICY_SOURCE_GIT_ACCESS_H

#include <stdbool.h>
#include "shm/common/config.h"
#include "shm/common/error.h"
#include "shm/common/object.h"

#define GIT_ACCESS_VARIABLES 16

/* Owned; git_access_free. */
struct git_access {
    /* For the command line and the log: without password, and a relative path made absolute. */
    char *url;
    /* "NAME=value", NULL at the end. */
    char *variables[GIT_ACCESS_VARIABLES + 1];
};

/* Writes the SSH key to its file when one is configured and the URL is one of SSH. -1 with `err` when that
 * fails (git_access_free is needed then too). */
MUST_CHECK int git_access_open(const struct config *config, struct git_access *access, struct error *err);
void git_access_free(struct git_access *access);
/* The configured URL for the log, as git_access.url. The caller frees. */
char *git_access_plain_url(const struct config *config);
/* Whether `url`, as a clone's configuration has it (by opald or by opal-server), is the configured
 * repository. */
bool git_access_same_url(const struct config *config, const char *url);

#endif
