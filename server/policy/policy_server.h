/*
 * The policy process's end of the link (policy_link.h): accepts the workers' connections, tells each the
 * head, and passes on what they ask. A worker that does not take its answers is cut off; it connects again.
 * Policy process's loop.
 */
#ifndef OPALD_SERVER_POLICY_POLICY_SERVER_H
#define OPALD_SERVER_POLICY_POLICY_SERVER_H

#include <stdint.h>
#include <event2/event.h>
#include "shm/common/text.h"
#include "shm/link/policy_link.h"
#include "shm/segment.h"

struct policy_server;

/* The name of a worker's connection. No other connection ever gets it, so that a late answer reaches no other
 * worker. 0 is none. */
typedef uint64_t policy_peer;

struct policy_server_hooks {
    /* A WEBHOOK came in. */
    void (*webhook)(void *context);
    /* A BUNDLE_REQUEST; `body` is valid during the call. */
    void (*bundle_request)(void *context, policy_peer peer, uint64_t id, struct slice body);
    /* The connection is gone, with all that was asked over it. */
    void (*peer_gone)(void *context, policy_peer peer);
    void *context;
};

/* Takes `listener` over. `segment`: its worker table names the processes that may connect. Never NULL. */
struct policy_server *policy_server_open(struct event_base *base, int listener, const struct segment *segment,
    const struct policy_server_hooks *hooks);
void policy_server_close(struct policy_server *server);
/* Tells all workers, now and when they connect. */
void policy_server_set_head(struct policy_server *server, const struct policy_head *head);
/* Sends BUNDLE_ANSWER; the descriptor (-1: none) stays the caller's. Nothing happens when the peer is gone.
 * What the peer's socket does not take now is kept (a copy of body and descriptor), up to a limit; beyond it
 * the peer is cut off. */
void policy_server_answer(
    struct policy_server *server, policy_peer peer, uint64_t id, struct slice body, int descriptor);

#endif
