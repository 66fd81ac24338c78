/*
 * Who may publish what, beyond a token's permitted_topics: OPAL_PUBLISH_PEER_TYPES. The reference lets every
 * websocket client publish to every topic, also to the one that makes servers look for a new policy. Pure.
 */
#ifndef OPALD_WORKER_HTTP_PUBLISH_RULES_H
#define OPALD_WORKER_HTTP_PUBLISH_RULES_H

#include <stdbool.h>
#include "shm/common/config.h"
#include "shm/common/object.h"
#include "worker/jose/token.h"

/* True for the topics that no client may publish to once the option is set. */
MUST_CHECK bool publish_rules_reserve(const struct config *config, struct slice topic);
/* Whether the peer type of these claims may publish over a websocket. NULL claims (open mode): yes. */
MUST_CHECK bool publish_rules_admit(const struct config *config, const struct token_claims *claims);

#endif
