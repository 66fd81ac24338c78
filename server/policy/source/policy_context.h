/* What the parts of the policy process share. Owned by policy_process_main; its loop only. */
#ifndef OPALD_SERVER_POLICY_SOURCE_POLICY_CONTEXT_H
#define OPALD_SERVER_POLICY_SOURCE_POLICY_CONTEXT_H

#include <stdint.h>
#include <sys/queue.h>
#include <event2/event.h>
#include "shm/common/config.h"
#include "shm/link/policy_link.h"
#include "server/policy/policy_server.h"
#include "shm/segment.h"
#include "shm/worker_table.h"

struct job;
struct publisher;
struct policy_source;
struct bundle_service;

struct policy {
    const struct config *config;
    struct segment *segment;
    unsigned slot;
    int argc; /* as this process was started, less --as-policy: for children of this program */
    char **argv;
    struct event_base *base;
    struct policy_server *server;
    struct publisher *publisher;
    struct policy_source *source;
    struct bundle_service *bundles;
    LIST_HEAD(job_list, job) jobs; /* children under way: job.h */
    /* What is served: a commit in a local repository (a folder with .git in it). The commit's objects are all there when `head` names it,
     * and stay as long as it is the head; a force-pushed one may go later. Set by policy_set_head. */
    char *repository; /* NULL: none yet */
    struct policy_head head;
};

/* The source has it: from now on `hash` in `repository` is served. Tells the workers and the bundle builder. */
void policy_set_head(struct policy *policy, const char *repository, const char *hash);

static inline void policy_count(struct policy *policy, enum counter counter, uint64_t amount)
{
    counter_add(policy->segment, policy->slot, counter, amount);
}

#endif
