#include "worker/http/http_chunked.h"

enum {
    /* the first digit, or a further one */
    SIZE,
    /* behind ';' */
    EXTENSION,
    /* LF behind the size line's CR */
    SIZE_LF,
    DATA,
    /* CRLF behind the data */
    DATA_CR,
    DATA_LF,
    /* at the start of a trailer line, or of the empty one */
    TRAILER_START,
    TRAILER,
    TRAILER_LF,
    /* of the empty line */
    LAST_LF,
};

/* 16 TiB: far above any limit on bodies, far below an overflow. */
#define SIZE_DIGITS_MAX 11

static bool is_line_byte(char c)
{
    return c == '\t' || ((unsigned char)c >= ' ' && c != 0x7f);
}

/* One byte outside the data. False: refused. */
static bool step(struct http_chunked *chunked, char c)
{
    switch (chunked->state) {
    case SIZE: {
        int digit = text_hex_value(c);
        if (digit >= 0) {
            chunked->left = chunked->left * 16 + (unsigned)digit;
            return ++chunked->digits <= SIZE_DIGITS_MAX;
        }
        chunked->state = c == ';' ? EXTENSION : SIZE_LF;
        return chunked->digits > 0 && (c == ';' || c == '\r');
    }
    case EXTENSION:
        if (c == '\r')
            chunked->state = SIZE_LF;
        chunked->passed++;
        return c == '\r' || is_line_byte(c);
    case SIZE_LF:
        chunked->state = chunked->left ? DATA : TRAILER_START;
        chunked->digits = 0;
        return c == '\n';
    case DATA_CR:
        chunked->state = DATA_LF;
        return c == '\r';
    case DATA_LF:
        chunked->state = SIZE;
        return c == '\n';
    case TRAILER_START:
        if (c == '\r') {
            chunked->state = LAST_LF;
            return true;
        }
        chunked->state = TRAILER;
        chunked->passed++;
        return c != ' ' && is_line_byte(c);
    case TRAILER:
        if (c == '\r')
            chunked->state = TRAILER_LF;
        chunked->passed++;
        return c == '\r' || is_line_byte(c);
    case TRAILER_LF:
        chunked->state = TRAILER_START;
        return c == '\n';
    default:
        return false;
    }
}

enum http_chunked_event http_chunked_feed(struct http_chunked *chunked, const char *bytes, size_t length,
    uint64_t passed_max, size_t *used, struct slice *piece)
{
    *used = 0;
    while (*used < length) {
        if (chunked->state == DATA) {
            size_t rest = length - *used;
            size_t take = rest < chunked->left ? rest : (size_t)chunked->left;
            *piece = (struct slice){bytes + *used, take};
            *used += take;
            chunked->left -= take;
            if (chunked->left == 0)
                chunked->state = DATA_CR;
            return HTTP_CHUNKED_DATA;
        }
        char c = bytes[(*used)++];
        if (chunked->state == LAST_LF)
            return c == '\n' ? HTTP_CHUNKED_END : HTTP_CHUNKED_ERROR;
        if (!step(chunked, c) || chunked->passed > passed_max)
            return HTTP_CHUNKED_ERROR;
    }
    return HTTP_CHUNKED_MORE;
}
