/*
 * Values as Python writes them. Log lines that users of the reference grep show strings, dicts and lists by
 * repr(), and a number where a string is wanted becomes what str() makes of it. Pure.
 */
#ifndef OPALD_SHM_COMMON_PYTHON_H
#define OPALD_SHM_COMMON_PYTHON_H

#include <stdbool.h>
#include "shm/common/json.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

/* repr() of a str; a lone surrogate (three bytes of WTF-8) as \udxxx. */
void python_append_string(struct text *out, struct slice value);
/* repr() of a float: "100000.0", "1e-07", "inf". */
void python_append_float(struct text *out, double value);
/* str() of a JSON number: an integer as it is written (-0 without its minus), anything else as a float. */
void python_append_number(struct text *out, struct slice number, bool integer);
/* repr() of what json.loads makes of the token: {'a': [1, None, True]}. Stops growing near `limit` bytes of
 * `out`. */
void python_append_value(
    struct text *out, const struct json_document *document, uint32_t token, size_t limit);
/* Appends what pydantic 1 takes for a field of type str: a string itself, str() of a number or of a boolean.
 * False, and nothing is appended, for null, arrays and objects. */
MUST_CHECK bool python_coerce_string(struct text *out, const struct json_document *document, uint32_t token);

#endif
