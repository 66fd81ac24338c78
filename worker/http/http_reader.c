/* The head is http_head.c's; bodies do not go through http-parser at all. */
#include "worker/http/http_reader.h"

#include <stdlib.h>

#include "shm/common/memory.h"
#include "worker/http/http_chunked.h"
#include "worker/http/http_head.h"

enum reader_phase { PHASE_HEAD, PHASE_HEAD_DONE, PHASE_BODY, PHASE_MESSAGE, PHASE_FAILED };

struct http_reader {
    enum reader_phase phase;
    struct http_reader_limits limits;
    enum http_reader_failure failure;
    const char *reason;
    struct http_head head;
    struct http_chunked chunks;
    /* of a body with a content-length */
    uint64_t body_left;
    uint64_t body_bytes;
    bool keep_body;
    bool expects_continue;
    struct text body;
};

static enum http_reader_event reader_fail(
    struct http_reader *reader, enum http_reader_failure failure, const char *reason)
{
    reader->phase = PHASE_FAILED;
    reader->failure = failure;
    reader->reason = reason;
    return HTTP_READER_FAILED;
}

/* ---- life ---- */

struct http_reader *http_reader_make(const struct http_reader_limits *limits)
{
    struct http_reader *reader = memory_allocate(sizeof *reader);
    reader->limits = *limits;
    if (reader->limits.header_max_bytes > UINT32_MAX / 4)
        reader->limits.header_max_bytes = UINT32_MAX / 4; /* the parser's own count is 32 bits wide */
    /* A global of the library, never below ours. */
    http_parser_set_max_header_size((uint32_t)reader->limits.header_max_bytes);
    http_head_start(&reader->head, &reader->limits);
    return reader;
}

size_t http_reader_held(const struct http_reader *reader)
{
    return reader->head.bytes.capacity + reader->body.capacity;
}

void http_reader_free(struct http_reader *reader)
{
    if (!reader)
        return;
    http_head_free(&reader->head);
    text_free(&reader->body);
    free(reader);
}

void http_reader_next(struct http_reader *reader)
{
    http_head_start(&reader->head, &reader->limits);
    text_free(&reader->body);
    reader->phase = PHASE_HEAD;
    reader->chunks = (struct http_chunked){0};
    reader->body_left = 0;
    reader->body_bytes = 0;
    reader->keep_body = false;
    reader->expects_continue = false;
}

/* ---- the head ---- */

static enum http_reader_event reader_finish_head(struct http_reader *reader)
{
    struct http_request *request = &reader->head.request;
    reader->body_left = reader->head.framing.length;
    if (reader->body_left > reader->limits.body_max_bytes)
        return reader_fail(reader, HTTP_FAILURE_BODY_BYTES, "content-length above the limit");
    bool has_body = http_reader_has_body(reader);
    request->upgrade_websocket = !has_body && http_request_asks_websocket(request);
    reader->expects_continue =
        has_body && request->version_minor >= 1 && http_request_header_has(request, "expect", "100-continue");
    reader->phase = PHASE_HEAD_DONE;
    return HTTP_READER_HEAD;
}

static enum http_reader_event feed_head(
    struct http_reader *reader, const char *bytes, size_t length, size_t *used)
{
    switch (http_head_feed(&reader->head, bytes, length, used)) {
    case HTTP_HEAD_MORE:
        break;
    case HTTP_HEAD_WHOLE:
        return reader_finish_head(reader);
    case HTTP_HEAD_FAILED:
        return reader_fail(reader, reader->head.failure, reader->head.reason);
    }
    return HTTP_READER_MORE;
}

/* ---- the body ---- */

static bool take_body(struct http_reader *reader, struct slice piece)
{
    if (piece.length > reader->limits.body_max_bytes - reader->body_bytes)
        return false;
    reader->body_bytes += piece.length;
    if (reader->keep_body)
        text_append_slice(&reader->body, piece);
    return true;
}

static enum http_reader_event reader_finish_message(struct http_reader *reader)
{
    reader->head.request.body = text_slice(&reader->body);
    reader->phase = PHASE_MESSAGE;
    return HTTP_READER_MESSAGE;
}

static enum http_reader_event feed_sized(
    struct http_reader *reader, const char *bytes, size_t length, size_t *used)
{
    size_t take = length < reader->body_left ? length : (size_t)reader->body_left;
    *used = take;
    reader->body_left -= take;
    if (!take_body(reader, (struct slice){bytes, take}))
        return reader_fail(reader, HTTP_FAILURE_BODY_BYTES, "body too large");
    return reader->body_left ? HTTP_READER_MORE : reader_finish_message(reader);
}

static enum http_reader_event feed_chunked(
    struct http_reader *reader, const char *bytes, size_t length, size_t *used)
{
    *used = 0;
    for (;;) {
        size_t step;
        struct slice piece;
        enum http_chunked_event event = http_chunked_feed(
            &reader->chunks, bytes + *used, length - *used, reader->limits.header_max_bytes, &step, &piece);
        *used += step;
        switch (event) {
        case HTTP_CHUNKED_MORE:
            return HTTP_READER_MORE;
        case HTTP_CHUNKED_DATA:
            if (!take_body(reader, piece))
                return reader_fail(reader, HTTP_FAILURE_BODY_BYTES, "body too large");
            break;
        case HTTP_CHUNKED_END:
            return reader_finish_message(reader);
        case HTTP_CHUNKED_ERROR:
            return reader_fail(reader, HTTP_FAILURE_SYNTAX, "wrong chunk");
        }
    }
}

enum http_reader_event http_reader_feed(
    struct http_reader *reader, const char *bytes, size_t length, size_t *used)
{
    *used = 0;
    switch (reader->phase) {
    case PHASE_HEAD:
        return length ? feed_head(reader, bytes, length, used) : HTTP_READER_MORE;
    case PHASE_HEAD_DONE:
        reader->phase = PHASE_BODY;
        return http_reader_feed(reader, bytes, length, used);
    case PHASE_BODY:
        return (reader->head.framing.chunked ? feed_chunked : feed_sized)(reader, bytes, length, used);
    case PHASE_MESSAGE:
    case PHASE_FAILED:
        break;
    }
    return reader->phase == PHASE_MESSAGE ? HTTP_READER_MESSAGE : HTTP_READER_FAILED;
}

/* ---- questions ---- */

const struct http_request *http_reader_request(const struct http_reader *reader)
{
    return &reader->head.request;
}

void http_reader_keep_body(struct http_reader *reader)
{
    reader->keep_body = true;
}

bool http_reader_has_body(const struct http_reader *reader)
{
    return reader->head.framing.chunked || reader->body_left > 0;
}

bool http_reader_expects_continue(const struct http_reader *reader)
{
    return reader->expects_continue;
}

bool http_reader_in_head(const struct http_reader *reader)
{
    return reader->phase == PHASE_HEAD && reader->head.bytes.length > 0;
}

enum http_reader_failure http_reader_failure(const struct http_reader *reader)
{
    return reader->failure;
}

const char *http_reader_failure_reason(const struct http_reader *reader)
{
    return reader->reason ? reader->reason : "";
}
