/* The segment: making, sizing, mapping and checking it. The drawing is in shm/layout.h. */
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "shm/common/memory.h"
#include "shm/layout.h"

void segment_fail(const char *what)
{
    fprintf(stderr, "opald: shared memory: %s\n", what);
    abort();
}

void segment_check(const struct segment *segment)
{
    if (segment == NULL || segment->magic != SEGMENT_MAGIC)
        segment_fail("not a segment");
}

struct layout_entry *segment_entry(const struct segment *segment, unsigned slot)
{
    if (slot >= segment->slots)
        segment_fail("slot out of range");
    return (struct layout_entry *)(void *)(segment->table + slot * segment->entry_stride);
}

unsigned char *segment_uplink(const struct segment *segment, unsigned slot)
{
    if (segment->is_master)
        return segment->uplinks + slot * segment->uplink_bytes;
    if (slot != segment->slot)
        segment_fail("a worker has only its own uplink");
    return segment->uplinks;
}

void segment_eventfd_write(int fd)
{
    uint64_t one = 1;
    /* EAGAIN would mean 2^64-2 unread wake-ups: it is readable then, which is all we want. */
    while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void segment_eventfd_drain(int fd)
{
    uint64_t count;
    while (read(fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
}

static uint64_t round_to_power(uint64_t value, uint64_t least)
{
    uint64_t power = least;
    while (power < value)
        power <<= 1;
    return power;
}

static uint64_t round_to_page(uint64_t value, uint64_t page)
{
    return (value + page - 1) / page * page;
}

/* Everything follows from slots, page and the two sizes; attach compares its own result with the master's. */
static void layout_plan(struct layout_header *plan)
{
    uint64_t page = plan->page_bytes;
    plan->magic = LAYOUT_MAGIC;
    plan->version = LAYOUT_VERSION;
    plan->counter_count = COUNTER_COUNT;
    plan->reserved = 0;
    plan->entry_stride = (uint32_t)round_to_page(sizeof(struct layout_entry), page);
    plan->control_offset = round_to_page(sizeof(struct layout_header), page);
    plan->doorbell_offset = plan->control_offset + round_to_page(sizeof(struct layout_control), page);
    plan->table_offset = plan->doorbell_offset + round_to_page(sizeof(struct layout_doorbell), page);
    plan->ring_offset = plan->table_offset + (uint64_t)plan->slots * plan->entry_stride;
    plan->uplinks_offset = plan->ring_offset + plan->ring_bytes;
    plan->total_bytes = plan->uplinks_offset + plan->slots * plan->uplink_bytes;
}

static struct segment *segment_new(const struct layout_header *plan, bool is_master)
{
    struct segment *segment = memory_allocate(sizeof *segment);
    segment->magic = SEGMENT_MAGIC;
    segment->is_master = is_master;
    segment->slots = plan->slots;
    segment->ring_bytes = plan->ring_bytes;
    segment->uplink_bytes = plan->uplink_bytes;
    segment->uplinks_offset = plan->uplinks_offset;
    segment->page_bytes = plan->page_bytes;
    segment->entry_stride = plan->entry_stride;
    segment->memory = -1;
    segment->doorbell = -1;
    for (unsigned slot = 0; slot < SEGMENT_SLOTS_MAX; slot++)
        segment->wake[slot] = -1;
    return segment;
}

static void segment_point_into(struct segment *segment, const struct layout_header *plan)
{
    segment->control = (struct layout_control *)(void *)(segment->base + plan->control_offset);
    segment->doorbell_line = (struct layout_doorbell *)(void *)(segment->base + plan->doorbell_offset);
    segment->table = segment->base + plan->table_offset;
    segment->ring = segment->base + plan->ring_offset;
}

static int segment_make_eventfds(struct segment *segment, struct error *err)
{
    segment->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (segment->doorbell < 0)
        return error_set_errno(err, errno, "can't make the master's eventfd");
    for (unsigned slot = 0; slot < segment->slots; slot++) {
        segment->wake[slot] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (segment->wake[slot] < 0)
            return error_set_errno(
                err, errno, "can't make the eventfd of worker slot %u of %u", slot, segment->slots);
    }
    return 0;
}

int segment_allocate(const struct segment *segment, uint64_t offset, uint64_t bytes)
{
    int failure;
    /* it returns the error; a signal handler without SA_RESTART may interrupt it */
    do
        failure = posix_fallocate(segment->memory, (off_t)offset, (off_t)bytes);
    while (failure == EINTR);
    return failure;
}

static int segment_make_memory(struct segment *segment, const struct layout_header *plan, struct error *err)
{
    segment->memory = memfd_create("opald", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (segment->memory < 0)
        return error_set_errno(err, errno, "can't make shared memory (memfd_create)");
    if (ftruncate(segment->memory, (off_t)plan->total_bytes) < 0)
        return error_set_errno(
            err, errno, "can't size shared memory to %" PRIu64 " bytes", plan->total_bytes);
    /* Nobody can cut pages off under another process, which would kill it by SIGBUS. */
    if (fcntl(segment->memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return error_set_errno(err, errno, "can't seal the size of shared memory");
    int failure = segment_allocate(segment, 0, plan->uplinks_offset);
    if (failure != 0)
        return error_set_errno(err, failure,
            "can't allocate %" PRIu64 " bytes of shared memory (a ring of %" PRIu64 " bytes)",
            plan->uplinks_offset, plan->ring_bytes);
    void *base = mmap(NULL, plan->total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, segment->memory, 0);
    if (base == MAP_FAILED)
        return error_set_errno(err, errno, "can't map %" PRIu64 " bytes of shared memory", plan->total_bytes);
    segment->base = base;
    segment->base_bytes = plan->total_bytes;
    segment->uplinks = segment->base + plan->uplinks_offset;
    return 0;
}

struct segment *segment_create(const struct segment_settings *settings, struct error *err)
{
    if (settings->slots < 1 || settings->slots > SEGMENT_SLOTS_MAX) {
        error_set(err, EINVAL, "%u worker slots; 1 to %d are possible", settings->slots, SEGMENT_SLOTS_MAX);
        return NULL;
    }
    if (settings->ring_bytes > LAYOUT_RING_MAX || settings->uplink_bytes > LAYOUT_UPLINK_MAX) {
        error_set(err, EINVAL,
            "a ring of %zu and uplinks of %zu bytes; at most %" PRIu64 " and %" PRIu64 " are possible",
            settings->ring_bytes, settings->uplink_bytes, LAYOUT_RING_MAX, LAYOUT_UPLINK_MAX);
        return NULL;
    }
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct layout_header plan = {
        .slots = settings->slots,
        .page_bytes = (uint32_t)page,
        .ring_bytes = round_to_power(settings->ring_bytes, LAYOUT_RING_MIN),
        .uplink_bytes =
            round_to_power(settings->uplink_bytes, page > LAYOUT_UPLINK_MIN ? page : LAYOUT_UPLINK_MIN),
    };
    layout_plan(&plan);

    struct segment *segment = segment_new(&plan, true);
    if (segment_make_memory(segment, &plan, err) < 0 || segment_make_eventfds(segment, err) < 0) {
        segment_close(segment);
        return NULL;
    }
    memcpy(segment->base, &plan, sizeof plan);
    segment_point_into(segment, &plan);
    return segment;
}

struct segment_descriptors segment_descriptors(const struct segment *segment, unsigned slot)
{
    segment_check(segment);
    if (slot >= segment->slots)
        segment_fail("slot out of range");
    return (struct segment_descriptors){
        .memory = segment->memory, .doorbell = segment->doorbell, .wake = segment->wake[slot]};
}

int segment_export(const struct segment_descriptors *descriptors)
{
    const int fds[] = {descriptors->memory, descriptors->doorbell, descriptors->wake};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fcntl(fds[i], F_SETFD, 0) < 0)
            return -1;
    return 0;
}

/* Reads the header through the descriptor, so that nothing is mapped before it is known to be ours. */
static int segment_read_plan(int memory, unsigned slot, struct layout_header *plan, struct error *err)
{
    struct stat status;
    if (fstat(memory, &status) < 0)
        return error_set_errno(err, errno, "shared memory: descriptor %d", memory);
    ssize_t got = pread(memory, plan, sizeof *plan, 0);
    if (got < 0)
        return error_set_errno(err, errno, "shared memory: can't read the header");
    if ((size_t)got < sizeof *plan || plan->magic != LAYOUT_MAGIC)
        return error_set(err, EINVAL, "shared memory: descriptor %d is not a segment of opald", memory);
    if (plan->version != LAYOUT_VERSION || plan->counter_count != COUNTER_COUNT)
        return error_set(err, EINVAL,
            "shared memory: the master's layout is version %u with %u counters, this program's %u with %u: "
            "the program was replaced while the master runs",
            plan->version, plan->counter_count, LAYOUT_VERSION, (unsigned)COUNTER_COUNT);
    if (plan->slots < 1 || plan->slots > SEGMENT_SLOTS_MAX || slot >= plan->slots)
        return error_set(err, EINVAL, "shared memory: slot %u of %u", slot, plan->slots);
    struct layout_header expected = {.slots = plan->slots,
        .page_bytes = (uint32_t)sysconf(_SC_PAGESIZE),
        .ring_bytes = plan->ring_bytes,
        .uplink_bytes = plan->uplink_bytes};
    bool sizes_possible =
        plan->ring_bytes >= LAYOUT_RING_MIN && plan->ring_bytes <= LAYOUT_RING_MAX &&
        (plan->ring_bytes & (plan->ring_bytes - 1)) == 0 && plan->uplink_bytes >= LAYOUT_UPLINK_MIN &&
        plan->uplink_bytes <= LAYOUT_UPLINK_MAX && (plan->uplink_bytes & (plan->uplink_bytes - 1)) == 0;
    layout_plan(&expected);
    if (!sizes_possible || memcmp(&expected, plan, sizeof expected) != 0 ||
        (uint64_t)status.st_size != plan->total_bytes)
        return error_set(err, EINVAL,
            "shared memory: sizes don't fit together (%lld bytes, header says %" PRIu64 ")",
            (long long)status.st_size, plan->total_bytes);
    return 0;
}

static int segment_map_worker(
    struct segment *segment, const struct layout_header *plan, int memory, struct error *err)
{
    void *base = mmap(NULL, plan->uplinks_offset, PROT_READ, MAP_SHARED, memory, 0);
    if (base == MAP_FAILED)
        return error_set_errno(
            err, errno, "shared memory: can't map %" PRIu64 " bytes", plan->uplinks_offset);
    segment->base = base;
    segment->base_bytes = plan->uplinks_offset;
    segment_point_into(segment, plan);
    void *uplink = mmap(NULL, plan->uplink_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory,
        (off_t)(plan->uplinks_offset + segment->slot * plan->uplink_bytes));
    if (uplink == MAP_FAILED)
        return error_set_errno(err, errno, "shared memory: can't map the uplink");
    segment->uplinks = uplink;
    segment->uplinks_mapped = plan->uplink_bytes;
    if (mprotect(segment->doorbell_line, plan->table_offset - plan->doorbell_offset, PROT_READ | PROT_WRITE) <
            0 ||
        mprotect(segment_entry(segment, segment->slot), plan->entry_stride, PROT_READ | PROT_WRITE) < 0)
        return error_set_errno(err, errno, "shared memory: can't make the worker's own part writable");
    return 0;
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

struct segment *segment_attach(
    const struct segment_descriptors *descriptors, unsigned slot, struct error *err)
{
    struct layout_header plan = {0};
    struct segment *segment = NULL;
    if (segment_read_plan(descriptors->memory, slot, &plan, err) == 0) {
        segment = segment_new(&plan, false);
        segment->slot = slot;
        if (segment_map_worker(segment, &plan, descriptors->memory, err) < 0) {
            segment_close(segment);
            segment = NULL;
        }
    }
    close_if_open(descriptors->memory); /* the mappings stay */
    if (segment == NULL) {
        close_if_open(descriptors->doorbell);
        close_if_open(descriptors->wake);
        return NULL;
    }
    segment->doorbell = descriptors->doorbell;
    segment->wake[slot] = descriptors->wake;
    /* The worker's own children (none today) must not get them. */
    fcntl(segment->doorbell, F_SETFD, FD_CLOEXEC);
    fcntl(segment->wake[slot], F_SETFD, FD_CLOEXEC);
    return segment;
}

void segment_close(struct segment *segment)
{
    if (segment == NULL)
        return;
    segment_check(segment);
    if (segment->uplinks_mapped > 0)
        munmap(segment->uplinks, segment->uplinks_mapped);
    if (segment->base != NULL)
        munmap(segment->base, segment->base_bytes);
    close_if_open(segment->memory);
    close_if_open(segment->doorbell);
    for (unsigned slot = 0; slot < SEGMENT_SLOTS_MAX; slot++)
        close_if_open(segment->wake[slot]);
    segment->magic = 0;
    free(segment);
}

int segment_own_eventfd(const struct segment *segment)
{
    segment_check(segment);
    return segment->is_master ? segment->doorbell : segment->wake[segment->slot];
}

unsigned segment_slot_count(const struct segment *segment)
{
    segment_check(segment);
    return segment->slots;
}
