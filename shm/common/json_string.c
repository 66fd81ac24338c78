/*
 * Looking into the tokens that json.c made: members and strings. The text was checked, so every escape here
 * is complete and every byte sequence well-formed.
 */
#include "shm/common/json.h"

#include <string.h>

#include "shm/common/utf8.h"

struct unescaped {
    uint8_t bytes[UTF8_LENGTH_MAX];
    size_t length;
};

struct slice json_raw(const struct json_document *document, uint32_t token)
{
    const struct json_token *found = &document->tokens[token];
    return (struct slice){document->text + found->start, found->end - found->start};
}

/* Between the quotes. */
static struct slice string_content(const struct json_document *document, uint32_t token)
{
    const struct json_token *found = &document->tokens[token];
    return (struct slice){document->text + found->start + 1, found->end - found->start - 2};
}

static uint32_t hex4(const char *digits)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++)
        value = value << 4 | (uint32_t)text_hex_value(digits[i]);
    return value;
}

static struct unescaped encode(uint32_t point)
{
    struct unescaped encoded;
    encoded.length = utf8_encode(point, encoded.bytes);
    return encoded;
}

/* Decodes the escape at `at` (a backslash) and returns how many bytes of text it takes. */
static size_t unescape(const char *at, const char *end, struct unescaped *out)
{
    switch (at[1]) {
    case 'b':
        *out = encode('\b');
        return 2;
    case 'f':
        *out = encode('\f');
        return 2;
    case 'n':
        *out = encode('\n');
        return 2;
    case 'r':
        *out = encode('\r');
        return 2;
    case 't':
        *out = encode('\t');
        return 2;
    case 'u':
        break;
    default: /* quote, backslash, solidus */
        *out = encode((uint8_t)at[1]);
        return 2;
    }
    uint32_t point = hex4(at + 2);
    bool high = point >= 0xd800 && point <= 0xdbff;
    if (high && end - at >= 12 && at[6] == '\\' && at[7] == 'u') {
        uint32_t low = hex4(at + 8);
        if (low >= 0xdc00 && low <= 0xdfff) {
            *out = encode(0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00));
            return 12;
        }
    }
    *out = encode(point);
    return 6;
}

void json_string_decode(const struct json_document *document, uint32_t token, struct text *out)
{
    struct slice content = string_content(document, token);
    const char *at = content.data;
    const char *end = content.data + content.length;
    text_reserve(out, content.length); /* decoding never makes it longer */
    while (at < end) {
        const char *backslash = memchr(at, '\\', (size_t)(end - at));
        const char *run_end = backslash ? backslash : end;
        text_append(out, at, (size_t)(run_end - at));
        at = run_end;
        if (backslash) {
            struct unescaped bytes;
            at += unescape(at, end, &bytes);
            text_append(out, bytes.bytes, bytes.length);
        }
    }
}

bool json_string_equals(const struct json_document *document, uint32_t token, struct slice value)
{
    struct slice content = string_content(document, token);
    const char *at = content.data;
    const char *end = content.data + content.length;
    size_t matched = 0;
    if (!document->tokens[token].size)
        return slice_equals(content, value);
    while (at < end) {
        struct unescaped bytes = {{(uint8_t)*at}, 1};
        size_t used = *at == '\\' ? unescape(at, end, &bytes) : 1;
        if (value.length - matched < bytes.length ||
            memcmp(value.data + matched, bytes.bytes, bytes.length) != 0)
            return false;
        matched += bytes.length;
        at += used;
    }
    return matched == value.length;
}

struct slice json_string_view(const struct json_document *document, uint32_t token, struct text *scratch)
{
    if (!document->tokens[token].size)
        return string_content(document, token);
    text_clear(scratch);
    json_string_decode(document, token, scratch);
    return text_slice(scratch);
}

uint32_t json_member(const struct json_document *document, uint32_t object, const char *key)
{
    struct slice wanted = slice_from_string(key);
    uint32_t found = JSON_ABSENT;
    if (document->tokens[object].type != JSON_OBJECT)
        return JSON_ABSENT;
    uint32_t end = document->tokens[object].next;
    for (uint32_t name = object + 1; name < end; name = document->tokens[name + 1].next) {
        if (json_string_equals(document, name, wanted))
            found = name + 1;
    }
    return found;
}
