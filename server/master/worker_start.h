/* How a worker gets its descriptors from the master: as numbers in an environment variable (the start
 * itself: process_start.h). */
#ifndef OPALD_SERVER_MASTER_WORKER_START_H
#define OPALD_SERVER_MASTER_WORKER_START_H

#include <sys/types.h>
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "worker/worker_descriptors.h"

/* The environment variable that carries the descriptor numbers; the program started with --as-worker reads
 * it. */
#define WORKER_START_VARIABLE "OPALD_WORKER_DESCRIPTORS"

/* Master. The child gets the same arguments with --as-worker in front. Returns its pid or -1. */
MUST_CHECK pid_t worker_start(
    char **argv, int argc, const struct worker_descriptors *descriptors, struct error *err);
/* Worker: reads them back; -1 when the variable is missing or wrong (somebody ran `opald worker` by hand). */
MUST_CHECK int worker_start_receive(struct worker_descriptors *descriptors, struct error *err);

#endif
