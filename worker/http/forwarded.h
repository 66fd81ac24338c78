/*
 * X-Forwarded-For and X-Forwarded-Proto: for whom an HTTP load balancer passes a request on. They count only
 * when the peer is one of those in OPAL_FORWARDED_ALLOW_IPS (the caller has looked), and are read as
 * uvicorn's proxy headers are: each proxy appends the address it was asked from, so the client is the last
 * one that is not itself trusted; the first one when all are, or when everybody is ("*"). Pure: no socket, no
 * memory.
 */
#ifndef OPALD_WORKER_HTTP_FORWARDED_H
#define OPALD_WORKER_HTTP_FORWARDED_H

#include <stdint.h>
#include "shm/common/network.h"
#include "shm/common/object.h"
#include "worker/http/http_request.h"

#define FORWARDED_HOST_TEXT 64 /* room for what a proxy calls its client, with its NUL */

struct forwarded_client {
    /* usually an address; also such as "unknown". Letters, digits and . : _ - [ ] % alone */
    char host[FORWARDED_HOST_TEXT];
    /* 0: not told, as with most proxies */
    uint16_t port;
};

enum forwarded_result {
    /* no header, or an empty place in it: the peer's address holds */
    FORWARDED_NONE,
    FORWARDED_TAKEN,
    /* the peer's address holds; `wrong` says why, in a few words */
    FORWARDED_REFUSED,
};

/* `most`: addresses that all X-Forwarded-For headers of a request may name together. */
MUST_CHECK enum forwarded_result forwarded_find_client(const struct http_request *request,
    const struct network_list *trusted, size_t most, struct forwarded_client *client, const char **wrong);

/* What X-Forwarded-Proto says: "http", "https", "ws" or "wss"; NULL when it is none of these. */
const char *forwarded_find_scheme(const struct http_request *request);

#endif
