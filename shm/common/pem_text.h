/*
 * PEM text (keys, certificates) as it arrives through an environment variable, an env file, Compose or a
 * chart: with literal \n or '_' in place of line ends, with line ends turned into blanks, with CRLF, with
 * quotes around it. It is repaired, or the error says exactly what is missing. Pure; no error text holds any
 * of the key.
 */
#ifndef OPALD_SHM_COMMON_PEM_TEXT_H
#define OPALD_SHM_COMMON_PEM_TEXT_H

#include <stdbool.h>
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

/* Whether `text` has a line -----BEGIN ...-----. */
bool pem_text_is(struct slice text);
/* Appends each PEM block of `text` to `out`, with proper lines; drops what is between the blocks. Text that
 * has them already comes out as it is. -1 with `err`: no block, one that is cut, or one that is not base64.
 * */
MUST_CHECK int pem_text_repair(struct slice text, struct text *out, struct error *err);
/* The same for a private key that ssh can use without asking: not a public key, no passphrase, no path. */
MUST_CHECK int pem_text_repair_ssh_key(struct slice text, struct text *out, struct error *err);

#endif
