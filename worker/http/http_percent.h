/* Percent-encoding (RFC 3986 2.1), lenient as Python's urllib.parse: a '%' that is followed by no two hex digits stays. */
#ifndef OPALD_WORKER_HTTP_HTTP_PERCENT_H
#define OPALD_WORKER_HTTP_HTTP_PERCENT_H

#include <stdbool.h>
#include "shm/common/text.h"

/* Appends the decoded bytes; `plus` decodes '+' to a space as well (query strings). */
void http_percent_decode(struct slice encoded, bool plus, struct text *out);
/* Appends with everything escaped but letters, digits, "_.-~" and the characters of `safe`. */
void http_percent_encode(struct slice plain, const char *safe, struct text *out);

#endif
