/* Every counter once: COUNTER(enumerator, name for people and for metrics). Names are plural things that happened. */
#ifndef OPALD_SHM_COUNTERS_H
#define OPALD_SHM_COUNTERS_H

#define COUNTERS(COUNTER) \
    COUNTER(CONNECTIONS_ACCEPTED, "connections_accepted") \
    COUNTER(CONNECTIONS_HANDED, "connections_handed_to_other_worker") \
    COUNTER(CONNECTIONS_REFUSED_LIMIT, "connections_refused_limit") \
    COUNTER(WEBSOCKETS_OPENED, "websockets_opened") \
    COUNTER(WEBSOCKETS_CLOSED, "websockets_closed") \
    COUNTER(HANDSHAKES_REFUSED, "websocket_handshakes_refused") \
    COUNTER(PROTOCOL_ERRORS, "websocket_protocol_errors") \
    COUNTER(RPC_REFUSED, "rpc_calls_refused") \
    COUNTER(CLIENTS_TOO_SLOW, "clients_closed_too_slow") \
    COUNTER(CLIENTS_OVER_MEMORY, "clients_closed_memory_limit") \
    COUNTER(CLIENTS_PING_TIMEOUT, "clients_closed_ping_timeout") \
    COUNTER(DELIVERIES_DROPPED, "deliveries_dropped_slow_client") \
    COUNTER(DELIVERIES, "deliveries") \
    COUNTER(DELIVERY_BYTES, "delivery_bytes") \
    COUNTER(SEND_CALLS, "send_calls") \
    COUNTER(HTTP_REQUESTS, "http_requests") \
    COUNTER(HTTP_REFUSED, "http_requests_refused") \
    COUNTER(HTTP_TIMEOUTS, "http_timeouts") \
    COUNTER(HTTP_UNAUTHORIZED, "http_requests_unauthorized") \
    COUNTER(TOKENS_ISSUED, "tokens_issued") \
    COUNTER(TOKENS_EXPIRED, "clients_closed_token_expired") \
    COUNTER(LOAD_LIMITED, "load_limit_refusals") \
    COUNTER(EVENTS_PUBLISHED, "events_published") \
    COUNTER(EVENTS_REFUSED_SIZE, "events_refused_size") \
    COUNTER(EVENTS_REFUSED_BUSY, "events_refused_busy") \
    COUNTER(EVENTS_ROUTED, "events_routed") \
    COUNTER(EVENTS_FROZEN, "events_frozen") \
    COUNTER(EVENTS_FROM_BACKBONE, "events_from_backbone") \
    COUNTER(EVENTS_TO_BACKBONE, "events_to_backbone") \
    COUNTER(BACKBONE_ACKNOWLEDGED, "backbone_events_acknowledged") \
    COUNTER(BACKBONE_OWN_SKIPPED, "backbone_own_events_skipped") \
    COUNTER(BACKBONE_REJECTED, "backbone_messages_rejected") \
    COUNTER(BACKBONE_SEND_FAILED, "backbone_sends_failed") \
    COUNTER(BACKBONE_RECONNECTS, "backbone_reconnects") \
    COUNTER(BACKBONE_TOO_LARGE, "backbone_events_too_large") \
    COUNTER(ACKNOWLEDGEMENTS_LATE, "backbone_acknowledgements_late") \
    COUNTER(RING_FULL_WAITS, "ring_full_waits") \
    COUNTER(WORKERS_STARTED, "workers_started") \
    COUNTER(WORKERS_DIED, "workers_died") \
    COUNTER(WORKERS_KILLED_STUCK, "workers_killed_stuck") \
    COUNTER(POLICY_PROCESS_DIED, "policy_process_died") \
    COUNTER(POLICY_CHECKS, "policy_checks") \
    COUNTER(POLICY_CHECKS_FAILED, "policy_checks_failed") \
    COUNTER(POLICY_CHANGES, "policy_changes_published") \
    COUNTER(WEBHOOKS_TAKEN, "webhooks_taken") \
    COUNTER(WEBHOOKS_REFUSED, "webhooks_refused") \
    COUNTER(BUNDLE_REQUESTS, "bundle_requests") \
    COUNTER(BUNDLES_BUILT, "bundles_built") \
    COUNTER(BUNDLES_SHARED, "bundle_answers_shared") \
    COUNTER(BUNDLES_DROPPED, "bundles_dropped_cache") \
    COUNTER(BUNDLES_REFUSED, "bundle_requests_refused") \
    COUNTER(BUNDLES_FAILED, "bundle_builds_failed") \
    COUNTER(BUNDLE_FILES_REPAIRED, "bundle_files_not_utf8") \
    COUNTER(BUNDLE_BUILDERS_DIED, "bundle_builders_died") \
    COUNTER(RESYNC_CLOSES, "resync_closes")

enum counter {
#define COUNTER_ENUMERATOR(enumerator, name) COUNTER_##enumerator,
    COUNTERS(COUNTER_ENUMERATOR)
#undef COUNTER_ENUMERATOR
        COUNTER_COUNT
};

#endif
