/*
 * The chunked transfer coding (RFC 9112 7.1), strict: CRLF and nothing else ends a line, a size is hex digits
 * and nothing else, extensions and trailers are passed over under a limit. (http-parser, as Debian builds it,
 * takes any two bytes for the line end behind a chunk, and bare line feeds in an extension: two readers of
 * one stream could then see different requests.) Pure: bytes in, pieces of the body out.
 */
#ifndef OPALD_WORKER_HTTP_HTTP_CHUNKED_H
#define OPALD_WORKER_HTTP_HTTP_CHUNKED_H

#include <stdint.h>
#include "shm/common/object.h"
#include "shm/common/text.h"

/* Zero-initialised it stands before the first chunk. */
struct http_chunked {
    uint8_t state;
    uint8_t digits;
    /* of the chunk */
    uint64_t left;
    /* bytes of extensions and trailers so far */
    uint64_t passed;
};

enum http_chunked_event {
    HTTP_CHUNKED_MORE,
    /* `piece` is set; feed on with the rest */
    HTTP_CHUNKED_DATA,
    /* what follows is no part of the body */
    HTTP_CHUNKED_END,
    HTTP_CHUNKED_ERROR,
};

/*
 * Takes bytes up to the next event; `*used` says how many. `passed_max`: of extensions and trailers, for the
 * whole body.
 */
MUST_CHECK enum http_chunked_event http_chunked_feed(struct http_chunked *chunked, const char *bytes,
    size_t length, uint64_t passed_max, size_t *used, struct slice *piece);

#endif
