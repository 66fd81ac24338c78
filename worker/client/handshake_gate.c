#include "worker/client/handshake_gate.h"

#include <stdlib.h>
#include <string.h>
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/figures.h"
#include "worker/http/http_gate.h"
#include "worker/http/http_routes.h"
#include "worker/net/refusal_pace.h"
#include "worker/websocket/websocket_handshake.h"

struct handshake_gate {
    struct handshake_gate_settings settings;
    struct refusal_pace pace;
    struct log_limiter limit_forbidden;
    struct log_limiter limit_rejected;
};

struct handshake_gate *handshake_gate_open(const struct handshake_gate_settings *settings)
{
    struct handshake_gate *gate = memory_allocate(sizeof *gate);
    gate->settings = *settings;
    return gate;
}

void handshake_gate_close(struct handshake_gate *gate)
{
    free(gate);
}

/* The bearer token of a handshake. */
static bool token_is_good(struct handshake_gate *gate, const struct http_request *request, const char *peer,
    struct token_claims **claims)
{
    const char *wrong =
        auth_check_bearer(gate->settings.auth, http_request_header(request, "authorization"), claims);
    if (!wrong)
        return true;
    worker_count(&gate->settings.counters, COUNTER_HTTP_UNAUTHORIZED, 1);
    http_gate_log(slice_from_string(wrong), "websocket, ", peer);
    return false;
}

static bool refusal_is_late(struct handshake_gate *gate, const char *peer)
{
    const char *colon = strrchr(peer, ':');
    struct slice address = {peer, colon ? (size_t)(colon - peer) : strlen(peer)};
    return gate->settings.config->auth_refusal_delay > 0 &&
           refusal_pace_note(&gate->pace, address, clock_monotonic_ns());
}

static void log_refusal(
    struct handshake_gate *gate, const struct http_request *request, const char *peer, unsigned status)
{
    worker_count(&gate->settings.counters, COUNTER_HANDSHAKES_REFUSED, 1);
    if (status == 403)
        log_write_limited(&gate->limit_forbidden, LOG_INFO, LOGGER_WORKER, "%s - \"WebSocket %.*s\" 403",
            peer, (int)request->target.length, request->target.data);
    log_write_limited(&gate->limit_rejected, LOG_INFO, LOGGER_WORKER, "connection rejected (%u %s)", status,
        websocket_handshake_phrase(status));
}

void handshake_gate_answer(struct handshake_gate *gate, const struct http_request *request, const char *peer,
    struct handshake_answer *answer)
{
    const struct worker_counters *counters = &gate->settings.counters;
    *answer = (struct handshake_answer){0};
    answer->status = websocket_handshake(request, &answer->reply);
    if (answer->status == 101 && !token_is_good(gate, request, peer, &answer->claims)) {
        text_clear(&answer->reply);
        answer->status = websocket_handshake_forbid(&answer->reply);
        answer->late = refusal_is_late(gate, peer);
    }
    figures_count_http(counters->segment, counters->slot, HTTP_ROUTE_WEBSOCKET, answer->status);
    if (answer->status == 101)
        log_write(LOG_INFO, LOGGER_WORKER, "%s - \"WebSocket %.*s\" [accepted]", peer,
            (int)request->target.length, request->target.data);
    else
        log_refusal(gate, request, peer, answer->status);
}
