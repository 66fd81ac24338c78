/*
 * UTF-8 as a stream. The state is the lead byte of the character under way with the number of bytes that are
 * still to come, folded into one small number, so that a text may be cut anywhere between two reads or
 * fragments.
 */
#include "worker/websocket/websocket_frame.h"

#include <string.h>

/* What the next byte must be. */
enum utf8_state {
    UTF8_START,    /* a lead byte */
    UTF8_ONE,      /* 80..BF, then START */
    UTF8_TWO,      /* 80..BF, then ONE */
    UTF8_THREE,    /* 80..BF, then TWO */
    UTF8_AFTER_E0, /* A0..BF (no overlong), then ONE */
    UTF8_AFTER_ED, /* 80..9F (no surrogates), then ONE */
    UTF8_AFTER_F0, /* 90..BF (no overlong), then TWO */
    UTF8_AFTER_F4, /* 80..8F (not above U+10FFFF), then TWO */
    UTF8_BROKEN,
};

static uint8_t utf8_lead(uint8_t byte)
{
    if (byte < 0x80)
        return UTF8_START;
    if (byte < 0xc2)
        return UTF8_BROKEN;
    if (byte < 0xe0)
        return UTF8_ONE;
    if (byte == 0xe0)
        return UTF8_AFTER_E0;
    if (byte == 0xed)
        return UTF8_AFTER_ED;
    if (byte < 0xf0)
        return UTF8_TWO;
    if (byte == 0xf0)
        return UTF8_AFTER_F0;
    if (byte < 0xf4)
        return UTF8_THREE;
    return byte == 0xf4 ? UTF8_AFTER_F4 : UTF8_BROKEN;
}

static uint8_t utf8_follow(uint8_t state, uint8_t byte)
{
    static const struct {
        uint8_t low, high, next;
    } rules[] = {
        [UTF8_ONE] = {0x80, 0xbf, UTF8_START},
        [UTF8_TWO] = {0x80, 0xbf, UTF8_ONE},
        [UTF8_THREE] = {0x80, 0xbf, UTF8_TWO},
        [UTF8_AFTER_E0] = {0xa0, 0xbf, UTF8_ONE},
        [UTF8_AFTER_ED] = {0x80, 0x9f, UTF8_ONE},
        [UTF8_AFTER_F0] = {0x90, 0xbf, UTF8_TWO},
        [UTF8_AFTER_F4] = {0x80, 0x8f, UTF8_TWO},
    };
    if (byte < rules[state].low || byte > rules[state].high)
        return UTF8_BROKEN;
    return rules[state].next;
}

bool websocket_utf8_feed(uint8_t *state, const uint8_t *bytes, size_t length)
{
    uint8_t now = *state;
    if (now == UTF8_BROKEN)
        return false;
    for (size_t i = 0; i < length;) {
        if (now == UTF8_START) {
            uint64_t word;
            while (i + sizeof(word) <= length) {
                memcpy(&word, bytes + i, sizeof(word));
                if (word & UINT64_C(0x8080808080808080))
                    break;
                i += sizeof(word);
            }
            if (i == length)
                break;
            now = utf8_lead(bytes[i++]);
        } else {
            now = utf8_follow(now, bytes[i++]);
        }
        if (now == UTF8_BROKEN) {
            *state = now;
            return false;
        }
    }
    *state = now;
    return true;
}
