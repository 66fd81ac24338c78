/*
 * OPAL_POLICY_REPO_WEBHOOK_PARAMS: how a git service's webhooks look. Read once per worker, and by the master
 * at the start, to say what is wrong before anybody runs.
 */
#ifndef OPALD_WORKER_POLICY_WEBHOOK_PARAMS_H
#define OPALD_WORKER_POLICY_WEBHOOK_PARAMS_H

#include <stdbool.h>
#include "shm/common/config.h"
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

struct webhook_params {
    char *secret_header_name;
    /* else it is a signature */
    bool secret_is_token;
    /* of PCRE2, which speaks Python's language of patterns nearly to the letter */
    void *secret_regex;
    /* NULL: none */
    char *event_header_name;
    /* NULL: none; counts when there is no header name */
    char *event_request_key;
    char *push_event_value;
    bool match_sender_url;
};

/* GitHub's when the option is not set. NULL with `err`, which names the option. */
MUST_CHECK struct webhook_params *webhook_params_load(const struct config *config, struct error *err);
void webhook_params_free(struct webhook_params *params);
/*
 * The secret in a header's value, as re.findall(pattern, value)[0] gives it: the first match's group, or all
 * of it when the pattern has none. A view into the value; empty when nothing matches.
 */
struct slice webhook_params_secret(const struct webhook_params *params, struct slice value);

#endif
