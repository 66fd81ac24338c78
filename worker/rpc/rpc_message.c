#include "worker/rpc/rpc_message.h"

#include <string.h>
#include "shm/common/python.h"
#include "shm/common/utf8.h"

void rpc_message_free(struct rpc_message *message)
{
    json_free(&message->document);
    text_free(&message->method);
    text_free(&message->call_id);
}

/* A string of exactly two characters, which Python's dict() takes for a pair. */
static bool string_is_pair(const struct json_document *document, uint32_t token)
{
    const struct json_token *string = &document->tokens[token];
    if (string->end - string->start > 2 + 2 * 12) /* the longest: two surrogate pairs, escaped */
        return false;
    struct text decoded = {0};
    json_string_decode(document, token, &decoded);
    size_t characters = utf8_count((const uint8_t *)decoded.data, decoded.length);
    text_free(&decoded);
    return characters == 2;
}

/* One element of a list that stands for an object. */
static bool pair_read(const struct json_document *document, uint32_t token, uint32_t *key, uint32_t *value)
{
    const struct json_token *pair = &document->tokens[token];
    if (pair->type == JSON_STRING) {
        *key = *value = JSON_ABSENT;
        return string_is_pair(document, token);
    }
    if ((pair->type != JSON_ARRAY && pair->type != JSON_OBJECT) || pair->size != 2)
        return false;
    *key = token + 1;
    uint32_t second = document->tokens[token + 1].next;
    if (pair->type == JSON_OBJECT) /* iterating an object gives its keys */
        second = document->tokens[second].next;
    *value = second;
    return true;
}

bool rpc_mapping_next(
    const struct json_document *document, uint32_t token, uint32_t *cursor, uint32_t *key, uint32_t *value)
{
    const struct json_token *mapping = &document->tokens[token];
    if (mapping->type != JSON_OBJECT && mapping->type != JSON_ARRAY)
        return false;
    uint32_t at = *cursor == 0 ? token + 1 : *cursor;
    if (at >= mapping->next)
        return false;
    if (mapping->type == JSON_OBJECT) {
        *key = at;
        *value = document->tokens[at].next;
        *cursor = document->tokens[*value].next;
        return true;
    }
    *cursor = document->tokens[at].next;
    return pair_read(document, at, key, value);
}

enum mapping_kind { MAPPING_NONE, MAPPING_GOOD, MAPPING_BAD_KEY /* a key that is no string */ };

/* Would pydantic take this for an object? */
static enum mapping_kind mapping_check(const struct json_document *document, uint32_t token)
{
    const struct json_token *mapping = &document->tokens[token];
    enum mapping_kind kind = MAPPING_GOOD;
    if (mapping->type == JSON_OBJECT)
        return MAPPING_GOOD;
    if (mapping->type == JSON_STRING)
        return mapping->end - mapping->start == 2 ? MAPPING_GOOD : MAPPING_NONE; /* dict("") is {} */
    if (mapping->type != JSON_ARRAY)
        return MAPPING_NONE;
    for (uint32_t at = token + 1; at < mapping->next; at = document->tokens[at].next) {
        uint32_t key, value;
        if (!pair_read(document, at, &key, &value))
            return MAPPING_NONE;
        if (key == JSON_ABSENT || document->tokens[key].type == JSON_STRING)
            continue;
        if (document->tokens[key].type == JSON_ARRAY || document->tokens[key].type == JSON_OBJECT)
            return MAPPING_NONE; /* not hashable */
        kind = MAPPING_BAD_KEY;
    }
    return kind;
}

static uint32_t mapping_get(const struct json_document *document, uint32_t token, const char *name)
{
    uint32_t cursor = 0, key, value, found = JSON_ABSENT;
    struct slice wanted = slice_from_string(name);
    while (rpc_mapping_next(document, token, &cursor, &key, &value))
        if (key != JSON_ABSENT && document->tokens[key].type == JSON_STRING &&
            json_string_equals(document, key, wanted))
            found = value;
    return found;
}

static bool token_is_null(const struct json_document *document, uint32_t token)
{
    return token == JSON_ABSENT || document->tokens[token].type == JSON_NULL;
}

static bool optional_string_valid(const struct json_document *document, uint32_t token)
{
    if (token == JSON_ABSENT)
        return true;
    uint32_t type = document->tokens[token].type;
    return type != JSON_ARRAY && type != JSON_OBJECT;
}

static bool response_valid(const struct json_document *document, uint32_t response)
{
    if (token_is_null(document, response))
        return true;
    return mapping_check(document, response) == MAPPING_GOOD &&
           optional_string_valid(document, mapping_get(document, response, "call_id")) &&
           optional_string_valid(document, mapping_get(document, response, "result_type"));
}

static bool request_read(struct rpc_message *message, uint32_t request)
{
    const struct json_document *document = &message->document;
    if (mapping_check(document, request) != MAPPING_GOOD)
        return false;
    text_clear(&message->method);
    text_clear(&message->call_id);
    uint32_t method = mapping_get(document, request, "method");
    if (token_is_null(document, method) || !python_coerce_string(&message->method, document, method))
        return false;
    uint32_t call_id = mapping_get(document, request, "call_id");
    message->has_call_id = !token_is_null(document, call_id);
    if (message->has_call_id && !python_coerce_string(&message->call_id, document, call_id))
        return false;
    message->arguments = mapping_get(document, request, "arguments");
    return token_is_null(document, message->arguments) ||
           mapping_check(document, message->arguments) != MAPPING_NONE;
}

enum rpc_verdict rpc_message_parse(
    struct rpc_message *message, struct slice text, unsigned max_depth, size_t max_tokens)
{
    struct json_document *document = &message->document;
    if (json_parse(document, text.data, text.length, max_depth, max_tokens) != JSON_OK)
        return RPC_VIOLATION;
    switch (mapping_check(document, 0)) {
    case MAPPING_NONE:
        return RPC_IGNORED;
    case MAPPING_BAD_KEY:
        return RPC_VIOLATION;
    case MAPPING_GOOD:
        break;
    }
    uint32_t request = mapping_get(document, 0, "request");
    if (!response_valid(document, mapping_get(document, 0, "response")) || token_is_null(document, request))
        return RPC_IGNORED;
    return request_read(message, request) ? RPC_REQUEST : RPC_IGNORED;
}

void rpc_reply_write(
    struct text *out, const char *result, const char *result_type, bool has_call_id, struct slice call_id)
{
    text_append_string(out, "{\"request\": null, \"response\": {\"result\": ");
    text_append_string(out, result);
    text_append_string(out, ", \"result_type\": \"");
    text_append_string(out, result_type);
    text_append_string(out, "\", \"call_id\": ");
    if (has_call_id)
        text_append_json_ascii(out, call_id);
    else
        text_append_string(out, "null");
    text_append_string(out, "}}");
}
