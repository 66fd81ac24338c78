/* GET /policy: the policy bundle (worker/policy/bundle_cache.h). */
#ifndef OPALD_WORKER_POLICY_BUNDLE_GET_H
#define OPALD_WORKER_POLICY_BUNDLE_GET_H

#include "worker/http/http_exchange.h"

http_handler bundle_get;

#endif
