/* The answer to a request that the reader gave up: 400, 413 or 431. Pure. */
#ifndef OPALD_WORKER_HTTP_HTTP_REFUSAL_H
#define OPALD_WORKER_HTTP_HTTP_REFUSAL_H

#include "shm/common/config.h"
#include "worker/http/http_reader.h"
#include "worker/http/http_reply.h"

void http_refusal_reply(
    struct http_reply *reply, enum http_reader_failure failure, const struct config *config);

#endif
