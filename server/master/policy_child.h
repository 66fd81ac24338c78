/*
 * The master's side of the policy process: makes its sockets, starts it, replaces it when it dies (after a
 * growing delay when it dies young), kills it when it hangs, ends it. Master's loop.
 */
#ifndef OPALD_SERVER_MASTER_POLICY_CHILD_H
#define OPALD_SERVER_MASTER_POLICY_CHILD_H

#include <stdbool.h>
#include <sys/types.h>
#include <event2/event.h>
#include "shm/common/config.h"
#include "shm/common/object.h"
#include "server/router/router.h"
#include "shm/segment.h"

struct policy_child;

struct policy_child_settings {
    struct event_base *base;
    const struct config *config;
    /* its last slot is the policy process's */
    struct segment *segment;
    struct router *router;
    char **argv;
    int argc;
    /* Called when it has ended after policy_child_stop. */
    void (*stopped)(void *context);
    void *context;
};

/* Whether this configuration has anything to track; if not, `why` (may be NULL) gets a line when an
 * operator should know. */
MUST_CHECK bool policy_child_wanted(const struct config *config, const char **why);
/* Starts it. NULL with `err` when descriptors can't be had. */
MUST_CHECK struct policy_child *policy_child_open(
    const struct policy_child_settings *settings, struct error *err);
void policy_child_close(struct policy_child *child);
/* For the workers: where it listens. Valid as long as the child. */
const char *policy_child_address(const struct policy_child *child);
/* A process has ended: true when it was this one. */
bool policy_child_ended(struct policy_child *child, pid_t pid, int status);
/* An event on the webhook topic has passed. */
void policy_child_poke(struct policy_child *child);
/* It wrote nonsense or hangs: SIGKILL; its replacement follows. */
void policy_child_kill(struct policy_child *child, const char *why);
/* TERM, and no more replacements. `stopped` may be called from within. */
void policy_child_stop(struct policy_child *child);
bool policy_child_has_stopped(const struct policy_child *child);

#endif
