/* check-config: whether the keys, certificates and folders that the configuration names can be used by this
 * user. */
#ifndef OPALD_SERVER_COMMAND_CHECK_FILES_H
#define OPALD_SERVER_COMMAND_CHECK_FILES_H

#include <stddef.h>
#include "shm/common/object.h"
#include "server/options/options.h"

/* Calls `report` with a line for each that can't: the option, the path, why. Returns how many. Opens files,
 * and changes none. The certificate and keys of the listener and of tokens are not among them: their modules
 * read them. */
MUST_CHECK size_t check_files(const struct config *config, problem_report *report, void *context);
/* Those of the backbone alone. */
MUST_CHECK size_t check_files_of_backbone(const struct config *config, problem_report *report, void *context);

#endif
