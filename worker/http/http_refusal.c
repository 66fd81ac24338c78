#include "worker/http/http_refusal.h"

#include <inttypes.h>

void http_refusal_reply(
    struct http_reply *reply, enum http_reader_failure failure, const struct config *config)
{
    switch (failure) {
    case HTTP_FAILURE_HEADER_BYTES:
        http_reply_detail(
            reply, 431, "request head too long (limit %" PRId64 " bytes)", config->http_header_max_bytes);
        break;
    case HTTP_FAILURE_HEADER_COUNT:
        http_reply_detail(reply, 431, "too many headers (limit %" PRId64 ")", config->http_header_max_count);
        break;
    case HTTP_FAILURE_BODY_BYTES:
        http_reply_detail(
            reply, 413, "request body too large (limit %" PRId64 " bytes)", config->http_body_max_bytes);
        break;
    case HTTP_FAILURE_NONE:
    case HTTP_FAILURE_SYNTAX:
        /* the content type first: uvicorn's own order for its own 400 */
        http_reply_header(&reply->before, "content-type", SLICE_LITERAL(HTTP_TEXT));
        http_reply_set(reply, 400, NULL, SLICE_LITERAL("Invalid HTTP request received."));
        break;
    }
}
