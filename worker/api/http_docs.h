/* GET /openapi.json, /docs and /redoc: the description of the API, and a page that shows it. */
#ifndef OPALD_WORKER_API_HTTP_DOCS_H
#define OPALD_WORKER_API_HTTP_DOCS_H

#include "worker/http/http_exchange.h"

struct http_docs;

/* What the routes serve, with the configured paths in it. Owned by the caller; one per worker. */
struct http_docs *http_docs_make(const struct config *config);
/* NULL is fine. */
void http_docs_free(struct http_docs *docs);

/* GET /openapi.json */
http_handler docs_openapi_get;
/* GET /docs, /redoc */
http_handler docs_page_get;

#endif
