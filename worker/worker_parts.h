/*
 * The parts of one worker process, and how they are wired: each gets what it needs when it is opened, and
 * calls back through hooks. Only worker.c sees all of them.
 */
#ifndef OPALD_WORKER_WORKER_PARTS_H
#define OPALD_WORKER_WORKER_PARTS_H

#include <event2/event.h>
#include "shm/common/config.h"
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/common/rate_limit.h"
#include "worker/api/api_services.h"
#include "worker/client/memory_ledger.h"
#include "worker/client/worker_counters.h"
#include "worker/http/http_services.h"
#include "worker/policy/policy_services.h"
#include "worker/worker_descriptors.h"

struct worker_parts {
    uint32_t magic;
    const struct config *config;
    struct event_base *base;
    struct worker_counters counters;
    struct memory_ledger ledger;

    struct auth *auth;
    struct publisher *publisher;
    struct subscriptions *subscriptions;
    /* -1, or where the certificate comes from (worker/net/tls_store.h) */
    int tls_store;
    /* NULL: the listeners are plain */
    struct tls_server *tls;

    struct connections *connections;
    struct memory_budget *memory_budget;
    struct paced_closing *paced_closing;
    struct fanout *fanout;

    struct data_sources *data_sources;
    struct rate_limits load_limits;
    struct http_docs *docs;
    struct bundle_cache *bundles;
    struct webhook_params *webhook;
    struct peers *peers;
    struct client_roster *client_roster;
    struct inquiry *inquiry;
    struct api_services api;
    struct policy_services policy;
    struct http_services http;

    /* the stages of a connection, the last one first */
    struct websocket_stage *websocket_stage;
    struct http_stage *http_stage;
    struct preamble_stage *preamble_stage;
    struct acceptor *acceptor;
};

/* Opens everything and starts accepting. Takes over all descriptors but the lifeline. -1 with the reason in
 * `err`: worker_parts_close. */
MUST_CHECK int worker_parts_open(struct worker_parts *parts, const struct config *config,
    const struct worker_descriptors *descriptors, struct error *err);
/* Also after worker_parts_open has failed. */
void worker_parts_close(struct worker_parts *parts);
/* New connections get the certificate that the store holds now; on -1 everything is as before. */
MUST_CHECK int worker_parts_reload_tls(struct worker_parts *parts, struct error *err);

#endif
