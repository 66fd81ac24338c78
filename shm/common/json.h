/*
 * A strict JSON scanner that slices: it checks a text once and leaves offsets, so that values pass through as
 * the bytes they came as (numbers keep every digit, key order and escapes stay). It accepts what Python's
 * json.loads accepts (RFC 8259, and NaN, Infinity, -Infinity as numbers, lone surrogate escapes), and reports
 * errors with Python's messages and character offsets, because clients of the HTTP API see them.
 *
 * Pure: bytes in, tokens out, no I/O. Depth and token count are limited.
 */
#ifndef OPALD_SHM_COMMON_JSON_H
#define OPALD_SHM_COMMON_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/object.h"
#include "shm/common/text.h"

enum json_type { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/*
 * Tokens in document order. A container is followed by its content: an object by key token, value token(s),
 * key, ...; keys are JSON_STRING tokens. `next` is the index of the first token after this one's whole
 * subtree, which makes walking and skipping trivial: first child = i + 1, next sibling = tokens[i].next.
 */
struct json_token {
    /* enum json_type */
    uint32_t type;
    /* byte offset of the first byte (the quote of a string, the brace of an object) */
    uint32_t start;
    /* byte offset after the last byte */
    uint32_t end;
    uint32_t next;
    /* Elements of an array, members of an object. A string: 1 if it contains escapes, else 0. A number: 1 if
     * it is an integer (no '.', no exponent, not NaN or Infinity), else 0. */
    uint32_t size;
};

enum json_failure {
    JSON_OK,
    JSON_SYNTAX,
    JSON_TOO_DEEP,
    JSON_TOO_MANY,
    JSON_TOO_LONG /* over 4 GiB-1 */,
    JSON_BAD_UTF8
};

struct json_document {
    /* the caller's, must outlive the document */
    const char *text;
    size_t length;
    struct json_token *tokens;
    size_t count;
    size_t capacity;
    /* after a failure */
    /* Python's, e.g. "Expecting value"; static */
    const char *message;
    /* offset in code points, as Python counts */
    size_t error_character;
};

#define JSON_TOKENS_DEFAULT 1000000

/* Parses a whole text (white space around it is allowed, anything else after it is "Extra data"). Reuses the
 * document's token memory: zero-initialise once, json_free at the end. Checks UTF-8 as well. */
MUST_CHECK enum json_failure json_parse(
    struct json_document *document, const char *text, size_t length, unsigned max_depth, size_t max_tokens);
/* The same check without tokens: for a payload of which only validity matters. Sets message and
 * error_character. */
MUST_CHECK enum json_failure json_check(
    struct json_document *document, const char *text, size_t length, unsigned max_depth);
void json_free(struct json_document *document);

/* The bytes of a token as they stand in the text (a string with its quotes). */
struct slice json_raw(const struct json_document *document, uint32_t token);
/* Whether a number token is an integer, as json.loads sees it: no '.', no exponent, neither NaN nor
 * Infinity. */
static inline bool json_is_integer(const struct json_document *document, uint32_t token)
{
    return document->tokens[token].size == 1;
}
/* Value token of `key` in the object `object`, the last one when the key is there twice (Python's rule);
 * UINT32_MAX when absent. The key is compared after unescaping. */
uint32_t json_member(const struct json_document *document, uint32_t object, const char *key);
/* Decodes a string token to UTF-8 into `out` (appended). Lone surrogates are kept as 3-byte WTF-8. */
void json_string_decode(const struct json_document *document, uint32_t token, struct text *out);
/* True when the decoded string equals `value`; no allocation. */
bool json_string_equals(const struct json_document *document, uint32_t token, struct slice value);
/* The decoded string without copying when it has no escapes; else decoded into `scratch` (cleared first). */
struct slice json_string_view(const struct json_document *document, uint32_t token, struct text *scratch);

#define JSON_ABSENT UINT32_MAX

#endif
