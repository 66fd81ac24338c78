/* An HTTP/1.1 request head and body, parsed by http-parser (the library) under limits. No socket, no I/O. */
#ifndef OPALD_WORKER_HTTP_HTTP_REQUEST_H
#define OPALD_WORKER_HTTP_HTTP_REQUEST_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/object.h"
#include "shm/common/text.h"

struct http_header {
    /* as sent; compare without case */
    struct slice name;
    /* optional white space trimmed */
    struct slice value;
};

/* Views are valid until the request is reset. */
struct http_request {
    /* "GET" */
    struct slice method;
    /* as sent: "/data/config?x=1" */
    struct slice target;
    /* percent-decoded, without the query */
    struct slice path;
    /* raw, without '?'; absent when there is none */
    struct slice query;
    /* the path came with OPAL_ROOT_PATH before it, which is taken away */
    bool under_root;
    /* HTTP/1.x */
    unsigned version_minor;
    const struct http_header *headers;
    size_t header_count;
    /* de-chunked */
    struct slice body;
    bool keep_alive;
    /* Connection: upgrade and Upgrade: websocket, and no body */
    bool upgrade_websocket;
};

/* First header of that name (any case); absent slice when there is none. */
struct slice http_request_header(const struct http_request *request, const char *name);
/* True when a comma-separated header holds the token (any case). */
bool http_request_header_has(const struct http_request *request, const char *name, const char *token);
/* The last header of that name (any case); absent slice when there is none. */
struct slice http_request_last_header(const struct http_request *request, const char *name);
/*
 * Asks for a websocket. Of several headers the last one counts, as in the reference; any method and version
 * (the handshake judges them).
 */
bool http_request_asks_websocket(const struct http_request *request);
/* Takes `root` (NULL or empty: none) away from the front of a path; true when it stood there. */
bool http_path_strip_root(struct slice *path, const char *root);
/* True when the comma-separated `list` holds the token (any case). */
bool http_list_has(struct slice list, const char *token);
/* Value of the first query parameter `name`, percent-decoded into `out` (appended); false when absent. */
MUST_CHECK bool http_request_query(const struct http_request *request, const char *name, struct text *out);

#endif
