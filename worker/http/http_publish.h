/* A publish by a handler: the exchange waits for it. */
#ifndef OPALD_WORKER_HTTP_HTTP_PUBLISH_H
#define OPALD_WORKER_HTTP_HTTP_PUBLISH_H

#include "shm/common/object.h"
#include "shm/link/publisher.h"
#include "worker/http/http_exchange.h"

/*
 * Hands the request to the publisher. PUBLISH_ORDERED: it is under way, `request->done` will be called, and
 * the handler must answer HTTP_PENDING (`cancel` is set). Any other outcome: it was not published, `done` is
 * never called.
 */
MUST_CHECK enum publish_outcome http_publish(
    struct http_exchange *exchange, const struct publish_request *request);

#endif
