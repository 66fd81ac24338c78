#include "worker/worker_parts.h"

#include <errno.h>
#include <unistd.h>
#include "shm/link/publisher.h"
#include "shm/segment.h"
#include "worker/api/data_sources.h"
#include "worker/api/http_docs.h"
#include "worker/api/routes.h"
#include "worker/auth/auth.h"
#include "worker/client/acceptor.h"
#include "worker/client/client_roster.h"
#include "worker/client/connection_http.h"
#include "worker/client/connections.h"
#include "worker/client/inquiry.h"
#include "worker/client/memory_budget.h"
#include "worker/client/paced_closing.h"
#include "worker/client/peers.h"
#include "worker/client/preamble.h"
#include "worker/client/websocket_stage.h"
#include "worker/fanout/fanout.h"
#include "worker/net/tls.h"
#include "worker/net/tls_store.h"
#include "worker/policy/bundle_cache.h"
#include "worker/policy/webhook_params.h"
#include "worker/topics/subscriptions.h"

#define WORKER_PARTS_MAGIC       UINT32_C(0x3027e2a5)
#define WORKER_CLOSE_SECONDS     10.0 /* for the peer's close frame after ours; the reference's value */
#define WORKER_LINGER_SECONDS    2.0
#define WORKER_FRESH_SECONDS     0.5
#define WORKER_PUBLISH_QUEUE_MAX (64 * 1024 * 1024)

/* ---- hooks: what the parts call without knowing each other ---- */

static struct worker_parts *parts_of(void *context)
{
    return object_cast(struct worker_parts, WORKER_PARTS_MAGIC, context);
}

static void parts_on_accepted(void *context, int fd)
{
    struct worker_parts *parts = parts_of(context);
    preamble_begin(parts->preamble_stage, connections_add(parts->connections, fd));
}

static void parts_on_drained(void *context)
{
    fanout_client_caught_up(parts_of(context)->fanout);
}

static void parts_on_websocket_ended(void *context, struct connection *connection)
{
    paced_closing_forget(parts_of(context)->paced_closing, connection);
}

/* ---- opening ---- */

int worker_parts_reload_tls(struct worker_parts *parts, struct error *err)
{
    struct tls_material material;
    if (parts->tls_store < 0)
        return 0;
    if (tls_store_read(parts->tls_store, &material, err) < 0)
        return -1;
    int result = 0;
    if (parts->tls)
        result = tls_server_reload(parts->tls, &material, err);
    else if (!(parts->tls = tls_server_open(parts->config, &material, &parts->ledger.held, err)))
        result = -1;
    tls_material_free(&material);
    return result;
}

/* Keys, shared memory, loop: what the others stand on. */
static int open_base(
    struct worker_parts *parts, const struct worker_descriptors *descriptors, struct error *err)
{
    const struct config *config = parts->config;
    parts->ledger.limit = config->clients_memory_max_bytes > config->client_queue_max_bytes
                              ? config->clients_memory_max_bytes
                              : config->client_queue_max_bytes;
    parts->counters.slot = descriptors->slot;
    parts->counters.segment = segment_attach(&descriptors->segment, descriptors->slot, err);
    if (!parts->counters.segment)
        return -1;
    parts->base = event_base_new();
    if (!parts->base)
        return error_set(err, ENOMEM, "no event loop");
    /* without its keys it would serve everybody */
    if (auth_open(config, descriptors->keys, &parts->auth, err) < 0 ||
        worker_parts_reload_tls(parts, err) < 0)
        return -1;
    parts->publisher =
        publisher_open(parts->counters.segment, parts->counters.slot, WORKER_PUBLISH_QUEUE_MAX);
    parts->subscriptions = subscriptions_open(&parts->ledger.held);
    return 0;
}

static void set_durations(struct deadlines *deadlines, const struct config *config)
{
    double interval = config->websocket_ping_interval;
    deadlines_set_duration(deadlines, DEADLINE_PREAMBLE, config->tls_handshake_timeout);
    deadlines_set_duration(deadlines, DEADLINE_HTTP_HEAD, config->http_header_timeout);
    deadlines_set_duration(deadlines, DEADLINE_HTTP_BODY, config->http_body_timeout);
    deadlines_set_duration(deadlines, DEADLINE_HTTP_IDLE, config->http_keepalive_timeout);
    deadlines_set_duration(deadlines, DEADLINE_BACKBONE, config->publish_wait_seconds);
    deadlines_set_duration(deadlines, DEADLINE_REFUSAL, config->auth_refusal_delay);
    deadlines_set_duration(deadlines, DEADLINE_PING, interval);
    for (unsigned i = 0; i < DEADLINE_FIRST_PINGS; i++)
        deadlines_set_duration(
            deadlines, DEADLINE_FIRST_PING + i, interval * (0.5 + 0.5 * (i + 1) / DEADLINE_FIRST_PINGS));
    deadlines_set_duration(deadlines, DEADLINE_PONG, config->websocket_ping_timeout);
    deadlines_set_duration(deadlines, DEADLINE_CLOSE, WORKER_CLOSE_SECONDS);
    deadlines_set_duration(deadlines, DEADLINE_LINGER, WORKER_LINGER_SECONDS);
    deadlines_set_duration(deadlines, DEADLINE_FRESH, WORKER_FRESH_SECONDS);
    deadlines_set_duration(deadlines, DEADLINE_STALL, config->client_queue_max_seconds);
}

/* The connections, and what happens to all of them. */
static int open_connections(struct worker_parts *parts, struct error *err)
{
    parts->connections = connections_open(
        &(struct connections_settings){
            .base = parts->base,
            .counters = parts->counters,
            .ledger = &parts->ledger,
            .queue_max_bytes = parts->config->client_queue_max_bytes,
            .drained = parts_on_drained,
            .context = parts,
        },
        err);
    if (!parts->connections)
        return -1;
    set_durations(connections_deadlines(parts->connections), parts->config);
    parts->memory_budget = memory_budget_open(&parts->ledger, parts->connections, &parts->counters);
    parts->paced_closing = paced_closing_open(&(struct paced_closing_settings){
        .base = parts->base,
        .connections = parts->connections,
        .counters = parts->counters,
    });
    parts->fanout = fanout_open(&(struct fanout_settings){
        .base = parts->base,
        .config = parts->config,
        .counters = parts->counters,
        .ledger = &parts->ledger,
        .connections = parts->connections,
        .subscriptions = parts->subscriptions,
        .publisher = parts->publisher,
        .paced_closing = parts->paced_closing,
    });
    return 0;
}

/* What the HTTP routes use. */
static int open_services(
    struct worker_parts *parts, const struct worker_descriptors *descriptors, struct error *err)
{
    const struct config *config = parts->config;
    if (data_sources_load(config, &parts->data_sources, err) < 0)
        return -1;
    if (config->client_load_limit_notation &&
        rate_limits_parse(config->client_load_limit_notation, &parts->load_limits, err) < 0)
        return error_prefix(err, "OPAL_CLIENT_LOAD_LIMIT_NOTATION");
    parts->webhook = webhook_params_load(config, err);
    if (!parts->webhook)
        return -1;
    parts->docs = http_docs_make(config);
    parts->bundles = bundle_cache_open(parts->base, config, descriptors->policy_address);
    parts->peers = peers_open(
        parts->base, descriptors->handoff_receive, descriptors->handoff_send, descriptors->slot_count);
    parts->client_roster = client_roster_open(&(struct client_roster_settings){
        .connections = parts->connections,
        .peers = parts->peers,
        .slot = parts->counters.slot,
        .answer_max_bytes = config->client_info_max_bytes,
    });
    parts->inquiry = inquiry_open(&(struct inquiry_settings){
        .base = parts->base,
        .config = config,
        .counters = parts->counters,
        .ledger = &parts->ledger,
        .connections = parts->connections,
        .publisher = parts->publisher,
        .peers = parts->peers,
    });
    parts->api = (struct api_services){
        .data_sources = parts->data_sources,
        .load_limits = &parts->load_limits,
        .docs = parts->docs,
        .ask = inquiry_ask,
        .inquiry = parts->inquiry,
    };
    parts->policy = (struct policy_services){
        .client = bundle_cache_client(parts->bundles),
        .bundles = parts->bundles,
        .webhook = parts->webhook,
    };
    parts->http = (struct http_services){
        .config = config,
        .segment = parts->counters.segment,
        .slot = parts->counters.slot,
        .routes = &api_routes,
        .auth = parts->auth,
        .publisher = parts->publisher,
        .api = &parts->api,
        .policy = &parts->policy,
    };
    return 0;
}

/* The stages that a connection goes through, each with the next one. */
static int open_stages(struct worker_parts *parts, struct error *err)
{
    parts->websocket_stage = websocket_stage_open(&(struct websocket_stage_settings){
        .base = parts->base,
        .config = parts->config,
        .counters = parts->counters,
        .ledger = &parts->ledger,
        .publisher = parts->publisher,
        .subscriptions = parts->subscriptions,
        .ended = parts_on_websocket_ended,
        .context = parts,
    });
    parts->http_stage = http_stage_open(
        &(struct http_stage_settings){
            .services = &parts->http,
            .counters = parts->counters,
            .ledger = &parts->ledger,
            .next = parts->websocket_stage,
        },
        err);
    if (!parts->http_stage)
        return -1;
    parts->preamble_stage = preamble_stage_open(
        &(struct preamble_settings){
            .config = parts->config,
            .counters = parts->counters,
            .tls = parts->tls,
            .next = parts->http_stage,
        },
        err);
    return parts->preamble_stage ? 0 : -1;
}

int worker_parts_open(struct worker_parts *parts, const struct config *config,
    const struct worker_descriptors *descriptors, struct error *err)
{
    *parts = (struct worker_parts){
        .magic = WORKER_PARTS_MAGIC, .config = config, .tls_store = descriptors->tls_store};
    if (open_base(parts, descriptors, err) < 0 || open_connections(parts, err) < 0 ||
        open_services(parts, descriptors, err) < 0 || open_stages(parts, err) < 0)
        return -1;
    parts->acceptor = acceptor_open(&(struct acceptor_settings){
        .base = parts->base,
        .segment = parts->counters.segment,
        .slot = parts->counters.slot,
        .slot_count = descriptors->slot_count,
        .listeners = descriptors->listeners,
        .listener_count = descriptors->listener_count,
        .peers = parts->peers,
        .connections_max = config->connections_max,
        .accepted = parts_on_accepted,
        .context = parts,
    });
    return 0;
}

/* ---- closing ---- */

void worker_parts_close(struct worker_parts *parts)
{
    if (parts->acceptor)
        acceptor_close(parts->acceptor);
    connections_close(parts->connections);
    preamble_stage_close(parts->preamble_stage);
    http_stage_close(parts->http_stage);
    websocket_stage_close(parts->websocket_stage);
    inquiry_close(parts->inquiry);
    client_roster_close(parts->client_roster);
    peers_close(parts->peers);
    if (parts->bundles)
        bundle_cache_close(parts->bundles);
    webhook_params_free(parts->webhook);
    http_docs_free(parts->docs);
    data_sources_free(parts->data_sources);
    fanout_close(parts->fanout);
    paced_closing_close(parts->paced_closing);
    memory_budget_close(parts->memory_budget);
    if (parts->subscriptions)
        subscriptions_close(parts->subscriptions);
    if (parts->publisher)
        publisher_close(parts->publisher);
    tls_server_close(parts->tls);
    auth_close(parts->auth);
    if (parts->base)
        event_base_free(parts->base);
    if (parts->counters.segment)
        segment_close(parts->counters.segment);
    if (parts->tls_store >= 0)
        close(parts->tls_store);
    parts->magic = 0;
}
