#include "tests/unit/shm/shm_harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include "shm/uplink.h"

struct segment *make_segment(size_t ring_bytes, size_t uplink_bytes, unsigned slots)
{
    struct error err = {0};
    struct segment_settings settings = {
        .ring_bytes = ring_bytes, .uplink_bytes = uplink_bytes, .slots = slots};
    struct segment *segment = segment_create(&settings, &err);
    if (segment == NULL)
        fail_msg("segment_create: %s", err.text);
    return segment;
}

void prepare(struct segment *segment, unsigned slot)
{
    struct error err = {0};
    if (uplink_prepare(segment, slot, &err) < 0)
        fail_msg("uplink_prepare: %s", err.text);
}

struct segment_descriptors copy_descriptors(const struct segment *segment, unsigned slot)
{
    struct segment_descriptors d = segment_descriptors(segment, slot);
    return (struct segment_descriptors){.memory = fcntl(d.memory, F_DUPFD_CLOEXEC, 0),
        .doorbell = fcntl(d.doorbell, F_DUPFD_CLOEXEC, 0),
        .wake = fcntl(d.wake, F_DUPFD_CLOEXEC, 0)};
}

struct segment *attach(const struct segment *master, unsigned slot)
{
    struct error err = {0};
    struct segment_descriptors descriptors = copy_descriptors(master, slot);
    struct segment *segment = segment_attach(&descriptors, slot, &err);
    if (segment == NULL)
        fail_msg("segment_attach: %s", err.text);
    return segment;
}

bool readable(int fd)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    return poll(&pollfd, 1, 0) == 1;
}

uint32_t pattern_length(uint64_t n, uint32_t max)
{
    return (uint32_t)((n * UINT64_C(0x9e3779b97f4a7c15)) >> 33) % (max + 1);
}

void pattern_fill(void *body, uint32_t length, uint64_t n)
{
    unsigned char *bytes = body;
    for (uint32_t i = 0; i < length; i++)
        bytes[i] = (unsigned char)(n * 31 + i * 7);
}

void pattern_check(const void *body, uint32_t length, uint64_t n)
{
    const unsigned char *bytes = body;
    for (uint32_t i = 0; i < length; i++)
        if (bytes[i] != (unsigned char)(n * 31 + i * 7))
            fail_msg("record %llu: byte %u of %u is wrong", (unsigned long long)n, i, length);
}
