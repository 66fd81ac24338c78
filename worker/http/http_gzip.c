#include "worker/http/http_gzip.h"

#include <string.h>
#include <zlib.h>

#define GZIP_WINDOW 31 /* zlib: 15 bits, with gzip's header */
/* JSON shrinks to a tenth at any level; this is several times faster than the default */
#define GZIP_LEVEL 1

/* Whether the parameters behind a coding give it the weight 0 ("q=0", "q=0.000"). */
static bool weight_is_zero(struct slice parameters)
{
    const char *q = NULL;
    for (size_t i = 0; i + 1 < parameters.length && !q; i++)
        if ((parameters.data[i] == 'q' || parameters.data[i] == 'Q') && parameters.data[i + 1] == '=')
            q = parameters.data + i + 2;
    if (!q)
        return false;
    for (const char *end = parameters.data + parameters.length; q < end; q++)
        if (*q >= '1' && *q <= '9')
            return false;
    return true;
}

/* 1: accepted, 0: refused, -1: not mentioned */
static int coding_verdict(struct slice header, const char *coding)
{
    size_t start = 0;
    int verdict = -1;
    for (size_t i = 0; i <= header.length; i++) {
        if (i < header.length && header.data[i] != ',')
            continue;
        struct slice item = {header.data + start, i - start};
        const char *semicolon = item.length ? memchr(item.data, ';', item.length) : NULL;
        size_t name = semicolon ? (size_t)(semicolon - item.data) : item.length;
        if (slice_equals_ignoring_case(slice_trim((struct slice){item.data, name}, TEXT_BLANKS), coding))
            verdict = !weight_is_zero((struct slice){item.data + name, item.length - name});
        start = i + 1;
    }
    return verdict;
}

bool http_gzip_accepted(const struct http_request *request)
{
    struct slice header = http_request_header(request, "accept-encoding");
    if (!header.data)
        return false;
    int named = coding_verdict(header, "gzip");
    return named >= 0 ? named == 1 : coding_verdict(header, "*") == 1;
}

bool gzip_compress(struct slice body, struct text *out)
{
    z_stream stream = {0};
    size_t before = out->length;
    if (body.length > UINT32_MAX ||
        deflateInit2(&stream, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return false;
    /* No room for more than it was: then it is not worth it. */
    stream.next_in = (Bytef *)(uintptr_t)body.data;
    stream.avail_in = (uInt)body.length;
    stream.next_out = (Bytef *)text_reserve(out, body.length + 1);
    stream.avail_out = (uInt)body.length;
    bool whole = deflate(&stream, Z_FINISH) == Z_STREAM_END;
    if (whole)
        out->length = before + stream.total_out;
    deflateEnd(&stream);
    return whole;
}

void http_gzip_use(struct http_reply *reply, struct slice compressed)
{
    text_clear(&reply->body);
    text_append_slice(&reply->body, compressed);
    http_reply_header(&reply->after, "content-encoding", SLICE_LITERAL("gzip"));
}

static bool is_compressible(const char *type)
{
    return type && (strncmp(type, "application/json", 16) == 0 || strncmp(type, "text/", 5) == 0);
}

void http_gzip_apply(
    const struct config *config, const struct http_request *request, struct http_reply *reply)
{
    size_t least = config->http_gzip_min_bytes;
    struct text compressed = {0};
    if (least == 0 || reply->status != 200 || reply->body.length < least ||
        !is_compressible(reply->content_type) ||
        (reply->after.data && strcasestr(reply->after.data, "content-encoding:")))
        return;
    if (reply->body.length <= HTTP_GZIP_MAX_BYTES && http_gzip_accepted(request) &&
        gzip_compress(text_slice(&reply->body), &compressed)) {
        http_gzip_use(reply, text_slice(&compressed));
        http_reply_header(&reply->after, "vary", SLICE_LITERAL("Accept-Encoding"));
    }
    text_free(&compressed);
}
