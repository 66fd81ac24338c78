/* Every counter once: COUNTER(enumerator, metric, help). The metric is what GET /metrics shows as
 * opald_<metric>_total, labels where it has some; those that share a name follow each other, and the first
 * one has the help. Names are plural things that happened. */
#ifndef OPALD_SHM_COUNTERS_H
#define OPALD_SHM_COUNTERS_H

#define COUNTERS(COUNTER) \
    COUNTER(CONNECTIONS_ACCEPTED, "connections_accepted", "Connections that came in.") \
    COUNTER(CONNECTIONS_HANDED, "connections_handed_to_other_worker", \
        "Connections that one worker took and another one serves.") \
    COUNTER(CONNECTIONS_REFUSED_LIMIT, "connections_refused_limit", \
        "Connections refused because a limit of connections was reached.") \
    COUNTER(TLS_HANDSHAKES, "tls_handshakes", "TLS handshakes that were completed.") \
    COUNTER(TLS_HANDSHAKES_FAILED, "tls_handshakes_failed", "TLS handshakes that failed or came too late.") \
    COUNTER(PROXY_HEADERS_REFUSED, "proxy_headers_refused", \
        "PROXY headers that were missing, malformed or late.") \
    COUNTER(WEBSOCKETS_OPENED, "websockets_opened", "Websocket handshakes that were accepted.") \
    COUNTER(WEBSOCKETS_CLOSED, "websockets_closed", "Websockets that ended, for whatever reason.") \
    COUNTER(HANDSHAKES_REFUSED, "websocket_handshakes_refused", "Websocket handshakes that were refused.") \
    COUNTER(PROTOCOL_ERRORS, "websocket_protocol_errors", \
        "Websockets closed because the peer broke the protocol or a limit.") \
    COUNTER(RPC_REFUSED, "rpc_calls_refused", "RPC calls that were not understood or not allowed.") \
    COUNTER(CLIENTS_TOO_SLOW, "clients_closed_too_slow", "Clients closed because they did not read.") \
    COUNTER(CLIENTS_PING_TIMEOUT, "clients_closed_ping_timeout", "Clients closed because no pong came.") \
    COUNTER(CLIENTS_OVER_MEMORY, "clients_closed_memory_limit", \
        "Clients closed because all of a worker's clients together held too much memory.") \
    COUNTER(DELIVERIES_DROPPED, "deliveries_dropped{reason=\"slow_client\"}", \
        "Deliveries that a closed client did not get. It refetches when it comes back.") \
    COUNTER(DELIVERIES, "deliveries", "Events handed to subscriptions.") \
    COUNTER(DELIVERY_BYTES, "delivery_bytes", "Bytes of deliveries, frames included.") \
    COUNTER(SEND_CALLS, "send_calls", "System calls that sent deliveries.") \
    COUNTER(HTTP_REFUSED, "http_requests_refused", \
        "HTTP requests refused by a limit or because they can't be read.") \
    COUNTER(FORWARDED_REFUSED, "forwarded_headers_refused", \
        "X-Forwarded-For headers of trusted proxies that name no usable address.") \
    COUNTER(HTTP_TIMEOUTS, "http_timeouts", \
        "HTTP connections closed because a request did not come whole in time.") \
    COUNTER(HTTP_UNAUTHORIZED, "http_requests_unauthorized", "HTTP requests answered with 401.") \
    COUNTER(TOKENS_ISSUED, "tokens_issued", "Tokens that POST /token gave out.") \
    COUNTER(TOKENS_EXPIRED, "clients_closed_token_expired", "Clients closed because their token expired.") \
    COUNTER(LOAD_LIMITED, "load_limit_refusals", "Requests refused by the load limit.") \
    COUNTER(STATISTICS_REFUSED, "statistics_clients_refused", \
        "Announcements of clients that a limit kept out of the statistics.") \
    COUNTER(EVENTS_PUBLISHED, "events{direction=\"published\"}", \
        "Events published on this host, taken from the backbone, and handed to it (one a topic).") \
    COUNTER(EVENTS_FROM_BACKBONE, "events{direction=\"from_backbone\"}", "") \
    COUNTER(EVENTS_TO_BACKBONE, "events{direction=\"to_backbone\"}", "") \
    COUNTER( \
        EVENT_BYTES_PUBLISHED, "event_bytes{direction=\"published\"}", "Bytes of the data in these events.") \
    COUNTER(EVENT_BYTES_FROM_BACKBONE, "event_bytes{direction=\"from_backbone\"}", "") \
    COUNTER(EVENT_BYTES_TO_BACKBONE, "event_bytes{direction=\"to_backbone\"}", "") \
    COUNTER(EVENTS_REFUSED_SIZE, "events_refused{reason=\"too_large\"}", \
        "Events refused at the door; the publisher was told.") \
    COUNTER(EVENTS_REFUSED_BUSY, "events_refused{reason=\"busy\"}", "") \
    COUNTER(EVENTS_FROZEN, "events_dropped{reason=\"frozen\"}", \
        "Events that did not reach everybody. A resync follows where deploy/guide/backbones.md says so.") \
    COUNTER(BACKBONE_REJECTED, "events_dropped{reason=\"message_invalid\"}", "") \
    COUNTER(BACKBONE_SEND_FAILED, "events_dropped{reason=\"send_failed\"}", "") \
    COUNTER(BACKBONE_TOO_LARGE, "events_dropped{reason=\"too_large\"}", "") \
    COUNTER(EVENTS_ROUTED, "events_routed", "Events put on the ring.") \
    COUNTER(BACKBONE_ACKNOWLEDGED, "backbone_events_acknowledged", \
        "Messages that the backbone has acknowledged.") \
    COUNTER(BACKBONE_OWN_SKIPPED, "backbone_own_events_skipped", \
        "Messages of this server that came back from the backbone.") \
    COUNTER(BACKBONE_RECONNECTS, "backbone_reconnects", "Times the backbone came back.") \
    COUNTER(ACKNOWLEDGEMENTS_LATE, "backbone_acknowledgements_late", \
        "Acknowledgements that came after the publisher had its 504.") \
    COUNTER(RING_FULL_WAITS, "ring_full_waits", "Times the master had to wait for the slowest worker.") \
    COUNTER(WORKERS_STARTED, "workers_started", "Worker processes started.") \
    COUNTER(WORKERS_DIED, "workers_died", "Worker processes that ended without being asked to.") \
    COUNTER(WORKERS_KILLED_STUCK, "workers_killed_stuck", "Workers killed because they stood still.") \
    COUNTER(POLICY_PROCESS_DIED, "policy_process_died", \
        "Times the policy process ended without being asked to.") \
    COUNTER(POLICY_CHECKS, "policy_checks", "Looks for changes of the policies' source.") \
    COUNTER(POLICY_CHECKS_FAILED, "policy_checks_failed", "... that failed.") \
    COUNTER(POLICY_REPO_TOO_LARGE, "policy_repo_too_large", \
        "Clones and fetches of the policy repository stopped by its size limit.") \
    COUNTER(POLICY_CHANGES, "policy_changes_published", "Changes of policies that were published.") \
    COUNTER(WEBHOOKS_TAKEN, "webhooks_taken", "Webhooks that led to a look.") \
    COUNTER(WEBHOOKS_REFUSED, "webhooks_refused", "Webhooks with a wrong or missing secret.") \
    COUNTER(BUNDLE_REQUESTS, "bundle_requests", "Requests for a bundle.") \
    COUNTER(BUNDLES_BUILT, "bundles_built", "Bundles that were built.") \
    COUNTER(BUNDLES_SHARED, "bundle_answers_shared", \
        "Requests answered with a bundle that another one had caused to be built.") \
    COUNTER( \
        BUNDLES_DROPPED, "bundles_dropped_cache", "Built bundles dropped from the cache for want of room.") \
    COUNTER(BUNDLES_REFUSED, "bundle_requests_refused", "Requests for a bundle refused by a limit.") \
    COUNTER(BUNDLES_FAILED, "bundle_builds_failed", "Bundles that could not be built.") \
    COUNTER(BUNDLE_FILES_REPAIRED, "bundle_files_not_utf8", "Files in bundles that are no UTF-8.") \
    COUNTER(BUNDLE_BUILDERS_DIED, "bundle_builders_died", \
        "Builder processes that ended without being asked to.") \
    COUNTER(RESYNC_CLOSES, "resync_closes", "Clients closed (1012) so that they refetch.")

enum counter {
#define COUNTER_ENUMERATOR(enumerator, name, help) COUNTER_##enumerator,
    COUNTERS(COUNTER_ENUMERATOR)
#undef COUNTER_ENUMERATOR
        COUNTER_COUNT
};

#endif
