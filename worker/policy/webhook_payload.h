/*
 * What a git service's webhook says of its repository and branch: the places where GitHub, GitLab, Azure
 * DevOps, Bitbucket and Gitea put it. What has not the type it should have counts as not there. Pure.
 */
#ifndef OPALD_WORKER_POLICY_WEBHOOK_PAYLOAD_H
#define OPALD_WORKER_POLICY_WEBHOOK_PAYLOAD_H

#include <stdbool.h>
#include "shm/common/json.h"
#include "shm/common/text.h"

#define WEBHOOK_URLS_MAX     13
#define WEBHOOK_NAMES_MAX    2
#define WEBHOOK_BRANCHES_MAX 32

/* Zero-initialise; webhook_payload_free at the end. */
struct webhook_payload {
    struct text urls[WEBHOOK_URLS_MAX];
    size_t url_count;
    /* "organisation/repository" */
    struct text names[WEBHOOK_NAMES_MAX];
    size_t name_count;
    /* that were pushed; services can tell of several at once */
    struct text branches[WEBHOOK_BRANCHES_MAX];
    size_t branch_count;
};

/* The document's value must be an object. */
void webhook_payload_read(struct webhook_payload *payload, const struct json_document *document);
void webhook_payload_free(struct webhook_payload *payload);
bool webhook_payload_has_branch(const struct webhook_payload *payload, const char *branch);
/*
 * Whether it speaks of the repository at `url`: by one of its URLs when it has any, else by name.
 * Credentials, `.git` or a slash at the end, the case of the host, and ssh:// or the scp form make no
 * difference.
 */
bool webhook_payload_matches(const struct webhook_payload *payload, const char *url);

#endif
