#include "worker/http/http_percent.h"

#include <string.h>

void http_percent_decode(struct slice encoded, bool plus, struct text *out)
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

void http_percent_encode(struct slice plain, const char *safe, struct text *out)
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
