/* Secrets that stand in files, as a container's platform mounts them, so that they need not stand in the
 * environment. */
#ifndef OPALD_SERVER_OPTIONS_SECRET_FILE_H
#define OPALD_SERVER_OPTIONS_SECRET_FILE_H

#include "shm/common/error.h"
#include "shm/common/object.h"

/* The file's text less one line end at its end, at most 64 KiB. The caller frees it. NULL with the reason
 * in `err`. */
MUST_CHECK char *secret_file_read(const char *path, struct error *err);
/* What the environment's NAME is, or the file holds that its NAME_FILE names; an empty one counts as not
 * set. `*secret` is NULL when neither is set, else the caller frees it. -1 with `err` set when both are, or
 * the file is not what it must be. */
MUST_CHECK int secret_from_environment(const char *name, char **secret, struct error *err);

#endif
