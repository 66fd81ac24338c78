/*
 * The bundle builder: a child of the policy process that makes one bundle after another. It is a process and
 * not a thread: a build that takes too long can be killed, a damaged repository that crashes libgit2 takes
 * only this process, and waiting for git holds up no loop. It ends when the policy process closes its end of
 * the socket, and dies with it.
 */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_CHILD_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_CHILD_H

#include "shm/common/config.h"
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "server/policy/bundle/bundle_rules.h"

/* Where the program that was started with --as-bundle-builder finds its socket. */
#define BUNDLE_CHILD_SOCKET 3

/* Serves until the other end is closed. Returns the exit status. */
int bundle_child_serve(int socket, const struct bundle_rules *rules, const struct bundle_limits *limits);
/* The same with the rules and limits of the configuration. */
int bundle_child_main(const struct config *config);

/* Policy process: starts this program as a builder on `socket`, which stays the caller's. Returns the pid, or
 * -1 with `err`. */
MUST_CHECK int bundle_child_start(int socket, struct error *err);

#endif
