#include "server/router/ring_output.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/router/stall.h"
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"

#define RING_OUTPUT_MAGIC   0x72696e67u
#define RING_OUTPUT_POLL_US 500

struct ring_output {
    uint32_t magic;
    struct ring_writer *ring;
    struct event *poll;
    uint64_t stall_limit_ns;
    struct stall stall;
    struct ring_output_hooks hooks;
    struct log_limiter limit_full;
};

static void output_wait(struct ring_output *output)
{
    const struct timeval soon = {.tv_usec = RING_OUTPUT_POLL_US};
    event_add(output->poll, &soon);
    if (stall_running(&output->stall))
        return;
    uint64_t lag = 0;
    unsigned slot = ring_writer_slowest(output->ring, &lag);
    uint64_t cursor = slot == UINT32_MAX ? 0 : ring_writer_cursor(output->ring, slot);
    stall_begin(&output->stall, slot, cursor, clock_monotonic_ns());
    log_write_limited(&output->limit_full, LOG_WARNING, LOGGER_BROADCAST,
        "the ring is full: worker slot %u is %" PRIu64
        " bytes behind; taking in no events until it has moved on",
        slot, lag);
}

static void output_check_stall(struct ring_output *output)
{
    uint64_t lag;
    unsigned slot = ring_writer_slowest(output->ring, &lag);
    if (slot == UINT32_MAX)
        return;
    uint64_t cursor = ring_writer_cursor(output->ring, slot);
    if (stall_look(&output->stall, slot, cursor, clock_monotonic_ns(), output->stall_limit_ns))
        output->hooks.stuck(
            output->hooks.context, slot, "it has held up the full ring for longer than the limit");
}

static void output_on_poll(evutil_socket_t descriptor, short what, void *context)
{
    struct ring_output *output = object_cast(struct ring_output, RING_OUTPUT_MAGIC, context);
    (void)descriptor;
    (void)what;
    output_check_stall(output);
    output->hooks.room(output->hooks.context);
    if (!event_pending(output->poll, EV_TIMEOUT, NULL))
        stall_end(&output->stall);
}

struct ring_output *ring_output_open(struct event_base *base, struct segment *segment, double stall_seconds,
    const struct ring_output_hooks *hooks)
{
    struct ring_output *output = memory_allocate(sizeof *output);
    output->magic = RING_OUTPUT_MAGIC;
    output->ring = ring_writer_open(segment);
    output->poll = event_new(base, -1, 0, output_on_poll, output);
    output->stall_limit_ns = (uint64_t)(stall_seconds * (double)CLOCK_SECOND);
    output->hooks = *hooks;
    return output;
}

void ring_output_close(struct ring_output *output)
{
    event_free(output->poll);
    ring_writer_close(output->ring);
    output->magic = 0;
    free(output);
}

uint32_t ring_output_body_max(const struct ring_output *output)
{
    return ring_writer_body_max(output->ring);
}

void *ring_output_reserve(struct ring_output *output, enum ring_type type, uint32_t length)
{
    void *body = ring_writer_reserve(output->ring, type, length);
    if (!body)
        output_wait(output);
    return body;
}

void ring_output_commit(struct ring_output *output)
{
    ring_writer_commit(output->ring);
}

bool ring_output_put(struct ring_output *output, enum ring_type type, const void *body, uint32_t length)
{
    void *room = ring_output_reserve(output, type, length);
    if (!room)
        return false;
    memcpy(room, body, length);
    ring_writer_commit(output->ring);
    return true;
}

void ring_output_wake(struct ring_output *output)
{
    ring_writer_wake(output->ring);
}

void ring_output_attach(struct ring_output *output, unsigned slot)
{
    ring_writer_activate(output->ring, slot);
}

void ring_output_detach(struct ring_output *output, unsigned slot)
{
    ring_writer_deactivate(output->ring, slot);
}
