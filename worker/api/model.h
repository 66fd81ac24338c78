/*
 * Models: what the reference declares with pydantic v1, as tables. One pass checks a JSON value against a
 * model, coerces it as pydantic does, and writes it again with every field in the model's order, defaults
 * filled in. Values of type Any pass through as the bytes they came as (for HTTP bodies their white space is
 * changed). Errors go to a struct validation, in pydantic's order.
 *
 * Pydantic accepts for an object whatever Python's dict() accepts: [["a", 1]], ["ab"], "" too. Such a value
 * is rewritten as a JSON object first and then treated like any other.
 */
#ifndef OPALD_WORKER_API_MODEL_H
#define OPALD_WORKER_API_MODEL_H

#include <stdbool.h>
#include "shm/common/json.h"
#include "shm/common/object.h"
#include "worker/http/http_validation.h"

#define MODEL_FIELDS_MAX 8

struct model_value {
    const struct json_document *document;
    /* JSON_ABSENT: the value is not there */
    uint32_t token;
};

enum model_style {
    /* json.dumps: ", " and ": ", ASCII; Any as raw bytes */
    MODEL_PYTHON,
    /* compact, UTF-8; Any without white space likewise */
    MODEL_HTTP,
};

struct model_rewritten;

/* One validation. Zero-initialise, set style and limits, model_run_free when done. */
struct model_run {
    enum model_style style;
    /* of JSON */
    unsigned max_depth;
    size_t max_tokens;
    struct validation validation;
    struct model_rewritten *rewritten;
    /* for the converters of the models that are used; they check its magic number */
    void *state;
};

/* Writes the converted value to `out`; false after an error (what is in `out` is then useless). */
typedef bool model_converter(
    struct model_run *run, struct model_value value, const void *argument, struct text *out);

/* null is accepted, and written as null */
#define MODEL_NULLABLE (1u << 0)
/* The converter is called for null too, */
#define MODEL_SEES_NULL (1u << 1)
/* and for an absent field. */
#define MODEL_SEES_ABSENT (1u << 2)

struct model_field {
    /* of the member, in the input and in the output */
    const char *name;
    model_converter *convert;
    const void *argument;
    /* JSON text for an absent field, as MODEL_PYTHON writes it; NULL: the field is required */
    const char *fallback;
    /* the same as MODEL_HTTP writes it, if that differs */
    const char *fallback_http;
    /* MODEL_... */
    unsigned flags;
};

struct model {
    const struct model_field *fields;
    size_t count;
    /*
     * After all fields: may refuse the whole. `values[i].token` is JSON_ABSENT for an absent field. May be
     * NULL.
     */
    bool (*check)(struct model_run *run, const struct model_value *values);
};

struct model_list {
    /* of an item; null is refused before it */
    model_converter *convert;
    const void *argument;
};

struct model_choice {
    /* NULL-terminated */
    const char *const *values;
    /* of the error */
    const char *message;
    const char *context;
};

void model_run_free(struct model_run *run);

/* ---- converters; null is refused unless a field says otherwise ---- */

/* argument: struct model */
MUST_CHECK model_converter model_convert;
/* argument: struct model_list */
MUST_CHECK model_converter model_convert_list;
/* strings; numbers and booleans become text */
MUST_CHECK model_converter model_convert_string;
/* true, "yes", "off", 1, 0.0, ... */
MUST_CHECK model_converter model_convert_boolean;
/* numbers, and strings that hold one */
MUST_CHECK model_converter model_convert_float;
/* argument: struct model_choice */
MUST_CHECK model_converter model_convert_choice;
/* any object */
MUST_CHECK model_converter model_convert_object;
/* any value; never fails */
model_converter model_convert_any;

/* ---- for converters elsewhere ---- */

/* Decodes what model_convert_string accepts into `out` (cleared first); false after an error. */
MUST_CHECK bool model_read_string(struct model_run *run, struct model_value value, struct text *out);
void model_write_string(const struct model_run *run, struct slice string, struct text *out);
const char *model_separator(const struct model_run *run);
enum json_type model_type(struct model_value value);
/* Records pydantic's error for a null; returns false. */
bool model_refuse_null(struct model_run *run);

#endif
