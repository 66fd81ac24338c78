/*
 * POST /webhook: a git service (or, with bundles from a server, anybody with a token) says that there is
 * something new. The policy process of this host is told directly; the fleet hears of it by an event on the
 * topic `webhook`, as with the reference.
 */
#include "worker/policy/webhook_post.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "shm/common/log.h"
#include "shm/common/log_redact.h"
#include "shm/common/loggers.h"
#include "shm/common/python.h"
#include "shm/link/policy_link.h"
#include "shm/worker_table.h"
#include "worker/auth/secret.h"
#include "worker/http/http_gate.h"
#include "worker/http/http_publish.h"
#include "worker/policy/policy_client.h"
#include "worker/policy/policy_services.h"
#include "worker/policy/webhook_params.h"
#include "worker/policy/webhook_payload.h"

#define EVENT_DEFAULT "\"ping\""

static void refuse(struct http_exchange *exchange, unsigned status, const char *detail)
{
    static struct log_limiter limiter;
    http_reply_detail(&exchange->reply, status, "%s", detail);
    counter_add(exchange->services->segment, exchange->services->slot, COUNTER_WEBHOOKS_REFUSED, 1);
    log_write_limited(&limiter, LOG_WARNING, LOGGER_HTTP, "%s: webhook refused: %s", exchange->peer, detail);
}

static bool signature_is_right(const struct http_exchange *exchange, const char *secret, struct slice given)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    char hex[2 * EVP_MAX_MD_SIZE + 1] = "";
    unsigned int length = 0;
    struct slice body = exchange->request->body;
    if (!HMAC(EVP_sha256(), secret, (int)strlen(secret), (const unsigned char *)(body.data ? body.data : ""),
            body.length, digest, &length))
        return false;
    for (unsigned int i = 0; i < length; i++) {
        hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    return secret_equals(given, (struct slice){hex, 2 * (size_t)length});
}

/* False: the reply is set. */
static bool admit(struct http_exchange *exchange, const struct webhook_params *params)
{
    const char *secret = exchange->services->config->policy_repo_webhook_secret;
    if (!secret)
        return true;
    struct slice given =
        webhook_params_secret(params, http_request_header(exchange->request, params->secret_header_name));
    if (given.length == 0) {
        refuse(exchange, 401, "No secret was provided!");
        return false;
    }
    if (!params->secret_is_token && !signature_is_right(exchange, secret, given)) {
        refuse(exchange, 401, "signatures didn't match!");
        return false;
    }
    if (params->secret_is_token && !secret_equals(given, slice_from_string(secret))) {
        refuse(exchange, 401, "secret-tokens didn't match!");
        return false;
    }
    return true;
}

/* ---- the answer ---- */

static void append_url(struct text *out, const char *url)
{
    struct text shown = {0};
    if (!url) {
        text_append_string(out, "null");
        return;
    }
    log_redact(&shown, slice_from_string(url));
    text_append_json_utf8(out, text_slice(&shown));
    text_free(&shown);
}

static void reply_taken(struct http_exchange *exchange, struct slice event, const char *url)
{
    struct text body = {0};
    text_append_string(&body, "{\"status\":\"ok\",\"event\":");
    text_append_slice(&body, event);
    text_append_string(&body, ",\"repo_url\":");
    append_url(&body, url);
    text_append_char(&body, '}');
    http_reply_set(&exchange->reply, 200, HTTP_JSON, text_slice(&body));
    text_free(&body);
}

static void published(void *context, enum publish_outcome outcome)
{
    struct http_exchange *exchange = http_exchange_of(context);
    (void)
        /* frozen or refused: this host's policy process knows, and the service can do nothing about it */
        outcome;
    exchange->finished(exchange);
}

/* The reply is set; it goes out when the event has its place in the order. */
static enum http_answer trigger(struct http_exchange *exchange)
{
    static const struct slice topic = {POLICY_WEBHOOK_TOPIC, sizeof POLICY_WEBHOOK_TOPIC - 1};
    const struct http_services *services = exchange->services;
    struct policy_client *policy = services->policy->client;
    const struct publish_request request = {.topics = &topic,
        .topic_count = 1,
        .data = SLICE_LITERAL("null"),
        .done = published,
        .context = exchange,
        .server_side = true,
        .policy_knows = policy && policy_client_tell_webhook(policy)};
    counter_add(services->segment, services->slot, COUNTER_WEBHOOKS_TAKEN, 1);
    if (http_publish(exchange, &request) == PUBLISH_ORDERED)
        return HTTP_PENDING;
    if (!request.policy_knows) {
        http_reply_header(&exchange->reply.before, "retry-after", SLICE_LITERAL("1"));
        http_reply_detail(&exchange->reply, 503, "too many events are waiting, retry shortly");
    }
    return HTTP_ANSWERED;
}

/* ---- git ---- */

/* The event's name as JSON, and whether it is the one that says "pushed". */
static bool is_push(const struct http_exchange *exchange, const struct webhook_params *params,
    const struct json_document *document, struct text *event)
{
    if (params->event_header_name) {
        struct slice header = http_request_header(exchange->request, params->event_header_name);
        if (header.data)
            text_append_json_utf8(event, header);
        else
            text_append_string(event, EVENT_DEFAULT);
        return slice_equals_string(header.data ? header : SLICE_LITERAL("ping"), params->push_event_value);
    }
    uint32_t token = json_member(document, 0, params->event_request_key);
    if (token == JSON_ABSENT) {
        text_append_string(event, EVENT_DEFAULT);
        return strcmp(params->push_event_value, "ping") == 0;
    }
    text_append_slice(event, json_raw(document, token));
    return document->tokens[token].type == JSON_STRING &&
           json_string_equals(document, token, slice_from_string(params->push_event_value));
}

static void log_unexpected(const struct http_exchange *exchange, const struct webhook_payload *payload)
{
    static struct log_limiter limiter;
    struct text said = {0};
    text_append_string(&said, "[");
    for (size_t i = 0; i < payload->url_count; i++) {
        text_append_string(&said, i ? ", " : "");
        python_append_string(&said, text_slice(&payload->urls[i]));
    }
    text_append_string(&said, "] and those names: [");
    for (size_t i = 0; i < payload->name_count; i++) {
        text_append_string(&said, i ? ", " : "");
        python_append_string(&said, text_slice(&payload->names[i]));
    }
    log_write_limited(&limiter, LOG_WARNING, LOGGER_HTTP,
        "Got an unexpected webhook not matching the tracked repo (%s) - with these URLS: %s].",
        exchange->services->config->policy_repo_url ? exchange->services->config->policy_repo_url : "None",
        said.data);
    text_free(&said);
}

static enum http_answer take_payload(struct http_exchange *exchange, const struct webhook_params *params,
    const struct webhook_payload *payload, const struct json_document *document)
{
    const struct config *config = exchange->services->config;
    const char *url = config->policy_repo_url;
    struct text event = {0};
    enum http_answer answer = HTTP_ANSWERED;
    if (payload->url_count == 0 && payload->name_count == 0) {
        refuse(exchange, 400, "repo url or full name not found in payload!");
        return answer;
    }
    if (config->policy_repo_webhook_enforce_branch &&
        !webhook_payload_has_branch(payload, config->policy_repo_main_branch)) {
        log_write(LOG_WARNING, LOGGER_HTTP,
            "Git Webhook ignored - POLICY_REPO_WEBHOOK_ENFORCE_BRANCH is enabled, and "
            "POLICY_REPO_MAIN_BRANCH is "
            "`%s` but received webhook for a different branch (%s)",
            config->policy_repo_main_branch, payload->branch_count > 0 ? payload->branches[0].data : "None");
        http_reply_set(&exchange->reply, 200, HTTP_JSON, SLICE_LITERAL("null"));
        return answer;
    }
    bool push = is_push(exchange, params, document, &event);
    if (url && (!params->match_sender_url || webhook_payload_matches(payload, url))) {
        log_write(LOG_INFO, LOGGER_HTTP, "triggered webhook on repo: %s", url);
        reply_taken(exchange, text_slice(&event), url);
        if (push)
            answer = trigger(exchange);
    } else {
        struct text body = {0};
        log_unexpected(exchange, payload);
        text_append_format(&body, "{\"status\":\"ignored\",\"event\":%s}", event.data);
        http_reply_set(&exchange->reply, 200, HTTP_JSON, text_slice(&body));
        text_free(&body);
    }
    text_free(&event);
    return answer;
}

static enum http_answer take_git(struct http_exchange *exchange, const struct webhook_params *params)
{
    const struct config *config = exchange->services->config;
    struct slice body = exchange->request->body;
    struct json_document document = {0};
    struct webhook_payload payload = {0};
    enum http_answer answer = HTTP_ANSWERED;
    if (!admit(exchange, params))
        return answer;
    if (json_parse(&document, body.data ? body.data : "", body.length, config->limits.json_max_depth,
            config->limits.json_max_tokens) != JSON_OK ||
        document.tokens[0].type != JSON_OBJECT) {
        refuse(exchange, 400, "the body of a webhook must be a JSON object");
    } else {
        webhook_payload_read(&payload, &document);
        answer = take_payload(exchange, params, &payload, &document);
    }
    webhook_payload_free(&payload);
    json_free(&document);
    return answer;
}

/* ---- */

static enum http_answer take_api(struct http_exchange *exchange)
{
    if (!http_gate_admit(exchange, HTTP_NEEDS_TOKEN))
        return HTTP_ANSWERED;
    log_write(LOG_INFO, LOGGER_HTTP, "Triggered webhook to check API bundle URL");
    reply_taken(
        exchange, SLICE_LITERAL("\"webhook_trigger\""), exchange->services->config->policy_bundle_url);
    return trigger(exchange);
}

enum http_answer webhook_post(struct http_exchange *exchange)
{
    const struct http_services *services = exchange->services;
    struct webhook_params *loaded = NULL;
    struct error err = {0};
    if (strcmp(services->config->policy_source_type, "API") == 0)
        return take_api(exchange);
    const struct webhook_params *params = services->policy->webhook;
    if (!params)
        params = loaded = webhook_params_load(services->config, &err);
    if (!params) {
        refuse(exchange, 503, "webhooks are not configured rightly");
        return HTTP_ANSWERED;
    }
    enum http_answer answer = take_git(exchange, params);
    webhook_params_free(loaded);
    return answer;
}
