#include "server/master/worker_start.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/text.h"
#include "server/master/process_start.h"

/* slot memory doorbell wake lifeline handoff_receive keys tls_store | listener_count listeners... |
 * slot_count handoff_send... | policy address ("-": none) */
static void worker_start_encode(const struct worker_descriptors *descriptors, struct text *out)
{
    text_append_format(out, "%s=%u %d %d %d %d %d %d %d %d", WORKER_START_VARIABLE, descriptors->slot,
        descriptors->segment.memory, descriptors->segment.doorbell, descriptors->segment.wake,
        descriptors->lifeline, descriptors->handoff_receive, descriptors->keys, descriptors->tls_store,
        descriptors->listener_count);
    for (int i = 0; i < descriptors->listener_count; i++)
        text_append_format(out, " %d", descriptors->listeners[i]);
    text_append_format(out, " %u", descriptors->slot_count);
    for (unsigned i = 0; i < descriptors->slot_count; i++)
        text_append_format(out, " %d", descriptors->handoff_send[i]);
    text_append_format(out, " %s", descriptors->policy_address[0] ? descriptors->policy_address : "-");
}

static int worker_start_number(const char **cursor, long low, long high, long *out)
{
    char *end;
    errno = 0;
    *out = strtol(*cursor, &end, 10);
    if (errno || end == *cursor || *out < low || *out > high)
        return -1;
    *cursor = end;
    return 0;
}

int worker_start_receive(struct worker_descriptors *descriptors, struct error *err)
{
    const char *cursor = getenv(WORKER_START_VARIABLE);
    long numbers[9];
    long value;
    memset(descriptors, 0, sizeof *descriptors);
    if (!cursor)
        return error_set(err, EINVAL, "--as-worker is for the master only; use 'opald run'");
    for (size_t i = 0; i < 9; i++)
        if (worker_start_number(&cursor, i == 5 || i == 7 ? -1 : 0, 1 << 20, &numbers[i]) < 0)
            return error_set(err, EINVAL, "%s is malformed", WORKER_START_VARIABLE);
    if (numbers[0] >= SEGMENT_SLOTS_MAX || numbers[8] > WORKER_LISTENERS_MAX)
        return error_set(err, EINVAL, "%s is malformed", WORKER_START_VARIABLE);
    descriptors->slot = (unsigned)numbers[0];
    descriptors->segment = (struct segment_descriptors){(int)numbers[1], (int)numbers[2], (int)numbers[3]};
    descriptors->lifeline = (int)numbers[4];
    descriptors->handoff_receive = (int)numbers[5];
    descriptors->keys = (int)numbers[6];
    descriptors->tls_store = (int)numbers[7];
    descriptors->listener_count = (int)numbers[8];
    for (int i = 0; i < descriptors->listener_count; i++) {
        if (worker_start_number(&cursor, 0, 1 << 20, &value) < 0)
            return error_set(err, EINVAL, "%s is malformed", WORKER_START_VARIABLE);
        descriptors->listeners[i] = (int)value;
    }
    if (worker_start_number(&cursor, 0, SEGMENT_SLOTS_MAX, &value) < 0)
        return error_set(err, EINVAL, "%s is malformed", WORKER_START_VARIABLE);
    descriptors->slot_count = (unsigned)value;
    for (unsigned i = 0; i < descriptors->slot_count; i++) {
        if (worker_start_number(&cursor, -1, 1 << 20, &value) < 0)
            return error_set(err, EINVAL, "%s is malformed", WORKER_START_VARIABLE);
        descriptors->handoff_send[i] = (int)value;
    }
    if (*cursor != ' ' || strlen(cursor + 1) >= sizeof descriptors->policy_address)
        return error_set(err, EINVAL, "%s is malformed", WORKER_START_VARIABLE);
    if (strcmp(cursor, " -") != 0)
        memcpy(descriptors->policy_address, cursor + 1, strlen(cursor));
    unsetenv(WORKER_START_VARIABLE);
    return 0;
}

pid_t worker_start(char **argv, int argc, const struct worker_descriptors *descriptors, struct error *err)
{
    struct text variable = {0};
    int inherited[7 + WORKER_LISTENERS_MAX + SEGMENT_SLOTS_MAX] = {descriptors->segment.memory,
        descriptors->segment.doorbell, descriptors->segment.wake, descriptors->lifeline,
        descriptors->handoff_receive};
    size_t count = 5;
    if (descriptors->keys > 0)
        inherited[count++] = descriptors->keys;
    if (descriptors->tls_store >= 0)
        inherited[count++] = descriptors->tls_store;
    for (int i = 0; i < descriptors->listener_count; i++)
        inherited[count++] = descriptors->listeners[i];
    for (unsigned i = 0; i < descriptors->slot_count; i++)
        inherited[count++] = descriptors->handoff_send[i];
    worker_start_encode(descriptors, &variable);
    const struct process_start start = {.flag = "--as-worker",
        .assignment = variable.data,
        .descriptors = inherited,
        .descriptor_count = count};
    pid_t pid = process_start(argv, argc, &start, err);
    text_free(&variable);
    if (pid < 0)
        return error_prefix(err, "worker");
    return pid;
}
