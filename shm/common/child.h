/*
 * Starting a program: fork, then at once exec. A process that has threads (librdkafka's, OpenSSL's) can't be
 * forked in any other way: its child may do nothing but async-signal-safe calls before the exec.
 *
 * The child starts with all signals at their defaults and none blocked; of our descriptors it gets the three
 * of standard input and output, and those that `descriptors` names (all others are close-on-exec).
 */
#ifndef OPALD_SHM_COMMON_CHILD_H
#define OPALD_SHM_COMMON_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "shm/common/error.h"
#include "shm/common/object.h"

/* `program` for another process of this program. Not its path: an upgrade may have replaced the file, and
 * processes that share memory must be of one version. SIGPIPE then stays as it is here (ignored), and a
 * failing exec is reported on standard error. */
#define CHILD_THIS_PROGRAM NULL

#define CHILD_NOTHING         (-1) /* `from`: /dev/null */
#define CHILD_STATUS_NO_START 127  /* exit status of a child whose program can't be executed */

struct child_descriptor {
    /* ours, or CHILD_NOTHING */
    int from;
    /* its number in the child; no other `from` may have this number */
    int to;
};

struct child_settings {
    /* a path, a name that is looked up in PATH, or CHILD_THIS_PROGRAM */
    const char *program;
    /* both with a NULL at the end; `environment` NULL: this process's own */
    const char *const *argv;
    const char *const *environment;
    const struct child_descriptor *descriptors;
    size_t descriptor_count;
    /* the child, and nothing that it starts, is killed when the thread that starts it ends */
    bool dies_with_parent;
    /* the child leads a process group of its own */
    bool own_group;
    /* a write beyond this size fails with EFBIG, in each file; 0: no limit */
    uint64_t file_bytes_max;
};

/* Returns the child's pid, or -1 with `err` set. The pid is the caller's to wait for. Any thread. */
MUST_CHECK pid_t child_start(const struct child_settings *settings, struct error *err);

/*
 * An environment for `child_settings`: `own` ("NAME=value", NULL at the end), and of this process's
 * environment those variables that `own` does not set and that `keeps` (NULL: all) returns true for;
 * `context` goes to `keeps`. The array is the caller's to free; its strings belong to `own` and to this
 * process.
 */
const char **child_make_environment(
    const char *const *own, bool (*keeps)(const char *assignment, const void *context), const void *context);

#endif
