#include "worker/http/http_reply.h"

#include <http_parser.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "shm/common/clock.h"

void http_reply_free(struct http_reply *reply)
{
    text_free(&reply->before);
    text_free(&reply->after);
    text_free(&reply->body);
    output_block_drop(reply->block);
    reply->block = NULL;
}

void http_reply_set(struct http_reply *reply, unsigned status, const char *content_type, struct slice body)
{
    reply->status = status;
    reply->content_type = content_type;
    text_clear(&reply->body);
    text_append_slice(&reply->body, body);
}

void http_reply_detail(struct http_reply *reply, unsigned status, const char *format, ...)
{
    char detail[512];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    http_reply_set(reply, status, HTTP_JSON, SLICE_LITERAL("{\"detail\":"));
    text_append_json_utf8(&reply->body, slice_from_string(detail));
    text_append_char(&reply->body, '}');
}

void http_reply_header(struct text *where, const char *name, struct slice value)
{
    text_append_string(where, name);
    text_append_string(where, ": ");
    text_append_slice(where, value);
    text_append_string(where, "\r\n");
}

/* Phrases as Python's http.HTTPStatus has them; http-parser's differ in one that is used here. */
static const char *reason_phrase(unsigned status)
{
    if (status == 413)
        return "Request Entity Too Large";
    return http_status_str((enum http_status)status);
}

void http_reply_write(const struct http_reply *reply, bool without_body, bool close, struct text *out)
{
    text_append_format(out, "HTTP/1.1 %u %s\r\ndate: %s\r\nserver: uvicorn\r\n", reply->status,
        reason_phrase(reply->status), clock_http_date());
    text_append_slice(out, text_slice(&reply->before));
    size_t length = reply->block ? output_block_bytes(reply->block).length : reply->body.length;
    if (reply->status != 304) /* RFC 9110 15.4.5: it would tell the length of what is not sent */
        text_append_format(out, "content-length: %zu\r\n", length);
    if (reply->content_type)
        text_append_format(out, "content-type: %s\r\n", reply->content_type);
    text_append_slice(out, text_slice(&reply->after));
    if (close)
        text_append_string(out, "connection: close\r\n");
    text_append_string(out, "\r\n");
    if (!without_body)
        text_append_slice(out, text_slice(&reply->body));
}
