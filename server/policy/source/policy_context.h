/* What the parts of a policy source share. Owned by policy_process_main; its loop only. */
#ifndef OPALD_SERVER_POLICY_SOURCE_POLICY_CONTEXT_H
#define OPALD_SERVER_POLICY_SOURCE_POLICY_CONTEXT_H

#include <stdint.h>
#include <sys/queue.h>
#include <event2/event.h>
#include "shm/common/config.h"
#include "shm/link/policy_link.h"
#include "shm/segment.h"
#include "shm/worker_table.h"

struct job;
struct publisher;

struct policy {
    const struct config *config;
    struct segment *segment;
    unsigned slot;
    /* The arguments of this process without --as-policy, for children of this program. */
    int argc;
    char **argv;
    struct event_base *base;
    struct publisher *publisher;
    /* The children that run (job.h). */
    LIST_HEAD(job_list, job) jobs;
    /* What is served: a commit in a local repository (a folder with .git in it). All objects of the commit
     * are there when `head` names it, and stay as long as it is the head. `repository` is NULL as long as
     * there is none. policy_set_head alone sets both. */
    char *repository;
    struct policy_head head;
    /* Called by policy_set_head when both are set. */
    void (*head_changed)(void *context);
    void *context;
};

/* From now on `hash` in `repository` is served. Copies both. */
void policy_set_head(struct policy *policy, const char *repository, const char *hash);

static inline void policy_count(struct policy *policy, enum counter counter, uint64_t amount)
{
    counter_add(policy->segment, policy->slot, counter, amount);
}

#endif
