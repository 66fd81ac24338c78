#include "worker/jose/token.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"
#include "worker/jose/base64url.h"

/* Of a header, which anybody may send, and of a payload, which only the holder of the key can have signed. */
#define HEADER_DEPTH   8
#define HEADER_TOKENS  256
#define PAYLOAD_DEPTH  64
#define PAYLOAD_TOKENS 100000
#define UUID_DIGITS    32

struct parts {
    struct slice header;
    struct slice payload;
    struct slice signature;
    struct slice signed_bytes;
};

/* The signature stands behind the last dot, the header before the first. */
static bool split(struct slice token, struct parts *parts)
{
    const char *end = token.data + token.length;
    const char *first = memchr(token.data, '.', token.length);
    const char *last = memrchr(token.data, '.', token.length);
    if (!first || first == last)
        return false;
    parts->header = (struct slice){token.data, (size_t)(first - token.data)};
    parts->payload = (struct slice){first + 1, (size_t)(last - first - 1)};
    parts->signature = (struct slice){last + 1, (size_t)(end - last - 1)};
    parts->signed_bytes = (struct slice){token.data, (size_t)(last - token.data)};
    return true;
}

static bool parse_object(struct json_document *document, struct slice text, unsigned depth, size_t tokens)
{
    return json_parse(document, text.data ? text.data : "", text.length, depth, tokens) == JSON_OK &&
           document->tokens[0].type == JSON_OBJECT;
}

static bool is_type(const struct json_document *document, uint32_t token, enum json_type type)
{
    return token != JSON_ABSENT && document->tokens[token].type == type;
}

/* ---- header ---- */

/*
 * kid must be a string; of the critical extensions only "b64" is known, and it must be there when it is
 * named.
 */
static bool header_is_understood(const struct json_document *header)
{
    uint32_t kid = json_member(header, 0, "kid");
    uint32_t critical = json_member(header, 0, "crit");
    bool has_b64 = json_member(header, 0, "b64") != JSON_ABSENT;
    if (kid != JSON_ABSENT && !is_type(header, kid, JSON_STRING))
        return false;
    if (critical == JSON_ABSENT)
        return true;
    if (!is_type(header, critical, JSON_ARRAY) || header->tokens[critical].size == 0)
        return false;
    for (uint32_t item = critical + 1; item < header->tokens[critical].next; item = header->tokens[item].next)
        if (!is_type(header, item, JSON_STRING) || !has_b64 ||
            !json_string_equals(header, item, SLICE_LITERAL("b64")))
            return false;
    return true;
}

static enum token_verdict check_header(
    const struct json_document *header, const struct parts *parts, const struct jose_algorithm *algorithm)
{
    /* "b64": false says that the payload is elsewhere: nothing could be verified here */
    bool detached = is_type(header, json_member(header, 0, "b64"), JSON_FALSE);
    uint32_t name = json_member(header, 0, "alg");
    if (detached && parts->payload.length)
        return TOKEN_UNDECODABLE;
    if (!header_is_understood(header))
        return TOKEN_UNKNOWN;
    if (detached)
        return json_member(header, 0, "crit") == JSON_ABSENT ? TOKEN_UNKNOWN : TOKEN_UNDECODABLE;
    if (!is_type(header, name, JSON_STRING) ||
        !json_string_equals(header, name, slice_from_string(jose_algorithm_name(algorithm))))
        return TOKEN_UNKNOWN;
    return TOKEN_GOOD;
}

/* ---- claims ---- */

/* Python's int() of a string: white space, sign, digits with single underscores between them. */
static bool read_decimal(struct slice text, int64_t *out)
{
    text = slice_trim(text, TEXT_SPACES);
    const char *at = text.data, *end = text.data + text.length;
    bool negative = false, digit = false;
    *out = 0;
    if (at < end && (*at == '-' || *at == '+'))
        negative = *at++ == '-';
    for (; at < end; at++) {
        if (*at == '_' && digit && at + 1 < end && at[1] != '_')
            continue;
        if (*at < '0' || *at > '9')
            return false;
        digit = true;
        if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, *at - '0', out))
            *out = INT64_MAX / 16; /* any such time is as far away as another */
    }
    if (negative)
        *out = -*out;
    return digit;
}

/* Python's int() of a claim. False: it has none. */
static bool read_time(const struct json_document *document, uint32_t token, int64_t *out)
{
    const struct json_token *value = &document->tokens[token];
    struct text scratch = {0};
    bool good = false;
    switch (value->type) {
    case JSON_TRUE:
    case JSON_FALSE:
        *out = value->type == JSON_TRUE;
        return true;
    case JSON_STRING:
        good = read_decimal(json_string_view(document, token, &scratch), out);
        break;
    case JSON_NUMBER:
        if (value->size == 1) {
            good = read_decimal(json_raw(document, token), out);
            break;
        }
        text_append_slice(&scratch, json_raw(document, token));
        double number = strtod(scratch.data, NULL);
        good = isfinite(number);
        if (good)
            *out = number > 1e17 ? INT64_MAX / 16 : number < -1e17 ? -(INT64_MAX / 16) : (int64_t)number;
        break;
    default:
        break;
    }
    text_free(&scratch);
    return good;
}

static enum token_verdict check_times(struct token_claims *claims, double now)
{
    const struct json_document *document = &claims->document;
    uint32_t issued = token_claim(claims, "iat");
    uint32_t not_before = token_claim(claims, "nbf");
    uint32_t expires = token_claim(claims, "exp");
    int64_t time;
    claims->expires = TOKEN_NEVER;
    if (issued != JSON_ABSENT && !read_time(document, issued, &time))
        return TOKEN_UNKNOWN;
    if (issued != JSON_ABSENT && (double)time > now)
        return TOKEN_EARLY;
    if (not_before != JSON_ABSENT && !read_time(document, not_before, &time))
        return TOKEN_UNDECODABLE;
    if (not_before != JSON_ABSENT && (double)time > now)
        return TOKEN_EARLY;
    if (expires == JSON_ABSENT)
        return TOKEN_GOOD;
    if (!read_time(document, expires, &claims->expires))
        return TOKEN_UNDECODABLE;
    return (double)claims->expires <= now ? TOKEN_EXPIRED : TOKEN_GOOD;
}

static enum token_verdict check_issuer(const struct token_claims *claims, const char *issuer)
{
    uint32_t token = token_claim(claims, "iss");
    if (token == JSON_ABSENT)
        return TOKEN_UNKNOWN;
    return is_type(&claims->document, token, JSON_STRING) &&
                   json_string_equals(&claims->document, token, slice_from_string(issuer))
               ? TOKEN_GOOD
               : TOKEN_ISSUER;
}

/* Python's bool() of a claim that is there. */
static bool is_true(const struct json_document *document, uint32_t token)
{
    const struct json_token *value = &document->tokens[token];
    if (value->type == JSON_STRING)
        return value->end - value->start > 2;
    if (value->type == JSON_ARRAY || value->type == JSON_OBJECT)
        return value->size > 0;
    if (value->type == JSON_NUMBER) {
        struct text number = {0};
        text_append_slice(&number, json_raw(document, token));
        bool zero = strtod(number.data, NULL) == 0;
        text_free(&number);
        return !zero;
    }
    return value->type == JSON_TRUE;
}

static enum token_verdict check_audience(const struct token_claims *claims, const char *audience)
{
    const struct json_document *document = &claims->document;
    const struct slice wanted = slice_from_string(audience);
    uint32_t token = token_claim(claims, "aud");
    bool found = false;
    if (token == JSON_ABSENT || !is_true(document, token))
        return TOKEN_UNKNOWN;
    if (is_type(document, token, JSON_STRING))
        return json_string_equals(document, token, wanted) ? TOKEN_GOOD : TOKEN_AUDIENCE;
    if (!is_type(document, token, JSON_ARRAY))
        return TOKEN_AUDIENCE;
    for (uint32_t item = token + 1; item < document->tokens[token].next; item = document->tokens[item].next) {
        if (!is_type(document, item, JSON_STRING))
            return TOKEN_AUDIENCE;
        found = found || json_string_equals(document, item, wanted);
    }
    return found ? TOKEN_GOOD : TOKEN_AUDIENCE;
}

/* What Python's UUID() takes: 32 hexadecimal digits, with dashes, braces and urn:uuid: wherever. */
static bool is_uuid(struct slice text)
{
    size_t digits = 0;
    for (size_t i = 0; i < text.length; i++) {
        const char *at = text.data + i;
        size_t left = text.length - i;
        if (left >= 4 && memcmp(at, "urn:", 4) == 0)
            i += 3;
        else if (left >= 5 && memcmp(at, "uuid:", 5) == 0)
            i += 4;
        else if (text_hex_value(*at) >= 0)
            digits++;
        else if (*at != '-' && *at != '{' && *at != '}')
            return false;
    }
    return digits == UUID_DIGITS;
}

static enum token_verdict check_subject(const struct token_claims *claims)
{
    uint32_t subject = token_claim(claims, "sub");
    uint32_t id = token_claim(claims, "jti");
    if (subject != JSON_ABSENT && !is_type(&claims->document, subject, JSON_STRING))
        return TOKEN_UNKNOWN;
    if (id != JSON_ABSENT && !is_type(&claims->document, id, JSON_STRING))
        return TOKEN_UNKNOWN;
    if (subject == JSON_ABSENT)
        return TOKEN_SUBJECT;
    struct text scratch = {0};
    bool good = is_uuid(json_string_view(&claims->document, subject, &scratch));
    text_free(&scratch);
    return good ? TOKEN_GOOD : TOKEN_SUBJECT;
}

static enum token_verdict check_claims(
    const struct token_rules *rules, struct token_claims *claims, double now)
{
    enum token_verdict verdict = check_times(claims, now);
    if (verdict == TOKEN_GOOD)
        verdict = check_issuer(claims, rules->issuer);
    if (verdict == TOKEN_GOOD)
        verdict = check_audience(claims, rules->audience);
    return verdict == TOKEN_GOOD ? check_subject(claims) : verdict;
}

/* ---- the whole ---- */

static enum token_verdict verify_parts(const struct token_rules *rules, const struct parts *parts,
    struct json_document *header, struct text *scratch)
{
    if (!base64url_decode(parts->header, scratch) ||
        !parse_object(header, text_slice(scratch), HEADER_DEPTH, HEADER_TOKENS))
        return TOKEN_UNDECODABLE;
    enum token_verdict verdict = check_header(header, parts, rules->algorithm);
    /* The other two must be base64 before the header says anything: such a token is no JWT at all. */
    struct text payload = {0}, signature = {0};
    if (!base64url_decode(parts->payload, &payload) || !base64url_decode(parts->signature, &signature))
        verdict = TOKEN_UNDECODABLE;
    if (verdict == TOKEN_GOOD &&
        !jose_verify(rules->algorithm, rules->key, parts->signed_bytes, text_slice(&signature)))
        verdict = TOKEN_UNDECODABLE;
    text_free(&payload);
    text_free(&signature);
    return verdict;
}

/* Claims live as long as their connection: no more memory than they need. */
static void trim(struct token_claims *claims)
{
    struct json_document *document = &claims->document;
    struct text *payload = &claims->payload;
    document->tokens = memory_resize(document->tokens, document->count * sizeof *document->tokens);
    document->capacity = document->count;
    payload->data = memory_resize(payload->data, payload->length + 1);
    payload->capacity = payload->length + 1;
    document->text = payload->data;
}

enum token_verdict token_verify(
    const struct token_rules *rules, struct slice token, double now, struct token_claims **claims)
{
    struct parts parts;
    struct json_document header = {0};
    struct text scratch = {0};
    *claims = NULL;
    if (!token.length || !split(token, &parts))
        return TOKEN_UNDECODABLE;
    enum token_verdict verdict = verify_parts(rules, &parts, &header, &scratch);
    json_free(&header);
    text_free(&scratch);
    if (verdict != TOKEN_GOOD)
        return verdict;

    struct token_claims *made = memory_allocate(sizeof *made);
    made->references = 1;
    if (!base64url_decode(parts.payload, &made->payload) ||
        !parse_object(&made->document, text_slice(&made->payload), PAYLOAD_DEPTH, PAYLOAD_TOKENS))
        verdict = TOKEN_UNDECODABLE;
    else
        verdict = check_claims(rules, made, now);
    if (verdict == TOKEN_GOOD) {
        trim(made);
        *claims = made;
    } else {
        token_claims_drop(made);
    }
    return verdict;
}

struct token_claims *token_claims_keep(struct token_claims *claims)
{
    if (claims)
        claims->references++;
    return claims;
}

void token_claims_drop(struct token_claims *claims)
{
    if (!claims || --claims->references)
        return;
    json_free(&claims->document);
    text_free(&claims->payload);
    free(claims);
}

uint32_t token_claim(const struct token_claims *claims, const char *name)
{
    return json_member(&claims->document, 0, name);
}

static bool item_permits(struct slice item, struct slice topic)
{
    if (slice_equals(item, topic))
        return true;
    size_t prefix = item.length - 1;
    return item.length > 0 && item.data[prefix] == '*' && topic.length >= prefix &&
           memcmp(item.data, topic.data, prefix) == 0;
}

bool token_permits_topic(const struct token_claims *claims, struct slice topic)
{
    struct text scratch = {0};
    bool permits = false;
    const struct json_document *document = &claims->document;
    uint32_t list = token_claim(claims, "permitted_topics");
    if (list == JSON_ABSENT)
        return true;
    if (!is_type(document, list, JSON_ARRAY))
        return false;
    for (uint32_t item = list + 1; item < document->tokens[list].next && !permits;
         item = document->tokens[item].next)
        permits = is_type(document, item, JSON_STRING) &&
                  item_permits(json_string_view(document, item, &scratch), topic);
    text_free(&scratch);
    return permits;
}

int token_sign(const struct jose_algorithm *algorithm, EVP_PKEY *private_key, struct slice payload,
    struct text *out, struct error *err)
{
    struct text header = {0}, signature = {0};
    struct text token = {0};
    text_append_format(&header, "{\"alg\":\"%s\",\"typ\":\"JWT\"}", jose_algorithm_name(algorithm));
    base64url_encode(header.data, header.length, &token);
    text_append_char(&token, '.');
    base64url_encode(payload.data, payload.length, &token);
    int result = jose_sign(algorithm, private_key, text_slice(&token), &signature, err);
    if (result == 0) {
        text_append_char(&token, '.');
        base64url_encode(signature.data, signature.length, &token);
        text_append_slice(out, text_slice(&token));
    }
    text_free(&header);
    text_free(&signature);
    text_free(&token);
    return result;
}
