/* Bundles of the policy process for its workers: between the link (policy_server.h) and the store (bundle_store.h). Its loop only. */
#ifndef OPALD_SERVER_POLICY_BUNDLE_SERVICE_H
#define OPALD_SERVER_POLICY_BUNDLE_SERVICE_H

#include "server/policy/source/policy_context.h"

struct bundle_service;

/* Needs policy->base, config, segment and server. */
struct bundle_service *bundle_service_open(struct policy *policy);
void bundle_service_close(struct bundle_service *service);
/* Before the workers are told, so that none asks for what is not there yet. */
void bundle_service_set_head(struct bundle_service *service, const char *repository, const char *hash);
/* A BUNDLE_REQUEST. It is answered over policy->server, now or later. */
void bundle_service_request(struct bundle_service *service, policy_peer peer, uint64_t id, struct slice body);

#endif
