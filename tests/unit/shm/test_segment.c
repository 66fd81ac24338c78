/* The segment: sizes, permissions, what attach refuses, and what a failure says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "shm/layout.h"
#include "shm/ring.h"
#include "shm/uplink.h"
#include "shm/worker_table.h"
#include "tests/unit/shm/shm_harness.h"

/* Stands in for libc's: fails the given call. */
static int fail_after = -1;
int posix_fallocate(int fd, off_t offset, off_t length)
{
    if (fail_after == 0) {
        fail_after = -1;
        return ENOSPC;
    }
    if (fail_after > 0)
        fail_after--;
    return fallocate(fd, 0, offset, length) < 0 ? errno : 0;
}

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static struct segment *try_create(size_t ring, size_t uplink, unsigned slots, struct error *err)
{
    *err = (struct error){0};
    struct segment_settings settings = {.ring_bytes = ring, .uplink_bytes = uplink, .slots = slots};
    return segment_create(&settings, err);
}

static void test_sizes(void **state)
{
    (void)state;
    struct segment *segment = make_segment(1, 1, SEGMENT_SLOTS_MAX);
    assert_int_equal(segment->ring_bytes, 65536);
    assert_int_equal(segment->uplink_bytes, 4096);
    assert_int_equal(segment_slot_count(segment), SEGMENT_SLOTS_MAX);
    struct stat status;
    assert_int_equal(fstat(segment->memory, &status), 0);
    assert_int_equal(status.st_size, (off_t)(segment->uplinks_offset + SEGMENT_SLOTS_MAX * 4096u));
    /* Allocated up to the uplinks, not further. */
    assert_int_equal(status.st_blocks * 512, (off_t)segment->uplinks_offset);
    prepare(segment, 5);
    prepare(segment, 5);
    assert_int_equal(fstat(segment->memory, &status), 0);
    assert_int_equal(status.st_blocks * 512, (off_t)segment->uplinks_offset + 4096);
    /* Nobody can cut pages off under another process. */
    assert_int_equal(ftruncate(segment->memory, 4096), -1);
    assert_int_equal(ftruncate(segment->memory, status.st_size + 4096), -1);
    segment_close(segment);

    segment = make_segment(65537, 5000, 1);
    assert_int_equal(segment->ring_bytes, 131072);
    assert_int_equal(segment->uplink_bytes, 8192);
    segment_close(segment);
    segment_close(NULL);
}

static void test_impossible_settings(void **state)
{
    (void)state;
    struct error err;
    assert_null(try_create(65536, 4096, 0, &err));
    assert_non_null(strstr(err.text, "slots"));
    assert_null(try_create(65536, 4096, SEGMENT_SLOTS_MAX + 1, &err));
    assert_null(try_create((size_t)1 << 50, 4096, 1, &err));
    assert_non_null(strstr(err.text, "at most"));
    assert_null(try_create(65536, (size_t)1 << 50, 1, &err));
    assert_null(try_create(SIZE_MAX, SIZE_MAX, 1, &err));
}

static void test_allocation_failure(void **state)
{
    (void)state;
    int before = open_descriptors();
    struct error err;
    fail_after = 0;
    assert_null(try_create((size_t)1 << 20, 4096, 2, &err));
    assert_int_equal(err.code, ENOSPC);
    assert_non_null(strstr(err.text, "can't allocate"));
    assert_non_null(strstr(err.text, "a ring of 1048576 bytes"));
    assert_non_null(strstr(err.text, "No space left on device"));
    assert_int_equal(open_descriptors(), before);

    struct segment *segment = make_segment(65536, 8192, 2);
    err = (struct error){0};
    fail_after = 0;
    assert_int_equal(uplink_prepare(segment, 1, &err), -1);
    assert_int_equal(err.code, ENOSPC);
    assert_non_null(strstr(err.text, "8192 bytes"));
    assert_non_null(strstr(err.text, "uplink of worker slot 1"));
    prepare(segment, 1); /* later there is room */
    segment_close(segment);
}

/* A real refusal by the kernel. */
static void test_size_refused(void **state)
{
    (void)state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit small = {.rlim_cur = 8192, .rlim_max = before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    struct error err;
    struct segment *segment = try_create(65536, 4096, 1, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_null(segment);
    assert_int_equal(err.code, EFBIG);
    assert_non_null(strstr(err.text, "can't size shared memory"));
}

static void test_no_descriptors_left(void **state)
{
    (void)state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int used = open_descriptors();
    struct rlimit small = {.rlim_cur = (rlim_t)used + 10, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
    struct error err;
    struct segment *segment = try_create(65536, 4096, 64, &err);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_null(segment);
    assert_int_equal(err.code, EMFILE);
    assert_non_null(strstr(err.text, "eventfd of worker slot"));
    assert_int_equal(open_descriptors(), used);
}

static void test_attach(void **state)
{
    (void)state;
    int before = open_descriptors();
    struct segment *master = make_segment(65536, 4096, 3);
    prepare(master, 2);
    struct segment *worker = attach(master, 2);
    assert_int_equal(segment_slot_count(worker), 3);
    assert_int_equal(segment_own_eventfd(master), master->doorbell);
    assert_int_equal(segment_own_eventfd(worker), worker->wake[2]);
    assert_int_equal(worker->memory, -1);
    assert_true(fcntl(worker->doorbell, F_GETFD) & FD_CLOEXEC);

    /* Both see the same words. */
    worker_table_set_connections(worker, 2, 77);
    assert_int_equal(worker_table_connections(master, 2), 77);
    backbone_state_write(master, BACKBONE_GAP);
    assert_int_equal(backbone_state_read(worker), BACKBONE_GAP);
    /* The wake-up of one is the eventfd of the other. */
    segment_eventfd_write(master->wake[2]);
    assert_true(readable(segment_own_eventfd(worker)));
    segment_eventfd_write(worker->doorbell);
    assert_true(readable(segment_own_eventfd(master)));
    segment_close(worker);
    segment_close(master);
    assert_int_equal(open_descriptors(), before);
}

/* True when a store to `address` kills the process that tries it. */
static bool write_kills(volatile void *address)
{
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        volatile unsigned char *byte = address;
        *byte = *byte;
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

static void test_permissions(void **state)
{
    (void)state;
    struct segment *master = make_segment(65536, 4096, 3);
    prepare(master, 0);
    prepare(master, 1);
    struct segment *worker = attach(master, 1);
    assert_true(write_kills(worker->base));
    assert_true(write_kills(worker->control));
    assert_true(write_kills(worker->ring));
    assert_true(write_kills(worker->ring + worker->ring_bytes - 1));
    assert_true(write_kills(segment_entry(worker, 0)));
    assert_true(write_kills(segment_entry(worker, 2)));
    assert_false(write_kills(segment_entry(worker, 1)));
    assert_false(write_kills((unsigned char *)segment_entry(worker, 1) + sizeof(struct layout_entry) - 1));
    assert_false(write_kills(worker->doorbell_line));
    assert_false(write_kills(segment_uplink(worker, 1)));
    assert_false(write_kills(segment_uplink(worker, 1) + 4095));
    segment_close(worker);
    segment_close(master);
}

static void expect_refused(struct segment_descriptors descriptors, unsigned slot, const char *part)
{
    int before = open_descriptors();
    struct error err = {0};
    assert_null(segment_attach(&descriptors, slot, &err));
    if (strstr(err.text, part) == NULL)
        fail_msg("\"%s\" doesn't say \"%s\"", err.text, part);
    assert_int_equal(open_descriptors(), before - 3); /* all three were taken and closed */
}

/* The master's header with one word changed, as a worker would find it. */
static void expect_refused_header(struct segment *master, size_t offset, size_t size, const char *part)
{
    unsigned char *word = master->base + offset;
    uint64_t saved = 0;
    memcpy(&saved, word, size);
    uint64_t changed = saved + 1;
    memcpy(word, &changed, size);
    expect_refused(copy_descriptors(master, 0), 0, part);
    memcpy(word, &saved, size);
}

static void test_attach_refuses(void **state)
{
    (void)state;
    struct segment *master = make_segment(65536, 4096, 3);
    prepare(master, 0);
#define WORD(field) offsetof(struct layout_header, field), sizeof(((struct layout_header *)0)->field)
    expect_refused_header(master, WORD(magic), "not a segment");
    expect_refused_header(master, WORD(version), "version");
    expect_refused_header(master, WORD(counter_count), "counters");
    expect_refused_header(master, WORD(slots), "sizes don't fit");
    expect_refused_header(master, WORD(page_bytes), "sizes don't fit");
    expect_refused_header(master, WORD(entry_stride), "sizes don't fit");
    expect_refused_header(master, WORD(ring_bytes), "sizes don't fit");
    expect_refused_header(master, WORD(uplink_bytes), "sizes don't fit");
    expect_refused_header(master, WORD(control_offset), "sizes don't fit");
    expect_refused_header(master, WORD(doorbell_offset), "sizes don't fit");
    expect_refused_header(master, WORD(table_offset), "sizes don't fit");
    expect_refused_header(master, WORD(ring_offset), "sizes don't fit");
    expect_refused_header(master, WORD(uplinks_offset), "sizes don't fit");
    expect_refused_header(master, WORD(total_bytes), "sizes don't fit");
#undef WORD
    expect_refused(copy_descriptors(master, 0), 3, "slot 3 of 3");

    /* A file that is shorter than its header says. */
    struct segment_descriptors descriptors = copy_descriptors(master, 0);
    int cut = memfd_create("cut", MFD_CLOEXEC);
    assert_int_equal(write(cut, master->base, 8192), 8192);
    close(descriptors.memory);
    descriptors.memory = cut;
    expect_refused(descriptors, 0, "sizes don't fit");

    descriptors = copy_descriptors(master, 0);
    int empty = memfd_create("empty", MFD_CLOEXEC);
    close(descriptors.memory);
    descriptors.memory = empty;
    expect_refused(descriptors, 0, "not a segment");

    descriptors = copy_descriptors(master, 0);
    close(descriptors.memory);
    struct error err = {0};
    assert_null(segment_attach(&descriptors, 0, &err));
    assert_int_equal(err.code, EBADF);
    segment_close(master);
}

static void test_export(void **state)
{
    (void)state;
    struct segment *master = make_segment(65536, 4096, 2);
    struct segment_descriptors descriptors = segment_descriptors(master, 1);
    assert_true(fcntl(descriptors.memory, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(descriptors.doorbell, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(descriptors.wake, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(segment_export(&descriptors), 0);
    assert_false(fcntl(descriptors.memory, F_GETFD) & FD_CLOEXEC);
    assert_false(fcntl(descriptors.doorbell, F_GETFD) & FD_CLOEXEC);
    assert_false(fcntl(descriptors.wake, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(segment_descriptors(master, 0).wake, F_GETFD) & FD_CLOEXEC);
    descriptors.wake = -1;
    assert_int_equal(segment_export(&descriptors), -1);
    segment_close(master);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_impossible_settings),
        cmocka_unit_test(test_allocation_failure),
        cmocka_unit_test(test_size_refused),
        cmocka_unit_test(test_no_descriptors_left),
        cmocka_unit_test(test_attach),
        cmocka_unit_test(test_permissions),
        cmocka_unit_test(test_attach_refuses),
        cmocka_unit_test(test_export),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
