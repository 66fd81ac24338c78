/*
 * Models: what the reference declares with pydantic v1 stands here as tables. One pass checks a JSON value against a model,
 * coerces it as pydantic does, and writes it anew with every field in the model's order, defaults filled in. Values of type Any pass
 * through as the bytes they came as (or are re-spaced, for HTTP bodies). Errors go to a struct validation, in pydantic's order.
 *
 * Pydantic accepts for an object whatever Python's dict() accepts: [["a", 1]], ["ab"], "" too. Such a value is rewritten as a JSON
 * object first and then treated like any other.
 */
#ifndef OPALD_WORKER_API_MODEL_H
#define OPALD_WORKER_API_MODEL_H

#include <stdbool.h>
#include "shm/common/json.h"
#include "worker/http/http_validation.h"

#define MODEL_FIELDS_MAX 8

struct model_value {
    const struct json_document *document;
    uint32_t token;
};

enum model_style {
    MODEL_PYTHON, /* json.dumps: ", " and ": ", ASCII; Any as raw bytes */
    MODEL_HTTP,   /* compact, UTF-8; Any re-spaced likewise */
};

struct model_rewritten;

/* One validation. Zero-initialise, set style and limits, model_run_free when done. */
struct model_run {
    enum model_style style;
    unsigned max_depth; /* of JSON */
    size_t max_tokens;
    struct validation validation;
    struct model_rewritten *rewritten;
    void *state; /* of the models' own converters */
};

/* Writes the converted value to `out`; false after an error (what is in `out` then is of no use). */
typedef bool model_converter(
    struct model_run *run, struct model_value value, const void *argument, struct text *out);

struct model_field {
    const char *name; /* in the output and, if there is no alias, in the input */
    model_converter *convert;
    const void *argument;
    const char *fallback[2]; /* JSON text when the field is absent, by style; NULL: the field is required */
    bool nullable;           /* null is taken (and written) as null */
    bool sees_null;          /* the converter is called for null as well, */
    bool sees_absent;        /* and for an absent field (its token then is JSON_ABSENT) */
};

#define MODEL_SAME(text) \
    { \
        text, text \
    }
#define MODEL_REQUIRED \
    { \
        NULL, NULL \
    }

struct model {
    const struct model_field *fields;
    size_t count;
    /* After all fields: may refuse the whole. `values[i].token` is JSON_ABSENT for an absent field. May be NULL. */
    bool (*check)(struct model_run *run, const struct model_value *values);
};

struct model_list {
    model_converter *convert; /* of an item; null is refused before it */
    const void *argument;
};

struct model_choice {
    const char *const *values; /* NULL-terminated */
    const char *message;
    const char *context;
};

void model_run_free(struct model_run *run);
/* Null is refused here unless a field says otherwise. */
model_converter model_convert;         /* argument: struct model */
model_converter model_convert_list;    /* argument: struct model_list */
model_converter model_convert_string;  /* numbers and booleans become text */
model_converter model_convert_boolean; /* "yes", "off", 1, 0.0, ... */
model_converter model_convert_float;   /* numbers, numeric strings */
model_converter model_convert_choice;  /* argument: struct model_choice */
model_converter model_convert_object;  /* any object */
model_converter model_convert_any;

/* For converters elsewhere. Decodes what model_convert_string would accept into `out` (cleared first); false after an error. */
bool model_read_string(struct model_run *run, struct model_value value, struct text *out);
void model_write_string(const struct model_run *run, struct slice string, struct text *out);
const char *model_separator(const struct model_run *run);
enum json_type model_type(struct model_value value);
/* Records pydantic's error for a null; returns false. */
bool model_refuse_null(struct model_run *run);

#endif
