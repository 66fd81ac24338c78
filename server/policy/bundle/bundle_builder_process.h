/*
 * The policy process's handle on its bundle builder: started when there is something to do, ended when it has been idle for a minute (its
 * memory comes back), killed when it takes too long, replaced when it dies. One build at a time. Policy process's loop.
 */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_BUILDER_PROCESS_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_BUILDER_PROCESS_H

#include <event2/event.h>
#include "server/policy/bundle/bundle_wire.h"

struct bundle_builder_process;

struct bundle_builder_hooks {
    /* The answer to the last request; reply->descriptor is the callee's. */
    void (*reply)(void *context, const struct bundle_reply *reply);
    /* It died, or what it said made no sense, with a request unanswered. */
    void (*lost)(void *context);
    int (*start)(int socket, struct error *err); /* see bundle_store.h */
    void *context;
};

struct bundle_builder_process *bundle_builder_process_open(
    struct event_base *base, const struct bundle_builder_hooks *hooks);
void bundle_builder_process_close(struct bundle_builder_process *process);
/* -1 with `err`: it can't be started or does not take the request. No hook is called from here. */
int bundle_builder_process_ask(
    struct bundle_builder_process *process, const struct bundle_request *request, struct error *err);
/* Kills it in the middle of a build. No hook is called for that. */
void bundle_builder_process_kill(struct bundle_builder_process *process);

#endif
