/* Why a child failed, from its error output: for the log, for people. Pure. */
#ifndef OPALD_SERVER_POLICY_SOURCE_JOB_REASON_H
#define OPALD_SERVER_POLICY_SOURCE_JOB_REASON_H

#include <stdbool.h>
#include <stddef.h>
#include "shm/common/text.h"

struct job_end {
    /* Of the program. */
    const char *name;
    /* As waitpid gives it. */
    int status;
    /* It was killed because it wrote more than output_max to its standard output. */
    bool too_much;
    size_t output_max;
    /* It was killed because it made no progress, or its time was over. */
    bool late;
};

/* Appends the reason: what was done to the child, and the last lines of `errors` without progress reports and
 * chatter. All that ssh and git say of a failure is in it. */
void job_reason_append(struct text *out, struct slice errors, const struct job_end *end);
/* Whether the program reports that the kernel refused to let a file grow (in the words of the C locale). */
bool job_reason_is_file_too_large(struct slice errors);

#endif
