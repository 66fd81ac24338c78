/* POST /webhook: a git service (or, with policy_source_type API, any peer with a token) reports a change. */
#ifndef OPALD_WORKER_POLICY_WEBHOOK_POST_H
#define OPALD_WORKER_POLICY_WEBHOOK_POST_H

#include "worker/http/http_exchange.h"

http_handler webhook_post;

#endif
