/* Base64 with the URL alphabet, without padding (RFC 7515 2), as strict as PyJWT. Pure. */
#ifndef OPALD_WORKER_JOSE_BASE64URL_H
#define OPALD_WORKER_JOSE_BASE64URL_H

#include <stdbool.h>
#include "shm/common/object.h"
#include "shm/common/text.h"

/*
 * Appends the decoded bytes. Padding is taken when the length is a multiple of four with it; a foreign
 * character, bits left over or a length that no encoder makes is refused: false.
 */
MUST_CHECK bool base64url_decode(struct slice encoded, struct text *out);
/* Appends the encoded bytes, without padding. */
void base64url_encode(const void *bytes, size_t length, struct text *out);

#endif
