/*
 * A worker's end of the link to the policy process (shm/link/policy_link.h): connects, and connects again
 * when the policy process was replaced; knows the commit that is served; carries what is asked and answered.
 * Worker's loop only. Never blocks.
 */
#ifndef OPALD_WORKER_POLICY_POLICY_CLIENT_H
#define OPALD_WORKER_POLICY_POLICY_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <event2/event.h>
#include "shm/common/object.h"
#include "shm/common/text.h"
#include "shm/link/policy_link.h"

struct policy_client;

/* All may be NULL. */
struct policy_client_hooks {
    /* A BUNDLE_ANSWER; `body` is valid during the call, `descriptor` (-1: none) is the callee's to close. */
    void (*answered)(void *context, uint64_t id, struct slice body, int descriptor);
    /*
     * The commit served is another one (or there is one at last); policy_client_head has it. Also after each
     * new connection.
     */
    void (*head)(void *context);
    /* The connection is gone: what was asked and not answered has to be asked again, or given up. */
    void (*lost)(void *context);
    void *context;
};

/* `address` as in worker_descriptors; "": there is no policy process, and nothing is ever sent. */
struct policy_client *policy_client_open(
    struct event_base *base, const char *address, const struct policy_client_hooks *hooks);
void policy_client_close(struct policy_client *client);
/* The last that was heard; it stays while the policy process is away. */
const struct policy_head *policy_client_head(const struct policy_client *client);
/* True: it is with the policy process. False: no connection, or its queue is full; nothing was sent. */
MUST_CHECK bool policy_client_request_bundle(struct policy_client *client, uint64_t id, struct slice body);
/*
 * Takes in what has arrived, now instead of at the loop's next turn: hooks are called. Nothing when called
 * from a hook.
 */
void policy_client_poll(struct policy_client *client);
/* The same for a webhook that has come in. */
MUST_CHECK bool policy_client_tell_webhook(struct policy_client *client);

#endif
