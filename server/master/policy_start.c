#include "server/master/policy_start.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/master/process_start.h"

#define VARIABLE    "OPALD_POLICY_DESCRIPTORS"
#define DESCRIPTORS 6

pid_t policy_start(char **argv, int argc, const struct policy_descriptors *descriptors, struct error *err)
{
    char assignment[160];
    const int inherited[DESCRIPTORS] = {descriptors->segment.memory, descriptors->segment.doorbell,
        descriptors->segment.wake, descriptors->lifeline, descriptors->listener, descriptors->poke};
    const struct process_start start = {.flag = "--as-policy",
        .assignment = assignment,
        .descriptors = inherited,
        .descriptor_count = DESCRIPTORS};
    snprintf(assignment, sizeof assignment, VARIABLE "=%u %d %d %d %d %d %d", descriptors->slot, inherited[0],
        inherited[1], inherited[2], inherited[3], inherited[4], inherited[5]);
    pid_t pid = process_start(argv, argc, &start, err);
    if (pid < 0)
        return error_prefix(err, "policy");
    return pid;
}

static bool read_number(const char **cursor, long low, long high, long *number)
{
    char *end;
    errno = 0;
    *number = strtol(*cursor, &end, 10);
    bool good = !errno && end != *cursor && *number >= low && *number <= high;
    *cursor = end;
    return good;
}

int policy_start_receive(struct policy_descriptors *descriptors, struct error *err)
{
    const char *cursor = getenv(VARIABLE);
    long slot;
    long numbers[DESCRIPTORS];
    *descriptors = (struct policy_descriptors){0};
    if (!cursor)
        return error_set(err, EINVAL, "--as-policy is for the master only; use 'opald run'");
    bool good = read_number(&cursor, 0, SEGMENT_SLOTS_MAX - 1, &slot);
    for (size_t i = 0; good && i < DESCRIPTORS; i++)
        good = read_number(&cursor, INT_MIN, INT_MAX, &numbers[i]);
    if (!good || *cursor)
        return error_set(err, EINVAL, "%s is malformed", VARIABLE);
    *descriptors = (struct policy_descriptors){.slot = (unsigned)slot,
        .segment = {(int)numbers[0], (int)numbers[1], (int)numbers[2]},
        .lifeline = (int)numbers[3],
        .listener = (int)numbers[4],
        .poke = (int)numbers[5]};
    unsetenv(VARIABLE);
    return 0;
}
