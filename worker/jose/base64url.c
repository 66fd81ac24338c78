#include "worker/jose/base64url.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int digit_value(char digit)
{
    if (digit >= 'A' && digit <= 'Z')
        return digit - 'A';
    if (digit >= 'a' && digit <= 'z')
        return digit - 'a' + 26;
    if (digit >= '0' && digit <= '9')
        return digit - '0' + 52;
    return digit == '-' ? 62 : digit == '_' ? 63 : -1;
}

bool base64url_decode(struct slice encoded, struct text *out)
{
    size_t length = encoded.length;
    while (length && encoded.length - length < 3 && encoded.data[length - 1] == '=')
        length--;
    size_t padding = encoded.length - length;
    if (padding > 2 || (padding && encoded.length % 4) || length % 4 == 1)
        return false;
    char *to = text_reserve(out, length / 4 * 3 + 3);
    size_t made = 0;
    unsigned bits = 0, held = 0;
    for (size_t i = 0; i < length; i++) {
        int value = digit_value(encoded.data[i]);
        if (value < 0)
            return false;
        held = held << 6 | (unsigned)value;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            to[made++] = (char)(held >> bits);
            held &= (1u << bits) - 1;
        }
    }
    if (held)
        return false; /* another text would decode to the same bytes */
    out->length += made;
    out->data[out->length] = '\0';
    return true;
}

void base64url_encode(const void *bytes, size_t length, struct text *out)
{
    const unsigned char *from = bytes;
    char *to = text_reserve(out, length / 3 * 4 + 4);
    size_t made = 0;
    unsigned bits = 0, held = 0;
    for (size_t i = 0; i < length; i++) {
        held = held << 8 | from[i];
        for (bits += 8; bits >= 6; held &= (1u << bits) - 1) {
            bits -= 6;
            to[made++] = alphabet[held >> bits & 63];
        }
    }
    if (bits)
        to[made++] = alphabet[held << (6 - bits) & 63];
    out->length += made;
    out->data[out->length] = '\0';
}
