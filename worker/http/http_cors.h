/*
 * Cross-origin headers as the reference's middleware adds them: any method, any header, credentials allowed.
 */
#ifndef OPALD_WORKER_HTTP_HTTP_CORS_H
#define OPALD_WORKER_HTTP_HTTP_CORS_H

#include <stdbool.h>
#include "shm/common/config.h"
#include "worker/http/http_reply.h"
#include "worker/http/http_request.h"

/* OPTIONS with Origin and Access-Control-Request-Method: answered alike on every path. */
bool http_cors_is_preflight(const struct http_request *request);
void http_cors_preflight(
    const struct config *config, const struct http_request *request, struct http_reply *reply);
/*
 * Adds the headers of a plain cross-origin request to a reply that is otherwise finished (nothing to the
 * reply to a preflight).
 */
void http_cors_decorate(
    const struct config *config, const struct http_request *request, struct http_reply *reply);

#endif
