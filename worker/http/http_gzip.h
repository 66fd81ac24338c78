/*
 * gzip for bodies that are worth it, and only for a client that asks for it (Accept-Encoding, RFC 9110
 * 12.5.3). Compressing on the spot is bounded: a body above HTTP_GZIP_MAX_BYTES would hold up the loop and
 * goes out as it is, unless somebody compressed it before (`gzip_compress`, once for all who ask) and gives
 * it to the reply with http_gzip_use.
 */
#ifndef OPALD_WORKER_HTTP_HTTP_GZIP_H
#define OPALD_WORKER_HTTP_HTTP_GZIP_H

#include <stdbool.h>
#include "shm/common/config.h"
#include "shm/common/object.h"
#include "worker/http/http_reply.h"
#include "worker/http/http_request.h"

#define HTTP_GZIP_MAX_BYTES (1024 * 1024)

/* True when the client accepts gzip: named, or by *, with a weight above 0. */
bool http_gzip_accepted(const struct http_request *request);
/*
 * Appends the gzip form of `body`. False when it could not be made or is no shorter; `out` is then as it was.
 * Any process.
 */
MUST_CHECK bool gzip_compress(struct slice body, struct text *out);
/* The reply's body becomes this gzip form of it (copied), with the headers that say so. */
void http_gzip_use(struct http_reply *reply, struct slice compressed);
/*
 * Compresses a finished 200 reply when the configuration, the request, the body's type and its size say so.
 */
void http_gzip_apply(
    const struct config *config, const struct http_request *request, struct http_reply *reply);

#endif
