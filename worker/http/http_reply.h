/*
 * A reply as uvicorn writes it: status line, `date`, `server`, then the application's headers. The order is
 * kept to the byte:
 *   before | content-length | content-type | after | connection: close
 * (most replies have nothing in `before`; the reference puts retry-after and allow there, location and CORS
 * in `after`).
 */
#ifndef OPALD_WORKER_HTTP_HTTP_REPLY_H
#define OPALD_WORKER_HTTP_HTTP_REPLY_H

#include <stdbool.h>
#include "shm/common/text.h"
#include "worker/net/output_queue.h"

#define HTTP_JSON "application/json"
#define HTTP_TEXT "text/plain; charset=utf-8"

/* Zero-initialise; http_reply_free when done. */
struct http_reply {
    unsigned status;
    /* static text; NULL: none is written */
    const char *content_type;
    /* whole header lines with CRLF */
    struct text before;
    struct text after;
    struct text body;
    /* NULL, or the body instead of `body`, sent from where it lies; the reply's reference */
    struct output_block *block;
};

void http_reply_free(struct http_reply *reply);
/* Sets status, content type and the whole body. */
void http_reply_set(struct http_reply *reply, unsigned status, const char *content_type, struct slice body);
/* {"detail":"..."} with the formatted text escaped. */
void http_reply_detail(struct http_reply *reply, unsigned status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Appends one header line. `value` comes from a parsed head or from us: it has no line ends. */
void http_reply_header(struct text *where, const char *name, struct slice value);
/* Appends the bytes of the reply, but for a block; `without_body` for HEAD (content-length stays). */
void http_reply_write(const struct http_reply *reply, bool without_body, bool close, struct text *out);

#endif
