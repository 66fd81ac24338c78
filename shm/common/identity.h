/* Identifiers: uuid4 as 32 lower-case hex digits, as the reference makes them. */
#ifndef OPALD_SHM_COMMON_IDENTITY_H
#define OPALD_SHM_COMMON_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "shm/common/object.h"
#include "shm/common/text.h"

#define IDENTITY_BYTES 16
#define IDENTITY_HEX   32

struct identity {
    uint8_t bytes[IDENTITY_BYTES];
};

/* A random uuid4 (RFC 9562 5.4) from libuuid: for ids made rarely (server, channel, subscription). */
struct identity identity_make(void);
/* A uuid4-shaped id from a fast generator seeded from getrandom(2): for call ids, where only uniqueness
 * matters. Per process; not for secrets. */
struct identity identity_make_fast(void);
static inline bool identity_equals(const struct identity *a, const struct identity *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}
/* Writes exactly 32 hex digits, no NUL. */
void identity_format(const struct identity *identity, char *out);
/* False for anything but what identity_format writes: 32 hex digits in lower case. */
MUST_CHECK bool identity_parse(struct slice text, struct identity *identity);

#endif
