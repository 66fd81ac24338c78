/* How the policy process gets its descriptors from the master: as numbers in an environment variable (the
 * start itself: process_start.h). */
#ifndef OPALD_SERVER_MASTER_POLICY_START_H
#define OPALD_SERVER_MASTER_POLICY_START_H

#include <sys/types.h>
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "server/policy/policy_process.h"

/* Master. Returns the pid or -1. */
MUST_CHECK pid_t policy_start(
    char **argv, int argc, const struct policy_descriptors *descriptors, struct error *err);
/* Policy process. -1 when the variable is missing or wrong. */
MUST_CHECK int policy_start_receive(struct policy_descriptors *descriptors, struct error *err);

#endif
