/* One request on its way through a handler: what came, who asked, what is answered. Lives in the session. */
#ifndef OPALD_WORKER_HTTP_HTTP_EXCHANGE_H
#define OPALD_WORKER_HTTP_HTTP_EXCHANGE_H

#include <stdbool.h>
#include <stdint.h>
#include "worker/jose/token.h"
#include "worker/http/http_reply.h"
#include "worker/http/http_session.h"

struct http_exchange {
    const struct http_services *services;
    const struct http_request *request;
    const char *peer;   /* "127.0.0.1:33210" */
    const char *scheme; /* "http", "https" */
    struct http_reply reply;
    struct token_claims *claims; /* of the bearer token (http_gate.h); NULL in open mode and on open routes */
    uint64_t ticket;             /* of the publish that a pending exchange waits for */
    bool waits_backbone;         /* ... and for the backbone's acknowledgement of it */
    /* For a handler that answered HTTP_PENDING and waits for something else than a publish: called instead of publisher_cancel when the
     * connection goes away. Set by the handler, taken back by it before `finished`. */
    void (*cancel)(struct http_exchange *exchange);
    void *waiting; /* the handler's own, for `cancel` */
    /* For a handler that answered HTTP_PENDING: call once, from the loop, when the reply is set. */
    void (*finished)(struct http_exchange *exchange);
};

enum http_answer {
    HTTP_ANSWERED, /* the reply is set */
    HTTP_PENDING, /* a publish (or, with `cancel` set, something else) is under way with the exchange as its context */
};

typedef enum http_answer http_handler(struct http_exchange *exchange);

/* ---- the handlers that are more than a constant ---- */
http_handler data_sources_get; /* GET data_config_route */
http_handler data_update_post; /* POST data_config_route */
/* Sets the reply of an update that the backbone did not acknowledge in time, or before this server stops; its publish was cancelled. */
void data_update_late(struct http_exchange *exchange, bool stopping);
http_handler data_all_get;         /* GET all_data_route */
http_handler callback_report_post; /* POST data_callback_default_route */
http_handler token_post;           /* POST /token */
http_handler bundle_get;           /* GET /policy */
http_handler webhook_post;         /* POST /webhook */
http_handler metrics_get;          /* GET /metrics */
http_handler client_info_get;      /* GET /pubsub_client_info */
http_handler statistics_get;       /* GET /statistics */
http_handler stats_get;            /* GET /stats */
http_handler load_limit_get;       /* GET /loadlimit */
http_handler docs_openapi_get;     /* GET /openapi.json */
http_handler docs_page_get;        /* GET /docs, /redoc */

/* What the two above serve; made once a worker. */
struct http_docs *http_docs_make(const struct config *config);
void http_docs_free(struct http_docs *docs);

#endif
