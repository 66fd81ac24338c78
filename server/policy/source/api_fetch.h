/*
 * The fetcher: a child of the policy process (`--as-bundle-fetcher`) that asks the bundle server once, makes
 * a commit of what is new, prints the result and ends. It is a process, so that libcurl, libarchive and
 * libgit2 may wait, and so that a hostile archive harms nothing else.
 *
 * In: the environment, the variables below. Out: three lines: "new" or "unchanged", the version, the commit
 * (empty for "unchanged").
 */
#ifndef OPALD_SERVER_POLICY_SOURCE_API_FETCH_H
#define OPALD_SERVER_POLICY_SOURCE_API_FETCH_H

#include "shm/common/config.h"

/* A folder; it is made when it is not there. */
#define API_FETCH_REPOSITORY "OPALD_FETCH_REPOSITORY"
/* The version that is there already; empty: none. */
#define API_FETCH_VERSION "OPALD_FETCH_VERSION"
/* The folder for the download, which has no name there. */
#define API_FETCH_FOLDER "OPALD_FETCH_FOLDER"

/* Returns the exit status. */
int api_fetch_main(const struct config *config);

#endif
