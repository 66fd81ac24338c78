/* A JSON body as the reference's framework takes it. */
#ifndef OPALD_WORKER_HTTP_HTTP_BODY_H
#define OPALD_WORKER_HTTP_HTTP_BODY_H

#include "shm/common/json.h"
#include "shm/common/object.h"
#include "worker/http/http_exchange.h"

/*
 * True: `document` holds the body's value, which is not null. False: the reply is set (malformed JSON, over
 * the limits, missing body, a content type that is not JSON). The document is the caller's to free in both
 * cases; its text is the request's body.
 */
MUST_CHECK bool http_body_parse(struct http_exchange *exchange, struct json_document *document);

#endif
