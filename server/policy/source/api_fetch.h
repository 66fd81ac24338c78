/*
 * The fetcher: a child of the policy process (`--as-bundle-fetcher`) that asks the bundle server once, makes a commit of what is new, says
 * so and ends. A process, because libcurl, libarchive and libgit2 may wait as long as they like in it, and what a hostile archive does
 * to it harms nobody else.
 *
 * In: the environment, API_FETCH_... Out: three lines: "new" or "unchanged", the version, the commit (empty for "unchanged").
 */
#ifndef OPALD_SERVER_POLICY_SOURCE_API_FETCH_H
#define OPALD_SERVER_POLICY_SOURCE_API_FETCH_H

#include "shm/common/config.h"

#define API_FETCH_REPOSITORY "OPALD_FETCH_REPOSITORY" /* folder; made when it is not there */
#define API_FETCH_VERSION    "OPALD_FETCH_VERSION"    /* that is there already; empty: none */
#define API_FETCH_FOLDER     "OPALD_FETCH_FOLDER"     /* where the download may lie, under no name */

/* The exit status. */
int api_fetch_main(const struct config *config);

#endif
