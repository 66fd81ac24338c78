/*
 * The reference's answer to a body that does not fit its model: 422 with every error, in pydantic v1's words:
 *   {"detail":[{"loc":["body","entries",0,"url"],"msg":"field required","type":"value_error.missing"},...]}
 * A place is pushed while its content is looked at; an error is reported for the place that is current.
 */
#ifndef OPALD_WORKER_HTTP_HTTP_VALIDATION_H
#define OPALD_WORKER_HTTP_HTTP_VALIDATION_H

#include <stdbool.h>
#include <stddef.h>
#include "worker/http/http_reply.h"

#define VALIDATION_PLACES_MAX 16
/* A body of a few MiB can hold a million errors: the reply stops here (the reference goes on). */
#define VALIDATION_ERRORS_MAX 1000

struct validation_place {
    /* static text; NULL: an index */
    const char *name;
    size_t index;
};

/* Zero-initialise; validation_free when done. */
struct validation {
    struct validation_place places[VALIDATION_PLACES_MAX];
    size_t depth;
    /* objects with commas between */
    struct text errors;
    size_t count;
    /* > 0: errors are not recorded (an alternative is tried out) */
    unsigned muted;
};

void validation_free(struct validation *validation);
void validation_enter(struct validation *validation, const char *name);
void validation_enter_item(struct validation *validation, size_t index);
void validation_leave(struct validation *validation);
/* Records an error at the current place. `context`: JSON text of "ctx" or NULL. Always returns false. */
bool validation_error(
    struct validation *validation, const char *message, const char *type, const char *context);
/* Sets 422 with everything recorded. */
void validation_reply(const struct validation *validation, struct http_reply *reply);

#endif
