/* Percent-encoding (RFC 3986 2.1), lenient as Python's urllib.parse: a '%' that is followed by no two hex
 * digits stays. Pure. */
#ifndef OPALD_SHM_COMMON_PERCENT_H
#define OPALD_SHM_COMMON_PERCENT_H

#include <stdbool.h>
#include "shm/common/text.h"

/* For error texts about URLs whose user name or password was cut at such a character. */
#define PERCENT_ADVICE \
    "in user name, password or token, write / as %2F, @ as %40, : as %3A, # as %23, ? as %3F and % as %25"

/* Appends the decoded bytes; `plus` decodes '+' to a space as well (query strings). */
void percent_decode(struct slice encoded, bool plus, struct text *out);
/* Appends with everything escaped but letters, digits, "_.-~" and the characters of `safe`. */
void percent_encode(struct slice plain, const char *safe, struct text *out);

/* Takes the next "name=value" off `query` and decodes both (cleared first; without '=' the value is empty).
 * Parts with nothing in them are passed over; false at the end. */
bool percent_next_pair(struct slice *query, bool plus, struct text *name, struct text *value);

#endif
