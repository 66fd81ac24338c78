/*
 * The scanner. One pass, no recursion: a bit per open container says object or array, so the deepest text
 * costs JSON_DEPTH_HARD / 8 bytes of stack whatever the caller's limit is.
 *
 * The same code runs with and without tokens (`with_tokens` is a constant in both instances, the compiler
 * drops the other half). While a container is open its token's `next` holds the index of the container
 * around it; closing it puts the real value there.
 *
 * Python decodes the whole text before it looks at the syntax. So a text with a syntax error early and bad
 * UTF-8 late is bad UTF-8: json_fail looks at all of it, which only failing texts pay for.
 */
#include "shm/common/json.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"
#include "shm/common/utf8.h"

/* Deeper than any limit a Python peer can take (its recursion limit is 1000). */
#define JSON_DEPTH_HARD 8192
/* Python's json refuses longer integers since 3.11 (sys.int_info.default_max_str_digits). One such number in
 * an event would end the connection of every Python client that gets it. */
#define JSON_INTEGER_DIGITS_MAX 4300
#define JSON_NO_PARENT          UINT32_MAX
#define JSON_FIRST_CAPACITY     64

static const char message_value[] = "Expecting value";
static const char message_key[] = "Expecting property name enclosed in double quotes";
static const char message_colon[] = "Expecting ':' delimiter";
static const char message_comma[] = "Expecting ',' delimiter";
static const char message_unterminated[] = "Unterminated string starting at";
static const char message_control[] = "Invalid control character at";
static const char message_escape[] = "Invalid \\escape";
static const char message_hex[] = "Invalid \\uXXXX escape";
static const char message_extra[] = "Extra data";
static const char message_bom[] = "Unexpected UTF-8 BOM (decode using utf-8-sig)";
static const char message_deep[] = "Nested too deeply";
static const char message_many[] = "Too many values";
static const char message_long[] = "Text too long";
static const char message_digits[] = "Integer of more than 4300 digits";
static const char message_utf8[] = "Not valid UTF-8";

struct scanner {
    const uint8_t *start;
    const uint8_t *at;
    const uint8_t *end;
    struct json_document *document;
    size_t max_tokens;
    /* token of the innermost open container */
    uint32_t parent;
    unsigned depth;
    enum json_failure failure;
    const char *message;
    const uint8_t *error_at;
    uint64_t is_object[JSON_DEPTH_HARD / 64];
};

/* ---- pieces; each returns false after setting the failure ---- */

static bool scan_fail(struct scanner *scan, enum json_failure failure, const char *message, const uint8_t *at)
{
    scan->failure = failure;
    scan->message = message;
    scan->error_at = at;
    return false;
}

static inline bool scan_is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
}

static inline void scan_skip_space(struct scanner *scan)
{
    while (scan->at < scan->end && scan_is_space(*scan->at))
        scan->at++;
}

static inline bool scan_is_digit(const struct scanner *scan, const uint8_t *at)
{
    return at < scan->end && *at >= '0' && *at <= '9';
}

/* True when one of the eight bytes ends a run of plain string content: a control character, a quote, a
 * backslash or a byte above 0x7f. The classic zero-byte test (Mycroft): exact as a yes/no answer. */
static inline bool word_has_special(uint64_t word)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t tops = UINT64_C(0x8080808080808080);
    uint64_t quote = word ^ (ones * '"');
    uint64_t backslash = word ^ (ones * '\\');
    return ((word | (word - ones * 0x20) | (quote - ones) | (backslash - ones)) & tops) != 0;
}

static bool scan_escape(struct scanner *scan, const uint8_t *quote)
{
    const uint8_t *backslash = scan->at;
    if (scan->end - backslash < 2)
        return scan_fail(scan, JSON_SYNTAX, message_unterminated, quote);
    switch (backslash[1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        scan->at += 2;
        return true;
    case 'u':
        break;
    default:
        return scan_fail(scan, JSON_SYNTAX, message_escape, backslash);
    }
    if (scan->end - backslash < 6)
        return scan_fail(scan, JSON_SYNTAX, message_hex, backslash + 1);
    for (int i = 2; i < 6; i++) {
        if (text_hex_value((char)backslash[i]) < 0)
            return scan_fail(scan, JSON_SYNTAX, message_hex, backslash + 1);
    }
    /* Python wants one more character after the digits, and says so as if the digits were wrong. */
    if (scan->end - backslash == 6)
        return scan_fail(scan, JSON_SYNTAX, message_hex, backslash + 1);
    scan->at += 6;
    return true;
}

/* At the opening quote; leaves `at` after the closing one. */
static inline bool scan_string(struct scanner *scan, uint32_t *escaped)
{
    const uint8_t *quote = scan->at++;
    *escaped = 0;
    for (;;) {
        while (scan->end - scan->at >= 8) {
            uint64_t word;
            memcpy(&word, scan->at, sizeof word);
            if (word_has_special(word))
                break;
            scan->at += 8;
        }
        while (scan->at < scan->end && *scan->at >= 0x20 && *scan->at < 0x80 && *scan->at != '"' &&
               *scan->at != '\\')
            scan->at++;
        if (scan->at == scan->end)
            return scan_fail(scan, JSON_SYNTAX, message_unterminated, quote);
        uint8_t byte = *scan->at;
        if (byte == '"') {
            scan->at++;
            return true;
        }
        if (byte == '\\') {
            *escaped = 1;
            if (!scan_escape(scan, quote))
                return false;
        } else if (byte < 0x20) {
            return scan_fail(scan, JSON_SYNTAX, message_control, scan->at);
        } else {
            /* Text in other scripts comes in runs. */
            do {
                unsigned used = utf8_length(scan->at, scan->end);
                if (!used)
                    return scan_fail(scan, JSON_BAD_UTF8, message_utf8, scan->at);
                scan->at += used;
            } while (scan->at < scan->end && *scan->at >= 0x80);
        }
    }
}

static inline bool scan_literal(struct scanner *scan, const char *literal, size_t length)
{
    if ((size_t)(scan->end - scan->at) < length || memcmp(scan->at, literal, length) != 0)
        return false;
    scan->at += length;
    return true;
}

/* As Python: a fraction or an exponent that isn't complete is not part of the number, and what is left over
 * is then the error ("Expecting ',' delimiter", "Extra data"). */
static inline bool scan_number(struct scanner *scan, uint32_t *integer)
{
    const uint8_t *first = scan->at;
    const uint8_t *at = first;
    *integer = 1;
    if (*at == '-')
        at++;
    const uint8_t *digits = at;
    if (!scan_is_digit(scan, at))
        return scan_fail(scan, JSON_SYNTAX, message_value, first);
    if (*at == '0') {
        at++;
    } else {
        while (scan_is_digit(scan, at))
            at++;
    }
    const uint8_t *digits_end = at;
    if (at < scan->end && *at == '.' && scan_is_digit(scan, at + 1)) {
        *integer = 0;
        at += 2;
        while (scan_is_digit(scan, at))
            at++;
    }
    if (at < scan->end && (*at | 0x20) == 'e') {
        const uint8_t *exponent = at + 1;
        if (exponent < scan->end && (*exponent == '+' || *exponent == '-'))
            exponent++;
        if (scan_is_digit(scan, exponent)) {
            *integer = 0;
            at = exponent;
            while (scan_is_digit(scan, at))
                at++;
        }
    }
    if (*integer && digits_end - digits > JSON_INTEGER_DIGITS_MAX)
        return scan_fail(scan, JSON_TOO_LONG, message_digits, first);
    scan->at = at;
    return true;
}

static inline bool scan_scalar(struct scanner *scan, uint32_t *type, uint32_t *size)
{
    *size = 0;
    *type = JSON_NUMBER;
    switch (*scan->at) {
    case '"':
        *type = JSON_STRING;
        return scan_string(scan, size);
    case 'n':
        *type = JSON_NULL;
        if (scan_literal(scan, "null", 4))
            return true;
        break;
    case 't':
        *type = JSON_TRUE;
        if (scan_literal(scan, "true", 4))
            return true;
        break;
    case 'f':
        *type = JSON_FALSE;
        if (scan_literal(scan, "false", 5))
            return true;
        break;
    case 'N':
        if (scan_literal(scan, "NaN", 3))
            return true;
        break;
    case 'I':
        if (scan_literal(scan, "Infinity", 8))
            return true;
        break;
    case '-':
        if (scan_literal(scan, "-Infinity", 9))
            return true;
        return scan_number(scan, size);
    default:
        return scan_number(scan, size);
    }
    return scan_fail(scan, JSON_SYNTAX, message_value, scan->at);
}

/* ---- tokens ---- */

static bool scan_grow(struct scanner *scan)
{
    struct json_document *document = scan->document;
    size_t capacity = document->capacity ? document->capacity * 2 : JSON_FIRST_CAPACITY;
    document->tokens = memory_resize(document->tokens, capacity * sizeof *document->tokens);
    document->capacity = capacity;
    return true;
}

/* The token's index in the document, or UINT32_MAX when there are too many. */
static inline uint32_t scan_push(
    struct scanner *scan, uint32_t type, const uint8_t *first, const uint8_t *end, uint32_t size)
{
    struct json_document *document = scan->document;
    if (document->count >= scan->max_tokens) {
        scan_fail(scan, JSON_TOO_MANY, message_many, first);
        return UINT32_MAX;
    }
    if (document->count == document->capacity)
        scan_grow(scan);
    uint32_t index = (uint32_t)document->count++;
    document->tokens[index] = (struct json_token){.type = type,
        .start = (uint32_t)(first - scan->start),
        .end = (uint32_t)(end - scan->start),
        .next = index + 1,
        .size = size};
    return index;
}

static inline bool scan_open(struct scanner *scan, bool object, unsigned max_depth, bool with_tokens)
{
    if (scan->depth >= max_depth)
        return scan_fail(scan, JSON_TOO_DEEP, message_deep, scan->at);
    if (with_tokens) {
        uint32_t index = scan_push(scan, object ? JSON_OBJECT : JSON_ARRAY, scan->at, scan->at, 0);
        if (index == UINT32_MAX)
            return false;
        scan->document->tokens[index].next = scan->parent;
        scan->parent = index;
    }
    uint64_t bit = UINT64_C(1) << (scan->depth % 64);
    if (scan->depth % 64 == 0)
        scan->is_object[scan->depth / 64] = 0;
    if (object)
        scan->is_object[scan->depth / 64] |= bit;
    else
        scan->is_object[scan->depth / 64] &= ~bit;
    scan->depth++;
    scan->at++;
    return true;
}

static inline void scan_close(struct scanner *scan, bool with_tokens)
{
    scan->at++;
    scan->depth--;
    if (with_tokens) {
        struct json_token *token = &scan->document->tokens[scan->parent];
        scan->parent = token->next;
        token->end = (uint32_t)(scan->at - scan->start);
        token->next = (uint32_t)scan->document->count;
    }
}

/* ---- the whole text ---- */

/* At the key's quote (or what stands in its place); leaves `at` at the value. */
static inline bool scan_key(struct scanner *scan, bool with_tokens)
{
    const uint8_t *first = scan->at;
    uint32_t escaped;
    if (scan->at == scan->end || *scan->at != '"')
        return scan_fail(scan, JSON_SYNTAX, message_key, scan->at);
    if (!scan_string(scan, &escaped))
        return false;
    if (with_tokens) {
        if (scan_push(scan, JSON_STRING, first, scan->at, escaped) == UINT32_MAX)
            return false;
    }
    scan_skip_space(scan);
    if (scan->at == scan->end || *scan->at != ':')
        return scan_fail(scan, JSON_SYNTAX, message_colon, scan->at);
    scan->at++;
    scan_skip_space(scan);
    return true;
}

/* After a value: closes what ends here. `*more` says whether another value follows (then `at` is at it). */
static inline bool scan_after_value(struct scanner *scan, bool with_tokens, bool *more)
{
    *more = false;
    while (scan->depth) {
        unsigned top = scan->depth - 1;
        bool object = (scan->is_object[top / 64] >> (top % 64)) & 1;
        if (with_tokens)
            scan->document->tokens[scan->parent].size++;
        scan_skip_space(scan);
        if (scan->at < scan->end && *scan->at == (object ? '}' : ']')) {
            scan_close(scan, with_tokens);
            continue;
        }
        if (scan->at == scan->end || *scan->at != ',')
            return scan_fail(scan, JSON_SYNTAX, message_comma, scan->at);
        scan->at++;
        scan_skip_space(scan);
        *more = true;
        return object ? scan_key(scan, with_tokens) : true;
    }
    return true;
}

static inline __attribute__((always_inline)) bool scan_text(
    struct scanner *scan, unsigned max_depth, bool with_tokens)
{
    bool more = true;
    scan_skip_space(scan);
    while (more) {
        if (scan->at == scan->end)
            return scan_fail(scan, JSON_SYNTAX, message_value, scan->at);
        const uint8_t *first = scan->at;
        if (*first == '{' || *first == '[') {
            bool object = *first == '{';
            if (!scan_open(scan, object, max_depth, with_tokens))
                return false;
            scan_skip_space(scan);
            if (scan->at < scan->end && *scan->at == (object ? '}' : ']')) {
                scan_close(scan, with_tokens); /* empty */
            } else {
                if (object && !scan_key(scan, with_tokens))
                    return false;
                continue;
            }
        } else {
            uint32_t type;
            uint32_t size;
            if (!scan_scalar(scan, &type, &size))
                return false;
            if (with_tokens && scan_push(scan, type, first, scan->at, size) == UINT32_MAX)
                return false;
        }
        if (!scan_after_value(scan, with_tokens, &more))
            return false;
    }
    scan_skip_space(scan);
    if (scan->at != scan->end)
        return scan_fail(scan, JSON_SYNTAX, message_extra, scan->at);
    return true;
}

static bool scan_text_tokens(struct scanner *scan, unsigned max_depth)
{
    return scan_text(scan, max_depth, true);
}

static bool scan_text_only(struct scanner *scan, unsigned max_depth)
{
    return scan_text(scan, max_depth, false);
}

static enum json_failure json_fail(struct json_document *document, const struct scanner *scan)
{
    enum json_failure failure = scan->failure;
    const uint8_t *error_at = scan->error_at;
    const uint8_t *bad = utf8_find_error(scan->start, (size_t)(scan->end - scan->start));
    document->message = scan->message;
    if (bad) {
        failure = JSON_BAD_UTF8;
        document->message = message_utf8;
        error_at = bad;
    }
    document->error_character = utf8_count(scan->start, (size_t)(error_at - scan->start));
    document->count = 0;
    return failure;
}

static enum json_failure json_scan(struct json_document *document, const char *text, size_t length,
    unsigned max_depth, size_t max_tokens, bool with_tokens)
{
    static const uint8_t nothing[1];
    struct scanner scan; /* not initialised as a whole: the bits are set before they are read */
    document->text = text;
    document->length = length;
    document->count = 0;
    document->message = NULL;
    document->error_character = 0;
    if (length >= UINT32_MAX) {
        document->message = message_long;
        return JSON_TOO_LONG;
    }
    scan.start = length ? (const uint8_t *)text : nothing;
    scan.at = scan.start;
    scan.end = scan.start + length;
    scan.document = document;
    scan.max_tokens = max_tokens < UINT32_MAX - 1 ? max_tokens : UINT32_MAX - 1;
    scan.parent = JSON_NO_PARENT;
    scan.depth = 0;
    scan.failure = JSON_OK;
    if (max_depth > JSON_DEPTH_HARD)
        max_depth = JSON_DEPTH_HARD;
    bool good;
    if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        good = scan_fail(&scan, JSON_SYNTAX, message_bom, scan.start);
    else
        good = with_tokens ? scan_text_tokens(&scan, max_depth) : scan_text_only(&scan, max_depth);
    return good ? JSON_OK : json_fail(document, &scan);
}

enum json_failure json_parse(
    struct json_document *document, const char *text, size_t length, unsigned max_depth, size_t max_tokens)
{
    return json_scan(document, text, length, max_depth, max_tokens, true);
}

enum json_failure json_check(
    struct json_document *document, const char *text, size_t length, unsigned max_depth)
{
    return json_scan(document, text, length, max_depth, 0, false);
}

void json_free(struct json_document *document)
{
    free(document->tokens);
    *document = (struct json_document){0};
}
