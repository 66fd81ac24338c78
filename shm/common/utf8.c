#include "shm/common/utf8.h"

#include <string.h>

/* Where the run of ASCII that starts at `at` may end: eight characters at a time, so up to seven may
 * follow. */
static size_t skip_ascii(const uint8_t *bytes, size_t at, size_t length)
{
    uint64_t eight;
    while (length - at >= sizeof eight) {
        memcpy(&eight, bytes + at, sizeof eight);
        if (eight & UINT64_C(0x8080808080808080))
            break;
        at += sizeof eight;
    }
    return at;
}

const uint8_t *utf8_find_error(const uint8_t *bytes, size_t length)
{
    const uint8_t *end = bytes + length;
    for (size_t at = 0; (at = skip_ascii(bytes, at, length)) < length;) {
        unsigned used = utf8_length(bytes + at, end);
        if (used == 0)
            return bytes + at;
        at += used;
    }
    return NULL;
}

bool utf8_is_valid(struct slice text)
{
    return text.length == 0 || !utf8_find_error((const uint8_t *)text.data, text.length);
}

size_t utf8_count(const uint8_t *bytes, size_t length)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += !utf8_is_continuation(bytes[i]);
    return count;
}

size_t utf8_decode(struct slice text, uint32_t *point)
{
    const uint8_t *bytes = (const uint8_t *)text.data;
    struct utf8_lead lead = utf8_lead(bytes[0]);
    *point = UTF8_ILL_FORMED;
    if (lead.length <= 1) {
        if (lead.length == 1)
            *point = bytes[0];
        return 1;
    }
    if (bytes[0] == 0xed)
        lead.high = 0xbf; /* surrogates pass */
    uint32_t value = bytes[0] & (0x7fu >> lead.length);
    for (size_t i = 1; i < lead.length; i++) {
        if (i == text.length || bytes[i] < lead.low || bytes[i] > lead.high)
            return i;
        value = value << 6 | (bytes[i] & 0x3fu);
        lead.low = 0x80;
        lead.high = 0xbf;
    }
    *point = value;
    return lead.length;
}

size_t utf8_encode(uint32_t point, uint8_t out[UTF8_LENGTH_MAX])
{
    static const uint8_t leads[] = {0x00, 0x00, 0xc0, 0xe0, 0xf0};
    size_t length = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--) {
        out[i] = (uint8_t)(0x80 | (point & 0x3f));
        point >>= 6;
    }
    out[0] = (uint8_t)(leads[length] | point);
    return length;
}

bool utf8_stream_feed(struct utf8_stream *stream, const uint8_t *bytes, size_t length)
{
    static const struct utf8_stream broken = {.left = 1, .low = 1, .high = 0}; /* no byte fits */
    struct utf8_stream now = *stream;
    for (size_t at = 0; at < length; at++) {
        if (now.left == 0) {
            at = skip_ascii(bytes, at, length);
            if (at == length)
                break;
            struct utf8_lead lead = utf8_lead(bytes[at]);
            now = lead.length == 0 ? broken
                                   : (struct utf8_stream){(uint8_t)(lead.length - 1), lead.low, lead.high};
        } else if (bytes[at] >= now.low && bytes[at] <= now.high) {
            now = (struct utf8_stream){(uint8_t)(now.left - 1), 0x80, 0xbf};
        } else {
            now = broken;
        }
        if (now.left > 0 && now.high == 0) {
            *stream = now;
            return false;
        }
    }
    *stream = now;
    return true;
}
