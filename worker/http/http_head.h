/*
 * A request head: bytes in, a checked struct http_request out. Part of the reader (http_reader.h), which
 * alone uses it. Pure.
 *
 * http-parser (the library) reads the grammar. Where a head ends is found byte by byte before the library
 * sees it: it must never get bytes of a body together with a head, because offsets would be lost, and it
 * accepts bare LF and folded lines, which are refused here. Debian builds it without its strict mode: request
 * line and headers are checked again when the head is whole (http_framing.h).
 *
 * The head is collected in one buffer; a header is an offset into it until the head is whole.
 */
#ifndef OPALD_WORKER_HTTP_HTTP_HEAD_H
#define OPALD_WORKER_HTTP_HTTP_HEAD_H

#include <stdbool.h>
#include <stdint.h>
#include <http_parser.h>
#include "shm/common/object.h"
#include "worker/http/http_framing.h"
#include "worker/http/http_reader.h"

enum http_head_event {
    /* all bytes were taken; give more */
    HTTP_HEAD_MORE,
    /* the request is there, but for its body */
    HTTP_HEAD_WHOLE,
    /* see `failure` and `reason` */
    HTTP_HEAD_FAILED,
};

struct http_head_extent {
    uint32_t start;
    uint32_t length;
};

struct http_head_field {
    struct http_head_extent name;
    struct http_head_extent value;
};

/* http_head_start before use; the owner may read what stands before 'private'. */
struct http_head {
    uint32_t magic;
    /* valid until http_head_start or http_head_free */
    struct http_request request;
    struct http_framing framing;
    enum http_reader_failure failure;
    /* static text */
    const char *reason;

    /* ---- private ---- */
    const struct http_reader_limits *limits;
    http_parser parser;
    unsigned scan;
    unsigned empty_lines;
    size_t header_lines;
    /* the parser said so */
    bool complete;
    bool last_was_value;
    /* all that came */
    struct text bytes;
    struct http_head_extent target;
    struct http_head_field *fields;
    size_t field_count;
    size_t field_capacity;
    /* the same as slices, once the head is whole */
    struct http_header *headers;
    /* decoded, only when the target has a percent sign */
    struct text path;
};

/*
 * Ready for a head; frees what the last one held (zero-initialise before the first time). `limits` must
 * outlive it.
 */
void http_head_start(struct http_head *head, const struct http_reader_limits *limits);
void http_head_free(struct http_head *head);
/* Takes bytes up to the end of the head; `*used` says how many. */
MUST_CHECK enum http_head_event http_head_feed(
    struct http_head *head, const char *bytes, size_t length, size_t *used);

#endif
