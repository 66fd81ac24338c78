/* The JWK set as a file, for another server to serve (OPAL_AUTH_JWKS_STATIC_DIR). */
#ifndef OPALD_SERVER_MASTER_JWKS_FILE_H
#define OPALD_SERVER_MASTER_JWKS_FILE_H

#include "shm/common/error.h"
#include "shm/common/config.h"
#include "shm/common/object.h"

/* Writes it, when the option is set, under the last part of the route's name; folders are made. A reader
 * sees the old file or the new one. 0, or -1 with what went wrong. At the start only: it blocks. */
MUST_CHECK int jwks_file_write(const struct config *config, struct error *err);

#endif
