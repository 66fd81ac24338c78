/*
 * One request on its way through a handler: the request, its sender, the reply. It lives in the session, and
 * a handler sees it from the worker's loop only.
 */
#ifndef OPALD_WORKER_HTTP_HTTP_EXCHANGE_H
#define OPALD_WORKER_HTTP_HTTP_EXCHANGE_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/object.h"
#include "worker/http/http_reply.h"
#include "worker/http/http_request.h"
#include "worker/http/http_services.h"
#include "worker/jose/token.h"

#define HTTP_EXCHANGE_MAGIC UINT32_C(0x68747865)

struct http_exchange {
    uint32_t magic;
    const struct http_services *services;
    const struct http_request *request;
    /* "127.0.0.1:33210" */
    const char *peer;
    /* "http" or "https" */
    const char *scheme;
    struct http_reply reply;
    /* of the bearer token (http_gate.h); NULL in open mode and on open routes */
    struct token_claims *claims;

    /* ---- for a handler that answers HTTP_PENDING; `cancel` and `late` are NULL when it is called ---- */

    /* The handler's own: what it waits for. */
    uint64_t ticket;
    void *waiting;
    /*
     * Set by the handler. Called once if the reply is not wanted any more: `finished` must not be called
     * afterwards.
     */
    void (*cancel)(struct http_exchange *exchange);
    /*
     * Set by a handler that waits for the backbone no longer than OPAL_PUBLISH_WAIT_SECONDS; else NULL.
     * Called behind `cancel` when that time is over, or (`stopping`) when this server ends: sets the reply.
     */
    void (*late)(struct http_exchange *exchange, bool stopping);
    /* The session's: call it once, from the loop and not from within the handler, when the reply is set. */
    void (*finished)(struct http_exchange *exchange);
};

enum http_answer {
    /* the reply is set */
    HTTP_ANSWERED,
    /* the reply will be set later; `cancel` is set */
    HTTP_PENDING,
};

/* The exchange that a handler gave away as a `void *` (to a publish, to the bundle cache). */
static inline struct http_exchange *http_exchange_of(void *context)
{
    return object_cast(struct http_exchange, HTTP_EXCHANGE_MAGIC, context);
}

typedef enum http_answer http_handler(struct http_exchange *exchange);

#endif
