/*
 * The body of POST /token: {"id": uuid, "type": "client", "ttl": seconds or a duration, "claims": {...}}, all
 * optional, checked and coerced as the reference's model does. Pure.
 */
#ifndef OPALD_WORKER_API_TOKEN_REQUEST_H
#define OPALD_WORKER_API_TOKEN_REQUEST_H

#include <stdbool.h>
#include "shm/common/identity.h"
#include "worker/api/model.h"
#include "worker/http/http_validation.h"

/* members of "claims" */
#define TOKEN_CLAIMS_MAX 1000
/* What a time may be away from now: the reference's dates end with the year 9999. */
#define TOKEN_TTL_MAX_SECONDS 250000000000.0

/* Zero-initialise; token_request_free when done. */
struct token_request {
    uint32_t magic;
    struct identity id;
    /* static text */
    const char *type;
    /* seconds; may be negative */
    double ttl;
    /* a JSON object, compact */
    struct text claims;
    /* places start with "body" */
    struct validation validation;
};

/* False: see the validation. */
MUST_CHECK bool token_request_read(struct token_request *request, const struct json_document *document,
    unsigned max_depth, size_t max_tokens);
void token_request_free(struct token_request *request);

/* pydantic v1's timedelta of a string: "90", "1 02:00:00", "P1DT2H". False: not a duration. */
MUST_CHECK bool token_duration_parse(struct slice text, double *seconds);

#endif
