/*
 * POST /token: gives out a token to whoever holds the master token (the gate has asked for it). Claims of the
 * request come last and win over the server's own, as in the reference: who holds the master token may sign
 * whatever he likes.
 */
#include "worker/api/token_post.h"

#include <math.h>
#include <string.h>
#include <stdlib.h>
#include <time.h>

#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/common/utf8.h"
#include "shm/worker_table.h"
#include "worker/api/token_request.h"
#include "worker/auth/auth.h"
#include "worker/http/http_body.h"

#define OWN_CLAIMS 6 /* iat exp aud iss sub peer_type */

struct claim {
    struct text name;
    /* JSON */
    struct text value;
};

struct claim_list {
    struct claim *items;
    size_t count;
};

/* As Python's dict: a name that is there keeps its place. */
static struct text *claim_value(struct claim_list *list, struct slice name)
{
    for (size_t i = 0; i < list->count; i++) {
        if (slice_equals(text_slice(&list->items[i].name), name)) {
            text_clear(&list->items[i].value);
            return &list->items[i].value;
        }
    }
    struct claim *claim = &list->items[list->count++];
    text_append_slice(&claim->name, name);
    return &claim->value;
}

static void claim_list_free(struct claim_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        text_free(&list->items[i].name);
        text_free(&list->items[i].value);
    }
    free(list->items);
    *list = (struct claim_list){0};
}

static void add_requested(struct claim_list *list, const struct json_document *claims)
{
    const struct json_token *tokens = claims->tokens;
    struct text scratch = {0};
    for (uint32_t key = 1; key < tokens[0].next; key = tokens[key + 1].next)
        text_append_slice(
            claim_value(list, json_string_view(claims, key, &scratch)), json_raw(claims, key + 1));
    text_free(&scratch);
}

/*
 * Writes the text of a JSON value in ASCII: characters above 0x7e stand in strings only, where they become
 * escapes.
 */
static void append_ascii(struct text *out, struct slice json)
{
    for (size_t i = 0, used; i < json.length; i += used) {
        uint32_t point;
        used = utf8_decode((struct slice){json.data + i, json.length - i}, &point);
        if (point < 0x80)
            text_append_char(out, (char)point);
        else
            text_append_json_escape(out, point == UTF8_ILL_FORMED ? 0xfffd : point);
    }
}

static void write_claims(const struct claim_list *list, bool ascii, struct text *out)
{
    text_append_char(out, '{');
    for (size_t i = 0; i < list->count; i++) {
        if (i)
            text_append_char(out, ',');
        if (ascii)
            text_append_json_ascii(out, text_slice(&list->items[i].name));
        else
            text_append_json_utf8(out, text_slice(&list->items[i].name));
        text_append_char(out, ':');
        if (ascii)
            append_ascii(out, text_slice(&list->items[i].value));
        else
            text_append_slice(out, text_slice(&list->items[i].value));
    }
    text_append_char(out, '}');
}

static void append_uuid(struct text *out, const struct identity *id, bool dashes)
{
    char hex[IDENTITY_HEX];
    identity_format(id, hex);
    for (size_t i = 0; i < IDENTITY_HEX; i++) {
        if (dashes && (i == 8 || i == 12 || i == 16 || i == 20))
            text_append_char(out, '-');
        text_append_char(out, hex[i]);
    }
}

/* Naive UTC, as Python's isoformat() has it. */
static void append_time(struct text *out, double seconds)
{
    time_t whole = (time_t)floor(seconds);
    long micro = lround((seconds - (double)whole) * 1e6);
    if (micro == 1000000) {
        micro = 0;
        whole++;
    }
    struct tm parts;
    char date[64];
    gmtime_r(&whole, &parts);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &parts);
    text_append_format(out, "%s%s", strlen(date) < 19 ? "0" : "", date);
    if (micro)
        text_append_format(out, ".%06ld", micro);
}

/* The payload: the server's claims, then the requested ones. */
static void build_payload(const struct config *config, const struct token_request *request,
    const struct json_document *claims, double now, struct text *out)
{
    struct claim_list list = {
        .items = memory_allocate((OWN_CLAIMS + claims->tokens[0].size) * sizeof *list.items)};
    text_append_format(claim_value(&list, SLICE_LITERAL("iat")), "%lld", (long long)floor(now));
    text_append_format(
        claim_value(&list, SLICE_LITERAL("exp")), "%lld", (long long)floor(now + request->ttl));
    text_append_json_ascii(
        claim_value(&list, SLICE_LITERAL("aud")), slice_from_string(config->auth_jwt_audience));
    text_append_json_ascii(
        claim_value(&list, SLICE_LITERAL("iss")), slice_from_string(config->auth_jwt_issuer));
    struct text *subject = claim_value(&list, SLICE_LITERAL("sub"));
    text_append_char(subject, '"');
    append_uuid(subject, &request->id, false);
    text_append_char(subject, '"');
    text_append_format(claim_value(&list, SLICE_LITERAL("peer_type")), "\"%s\"", request->type);
    add_requested(&list, claims);
    write_claims(&list, true, out);
    claim_list_free(&list);
}

static void write_reply(struct http_exchange *exchange, const struct token_request *request,
    const struct json_document *claims, double now, struct slice token)
{
    struct claim_list list = {.items = memory_allocate((1 + claims->tokens[0].size) * sizeof *list.items)};
    struct text *out = &exchange->reply.body;
    text_append_format(claim_value(&list, SLICE_LITERAL("peer_type")), "\"%s\"", request->type);
    add_requested(&list, claims);
    http_reply_set(&exchange->reply, 200, HTTP_JSON, SLICE_LITERAL("{\"token\":\""));
    text_append_slice(out, token);
    text_append_string(out, "\",\"type\":\"bearer\",\"details\":{\"id\":\"");
    append_uuid(out, &request->id, true);
    text_append_format(out, "\",\"type\":\"%s\",\"expired\":\"", request->type);
    append_time(out, now + request->ttl);
    text_append_string(out, "\",\"claims\":");
    write_claims(&list, false, out);
    text_append_string(out, "}}");
    claim_list_free(&list);
}

/* What the reference can't sign either, or what no server would take. */
static const char *claims_problem(const struct json_document *claims)
{
    uint32_t issuer = json_member(claims, 0, "iss");
    if (claims->tokens[0].size > TOKEN_CLAIMS_MAX)
        return "too many claims (limit 1000)";
    if (issuer != JSON_ABSENT && claims->tokens[issuer].type != JSON_STRING)
        return "the claim iss must be a string";
    return NULL;
}

static void issue(struct http_exchange *exchange, const struct token_request *request)
{
    const struct config *config = exchange->services->config;
    struct json_document claims = {0};
    struct text payload = {0}, token = {0};
    struct error err = {0};
    struct timespec clock;
    clock_gettime(CLOCK_REALTIME, &clock);
    double now = (double)clock.tv_sec + (double)clock.tv_nsec / 1e9;
    const char *problem = "claims can't be read";
    if (json_parse(&claims, request->claims.data, request->claims.length, config->limits.json_max_depth,
            config->limits.json_max_tokens) == JSON_OK)
        problem = claims_problem(&claims);
    if (problem) {
        http_reply_detail(&exchange->reply, 422, "%s", problem);
    } else {
        build_payload(config, request, &claims, now, &payload);
        if (auth_sign(exchange->services->auth, text_slice(&payload), &token, &err) < 0) {
            log_write(LOG_ERROR, LOGGER_HTTP, "POST /token: %s", err.text);
            http_reply_detail(&exchange->reply, 500, "the token could not be signed");
        } else if (token.length > config->auth_token_max_bytes) {
            http_reply_detail(&exchange->reply, 422,
                "the token would have %zu bytes: more than OPAL_AUTH_TOKEN_MAX_BYTES=%zu", token.length,
                config->auth_token_max_bytes);
        } else {
            write_reply(exchange, request, &claims, now, text_slice(&token));
            counter_add(exchange->services->segment, exchange->services->slot, COUNTER_TOKENS_ISSUED, 1);
            log_write(LOG_INFO, LOGGER_HTTP, "Generated opal token: peer_type=%s", request->type);
        }
    }
    json_free(&claims);
    text_free(&payload);
    text_free(&token);
}

enum http_answer token_post(struct http_exchange *exchange)
{
    const struct config *config = exchange->services->config;
    struct json_document document = {0};
    struct token_request request = {0};
    if (http_body_parse(exchange, &document)) {
        if (!token_request_read(
                &request, &document, config->limits.json_max_depth, config->limits.json_max_tokens))
            validation_reply(&request.validation, &exchange->reply);
        else if (!auth_is_on(exchange->services->auth))
            http_reply_detail(&exchange->reply, 503,
                "opal server was not configured with security, cannot generate tokens!");
        else
            issue(exchange, &request);
    }
    token_request_free(&request);
    json_free(&document);
    return HTTP_ANSWERED;
}
