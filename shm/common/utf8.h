/*
 * UTF-8 (Unicode 15, table 3-7: nothing overlong, no surrogates, nothing above U+10FFFF). Pure; any thread.
 *
 * WTF-8 is UTF-8 that may also have surrogates, of three bytes each: json.loads makes lone surrogates out of
 * escapes, and we keep them in that form. Functions that let them pass say so.
 */
#ifndef OPALD_SHM_COMMON_UTF8_H
#define OPALD_SHM_COMMON_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/object.h"
#include "shm/common/text.h"

#define UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */
#define UTF8_LENGTH_MAX  4
#define UTF8_ILL_FORMED  UINT32_MAX /* in place of a code point */

/* What a lead byte announces. */
struct utf8_lead {
    /* bytes of the whole sequence; 0: no sequence begins with this byte */
    uint8_t length;
    /* bounds of the second byte; each later one is from 0x80 to 0xbf */
    uint8_t low, high;
};

static inline struct utf8_lead utf8_lead(uint8_t byte)
{
    if (byte < 0x80)
        return (struct utf8_lead){.length = 1};
    if (byte < 0xc2 || byte > 0xf4)
        return (struct utf8_lead){.length = 0};
    struct utf8_lead lead = {.length = byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4, .low = 0x80, .high = 0xbf};
    if (byte == 0xe0)
        lead.low = 0xa0; /* shorter forms exist */
    else if (byte == 0xed)
        lead.high = 0x9f; /* surrogates */
    else if (byte == 0xf0)
        lead.low = 0x90; /* shorter forms exist */
    else if (byte == 0xf4)
        lead.high = 0x8f; /* above U+10FFFF */
    return lead;
}

static inline bool utf8_is_surrogate(uint32_t point)
{
    return point >= 0xd800 && point <= 0xdfff;
}

static inline bool utf8_is_continuation(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/* Length of the well-formed sequence at `at`, which is below `end`; 0 when it is ill-formed or cut off. */
static inline unsigned utf8_length(const uint8_t *at, const uint8_t *end)
{
    struct utf8_lead lead = utf8_lead(at[0]);
    if (lead.length <= 1)
        return lead.length;
    if ((size_t)(end - at) < lead.length || at[1] < lead.low || at[1] > lead.high)
        return 0;
    if (lead.length > 2 && !utf8_is_continuation(at[2]))
        return 0;
    return lead.length == 4 && !utf8_is_continuation(at[3]) ? 0 : lead.length;
}

/* The first ill-formed byte of `length` bytes, NULL when there is none. */
MUST_CHECK const uint8_t *utf8_find_error(const uint8_t *bytes, size_t length);
MUST_CHECK bool utf8_is_valid(struct slice text);
/* How many code points well-formed text has (WTF-8 too). */
size_t utf8_count(const uint8_t *bytes, size_t length);

/* Decodes one code point of WTF-8. Returns the bytes it takes, at least 1. `*point` is UTF8_ILL_FORMED for
 * what is ill-formed or cut off; then the length is that of the part that one U+FFFD stands for (as Python
 * and Go replace it). `text` is not empty. */
size_t utf8_decode(struct slice text, uint32_t *point);
/* Encodes a code point, a surrogate as WTF-8; returns how many bytes of `out` it took. */
size_t utf8_encode(uint32_t point, uint8_t out[UTF8_LENGTH_MAX]);
/* A text that comes in parts, cut anywhere. Zero-initialise. */
struct utf8_stream {
    /* bytes that the character under way still lacks; 0: the text may end here */
    uint8_t left;
    /* bounds of the next byte, when one is lacking */
    uint8_t low, high;
};
/* False at the first byte that can't be right, and from then on. */
MUST_CHECK bool utf8_stream_feed(struct utf8_stream *stream, const uint8_t *bytes, size_t length);

#endif
