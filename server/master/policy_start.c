#include "server/master/policy_start.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/master/process_start.h"

#define VARIABLE "OPALD_POLICY_DESCRIPTORS"

pid_t policy_start(char **argv, int argc, const struct policy_descriptors *descriptors, struct error *err)
{
    char assignment[160];
    const int inherited[] = {descriptors->segment.memory, descriptors->segment.doorbell,
        descriptors->segment.wake, descriptors->lifeline, descriptors->listener, descriptors->poke};
    const struct process_start start = {.flag = "--as-policy",
        .assignment = assignment,
        .descriptors = inherited,
        .descriptor_count = sizeof inherited / sizeof *inherited};
    snprintf(assignment, sizeof assignment, VARIABLE "=%u %d %d %d %d %d %d", descriptors->slot, inherited[0],
        inherited[1], inherited[2], inherited[3], inherited[4], inherited[5]);
    pid_t pid = process_start(argv, argc, &start, err);
    if (pid < 0)
        return error_prefix(err, "policy");
    return pid;
}

int policy_start_receive(struct policy_descriptors *descriptors, struct error *err)
{
    const char *text = getenv(VARIABLE);
    int end = 0;
    *descriptors = (struct policy_descriptors){0};
    if (!text)
        return error_set(err, EINVAL, "--as-policy is for the master only; use 'opald run'");
    if (sscanf(text, "%u %d %d %d %d %d %d%n", &descriptors->slot, &descriptors->segment.memory,
            &descriptors->segment.doorbell, &descriptors->segment.wake, &descriptors->lifeline,
            &descriptors->listener, &descriptors->poke, &end) != 7 ||
        text[end] != '\0' || descriptors->slot >= SEGMENT_SLOTS_MAX)
        return error_set(err, EINVAL, "%s is malformed", VARIABLE);
    unsetenv(VARIABLE);
    return 0;
}
