/*
 * What must be beyond doubt in a request head: two HTTP implementations that disagree about where a request
 * ends let an attacker smuggle one behind it (RFC 9112 11.2). Pure.
 */
#ifndef OPALD_WORKER_HTTP_HTTP_FRAMING_H
#define OPALD_WORKER_HTTP_HTTP_FRAMING_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/object.h"
#include "worker/http/http_request.h"

struct http_framing {
    /* The body is chunked, or */
    bool chunked;
    /* has a content-length; else there is none. */
    bool has_length;
    /* as http-parser read it */
    uint64_t length;
};

/*
 * Checks the headers and reads how the body is framed (all but `length`). NULL: all is well; else the reason
 * for a 400, static text. Refused: names and values that are none; several Content-Length, Host or
 * Authorization; HTTP/1.1 without Host; any Transfer-Encoding but a single "chunked"; Transfer-Encoding
 * together with Content-Length or in HTTP/1.0.
 */
MUST_CHECK const char *http_framing_read(const struct http_request *request, struct http_framing *framing);

/*
 * Checks the request line in its first bytes, `line`, which a CR ends: one space on either side of the
 * target, HTTP/1.0 or 1.1, no character that belongs in no target. The request's method and target must be
 * set. NULL, or the reason.
 */
MUST_CHECK const char *http_framing_check_line(const struct http_request *request, const char *line);

#endif
