#include "worker/http/http_gate.h"

#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/python.h"
#include "shm/worker_table.h"
#include "worker/auth/auth.h"

void http_gate_log(struct slice reason, const char *how, const char *peer)
{
    static struct log_limiter limiters[64]; /* by the reason's text: a common one must not hide the others */
    struct text shown = {0};
    unsigned hash = 5381;
    for (size_t i = 0; i < reason.length; i++)
        hash = hash * 33 + (unsigned char)reason.data[i];
    python_append_string(&shown, reason);
    log_write_limited(&limiters[hash % (sizeof limiters / sizeof *limiters)], LOG_ERROR, LOGGER_HTTP,
        "Authentication failed with 401 due to error: {'error': %s} (%s%s)", shown.data, how, peer);
    text_free(&shown);
}

void http_gate_refuse(struct http_exchange *exchange, struct slice reason, bool bearer)
{
    if (bearer)
        http_reply_header(&exchange->reply.before, "www-authenticate", SLICE_LITERAL("Bearer"));
    http_reply_set(&exchange->reply, 401, HTTP_JSON, SLICE_LITERAL("{\"detail\":{\"error\":"));
    text_append_json_utf8(&exchange->reply.body, reason);
    text_append_string(&exchange->reply.body, "}}");
    counter_add(exchange->services->segment, exchange->services->slot, COUNTER_HTTP_UNAUTHORIZED, 1);
    http_gate_log(reason, "", exchange->peer);
}

static bool admit_peer(struct http_exchange *exchange, enum http_need need)
{
    struct auth *auth = exchange->services->auth;
    token_claims_drop(exchange->claims);
    const char *wrong =
        auth_check_bearer(auth, http_request_header(exchange->request, "authorization"), &exchange->claims);
    if (wrong) {
        http_gate_refuse(exchange, slice_from_string(wrong), true);
        return false;
    }
    struct text reason = {0};
    bool good =
        need != HTTP_NEEDS_DATASOURCE || auth_check_peer_type(auth, exchange->claims, "datasource", &reason);
    if (!good)
        http_gate_refuse(exchange, text_slice(&reason), true);
    text_free(&reason);
    return good;
}

bool http_gate_admit(struct http_exchange *exchange, enum http_need need)
{
    const struct http_services *services = exchange->services;
    switch (need) {
    case HTTP_NEEDS_NOTHING:
        return true;
    case HTTP_NEEDS_TOKEN:
    case HTTP_NEEDS_DATASOURCE:
        return admit_peer(exchange, need);
    case HTTP_NEEDS_MASTER:
        break;
    }
    const char *wrong = auth_check_master(
        services->auth, services->config, http_request_header(exchange->request, "authorization"));
    if (wrong)
        http_gate_refuse(exchange, slice_from_string(wrong), true);
    return !wrong;
}
