/*
 * Starting a worker or the policy process: another process of this program, from a clean image
 * (shm/common/child.h), today as well as after a respawn a month from now.
 */
#ifndef OPALD_SERVER_MASTER_PROCESS_START_H
#define OPALD_SERVER_MASTER_PROCESS_START_H

#include <stddef.h>
#include <sys/types.h>
#include "shm/common/error.h"
#include "shm/common/object.h"

struct process_start {
    /* goes in front of the arguments: "--as-worker" */
    const char *flag;
    /* "NAME=value", goes in front of the environment */
    const char *assignment;
    /* to be inherited; negative ones are skipped */
    const int *descriptors;
    size_t descriptor_count;
};

/* Master. The child gets the same arguments with the flag in front. Returns its pid, or -1 with `err` set. */
MUST_CHECK pid_t process_start(char **argv, int argc, const struct process_start *start, struct error *err);

#endif
