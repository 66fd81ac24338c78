/* Values as Python writes them (strings: text_append_python_string): log lines that users grep show dicts, sets and lists, and numbers given for a string are coerced
 * the way str() does it. */
#ifndef OPALD_SHM_COMMON_PYTHON_TEXT_H
#define OPALD_SHM_COMMON_PYTHON_TEXT_H

#include "shm/common/json.h"
#include "shm/common/text.h"

/* str() of the number token `token`: integers as they stand (without the minus of -0), others as floats. */
void python_append_number(struct text *out, const struct json_document *document, uint32_t token);
/* repr() of what json.loads makes of the token: {'a': [1, None, True]}. Stops growing near `limit` bytes of `out`. */
void python_append_value(
    struct text *out, const struct json_document *document, uint32_t token, size_t limit);

#endif
