#include "shm/common/percent.h"

#include <string.h>

void percent_decode(struct slice encoded, bool plus, struct text *out)
{
    for (size_t i = 0; i < encoded.length; i++) {
        char c = encoded.data[i];
        if (c == '%' && i + 2 < encoded.length) {
            int high = text_hex_value(encoded.data[i + 1]), low = text_hex_value(encoded.data[i + 2]);
            if (high >= 0 && low >= 0) {
                text_append_char(out, (char)(high * 16 + low));
                i += 2;
                continue;
            }
        }
        text_append_char(out, plus && c == '+' ? ' ' : c);
    }
}

void percent_encode(struct slice plain, const char *safe, struct text *out)
{
    for (size_t i = 0; i < plain.length; i++) {
        char c = plain.data[i];
        bool keep = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    (c != '\0' && (strchr("_.-~", c) || strchr(safe, c)));
        if (keep)
            text_append_char(out, c);
        else
            text_append_format(out, "%%%02X", (unsigned)(unsigned char)c);
    }
}

bool percent_next_pair(struct slice *query, bool plus, struct text *name, struct text *value)
{
    struct slice pair = {0};
    while (pair.length == 0 && query->length > 0) {
        const char *end = memchr(query->data, '&', query->length);
        pair = (struct slice){query->data, end ? (size_t)(end - query->data) : query->length};
        size_t taken = pair.length + (end != NULL);
        *query = (struct slice){query->data + taken, query->length - taken};
    }
    if (pair.length == 0)
        return false;
    const char *equals = memchr(pair.data, '=', pair.length);
    size_t name_length = equals ? (size_t)(equals - pair.data) : pair.length;
    text_clear(name);
    text_clear(value);
    percent_decode((struct slice){pair.data, name_length}, plus, name);
    if (equals)
        percent_decode((struct slice){equals + 1, pair.length - name_length - 1}, plus, value);
    return true;
}
