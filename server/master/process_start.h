/*
 * Starting a process of this program: fork, then at once exec of the program itself. The master has threads (librdkafka's), so the child may
 * do nothing but async-signal-safe calls before the exec; the new program starts from a clean image, today as well as after a
 * respawn a month from now.
 */
#ifndef OPALD_SERVER_MASTER_PROCESS_START_H
#define OPALD_SERVER_MASTER_PROCESS_START_H

#include <stddef.h>
#include <sys/types.h>
#include "shm/common/error.h"

struct process_start {
    const char *flag;       /* goes in front of the arguments: "--as-worker" */
    const char *assignment; /* "NAME=value", goes in front of the environment */
    const int *descriptors; /* to be inherited; negative ones are skipped */
    size_t descriptor_count;
};

/* Master. The child gets the same arguments with the flag in front. Returns its pid, or -1 with `err` set. */
pid_t process_start(char **argv, int argc, const struct process_start *start, struct error *err);

#endif
