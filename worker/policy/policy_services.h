/* What the handlers of worker/policy use besides http_services; one per worker, read-only afterwards. */
#ifndef OPALD_WORKER_POLICY_POLICY_SERVICES_H
#define OPALD_WORKER_POLICY_POLICY_SERVICES_H

struct bundle_cache;
struct policy_client;
struct webhook_params;

struct policy_services {
    /* NULL: there is no policy process */
    struct policy_client *client;
    struct bundle_cache *bundles;
    /* From webhook_params_load; NULL: read from the configuration at each request. */
    const struct webhook_params *webhook;
};

#endif
