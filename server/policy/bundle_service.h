/*
 * Bundles of the policy process for its workers: between the link (policy_server.h) and the store
 * (bundle_store.h). Policy process's loop.
 */
#ifndef OPALD_SERVER_POLICY_BUNDLE_SERVICE_H
#define OPALD_SERVER_POLICY_BUNDLE_SERVICE_H

#include "server/policy/policy_server.h"
#include "server/policy/source/policy_context.h"

struct bundle_service;

/* Needs the base, config and segment of `policy`. Answers go to `server`. Both outlive the service. Never
 * NULL. */
struct bundle_service *bundle_service_open(struct policy *policy, struct policy_server *server);
void bundle_service_close(struct bundle_service *service);
/* `hash` in `repository` is served from now on. Call it before the workers learn of the commit, so that none
 * asks too early. */
void bundle_service_set_head(struct bundle_service *service, const char *repository, const char *hash);
/* A BUNDLE_REQUEST of `peer` (bundle_link.h). `body` is valid during the call. The answer goes out now or
 * later. */
void bundle_service_request(struct bundle_service *service, policy_peer peer, uint64_t id, struct slice body);

#endif
