/*
 * The policy process's handle on its bundle builder. The builder is started when there is something to do,
 * ended when it has been idle for a minute (its memory comes back), killed when it takes too long, and
 * replaced when it dies. One build at a time. Policy process's loop.
 */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_BUILDER_PROCESS_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_BUILDER_PROCESS_H

#include <event2/event.h>
#include "shm/common/object.h"
#include "server/policy/bundle/bundle_wire.h"

struct bundle_builder_process;

struct bundle_builder_hooks {
    /* The answer to the last request; reply->descriptor is the callee's. */
    void (*reply)(void *context, const struct bundle_reply *reply);
    /* It died, or its answer made no sense, with a request unanswered. */
    void (*lost)(void *context);
    /* See bundle_store.h. */
    int (*start)(int socket, struct error *err);
    void *context;
};

/* Never NULL. */
struct bundle_builder_process *bundle_builder_process_open(
    struct event_base *base, const struct bundle_builder_hooks *hooks);
void bundle_builder_process_close(struct bundle_builder_process *process);
/* -1 with `err`: it can't be started or does not take the request. Calls no hook. */
MUST_CHECK int bundle_builder_process_ask(
    struct bundle_builder_process *process, const struct bundle_request *request, struct error *err);
/* Kills it in the middle of a build. Calls no hook. */
void bundle_builder_process_kill(struct bundle_builder_process *process);

#endif
