/*
 * Turns a byte stream into requests, one at a time: bytes in, state out, no descriptor. The grammar is
 * http-parser's (the library). This adds what the library leaves to its user: limits, and the refusal of
 * everything on which two HTTP implementations could disagree about where a request ends (http_framing.h).
 *
 * A body is either collected or thrown away as it comes. A reader that waits for its next request holds no
 * buffer.
 */
#ifndef OPALD_WORKER_HTTP_HTTP_READER_H
#define OPALD_WORKER_HTTP_HTTP_READER_H

#include <stdbool.h>
#include <stddef.h>
#include "shm/common/object.h"
#include "worker/http/http_request.h"

struct http_reader;

struct http_reader_limits {
    /* request line and headers with their line ends */
    size_t header_max_bytes;
    size_t header_max_count;
    /* after de-chunking; also for a body that is thrown away */
    size_t body_max_bytes;
    /* taken away from the front of paths; NULL or empty: none */
    const char *root_path;
};

enum http_reader_event {
    /* everything was taken; give more */
    HTTP_READER_MORE,
    /* the head is whole: say what to do with the body, then feed on (the body may be empty) */
    HTTP_READER_HEAD,
    /* the request is whole; http_reader_next before feeding on */
    HTTP_READER_MESSAGE,
    /* see http_reader_failure; the reader can only be freed */
    HTTP_READER_FAILED,
};

enum http_reader_failure {
    HTTP_FAILURE_NONE,
    /* 400 */
    HTTP_FAILURE_SYNTAX,
    /* 431 */
    HTTP_FAILURE_HEADER_BYTES,
    /* 431 */
    HTTP_FAILURE_HEADER_COUNT,
    /* 413; may come before HTTP_READER_HEAD, from content-length alone */
    HTTP_FAILURE_BODY_BYTES,
};

struct http_reader *http_reader_make(const struct http_reader_limits *limits);
/* Bytes held of the request in hand: head and body. */
size_t http_reader_held(const struct http_reader *reader);
void http_reader_free(struct http_reader *reader);
/*
 * Takes bytes up to the next event; `*used` says how many. Call again with the rest (also when it is empty:
 * after HTTP_READER_HEAD the message of a request without a body is reported without any further byte).
 */
MUST_CHECK enum http_reader_event http_reader_feed(
    struct http_reader *reader, const char *bytes, size_t length, size_t *used);
/* Valid from HTTP_READER_HEAD to http_reader_next; `body` from HTTP_READER_MESSAGE on. */
const struct http_request *http_reader_request(const struct http_reader *reader);
/* After HTTP_READER_HEAD: collect the body (the default is to throw it away). */
void http_reader_keep_body(struct http_reader *reader);
/* After HTTP_READER_HEAD: a body follows, or may follow. */
bool http_reader_has_body(const struct http_reader *reader);
/* The client waits for "100 Continue" (RFC 9110 10.1.1). */
bool http_reader_expects_continue(const struct http_reader *reader);
/* Some byte of a head has come in and the head is not whole yet. */
bool http_reader_in_head(const struct http_reader *reader);
/* Ready for the next request; gives the memory of the last one back. */
void http_reader_next(struct http_reader *reader);
enum http_reader_failure http_reader_failure(const struct http_reader *reader);
/* What was wrong, for the log; static text. */
const char *http_reader_failure_reason(const struct http_reader *reader);

#endif
