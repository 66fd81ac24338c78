/* The event codec at a guard page: every input ends where the next byte can't be read or written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "shm/ring_event.h"
#include "tests/unit/shm/common/random_seed.h"
#include "tests/unit/shm/shm_harness.h"

#define AREA 65536u

static unsigned char *guarded; /* AREA bytes, then PROT_NONE */

static int setup(void **state)
{
    (void)state;
    guarded = mmap(NULL, AREA + 65536u, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(guarded, MAP_FAILED);
    return mprotect(guarded + AREA, 65536u, PROT_NONE);
}

static int teardown(void **state)
{
    (void)state;
    return munmap(guarded, AREA + 65536u);
}

/* Encodes so that the last byte is the last of the page, decodes there, compares. Returns the size. */
static uint32_t round_trip(const struct ring_event *event, const struct slice *topics)
{
    uint32_t size = ring_event_encoded_size(topics, event->topic_count, event->data);
    assert_in_range(size, 56, AREA);
    unsigned char *at = guarded + AREA - size;
    memset(guarded, 0xee, AREA);
    ring_event_encode(at, event, topics);
    if (size < AREA)
        assert_int_equal(at[-1], 0xee);
    struct ring_event got;
    assert_true(ring_event_decode(at, size, &got));
    assert_int_equal(got.entered_ns, event->entered_ns);
    assert_int_equal(got.ticket, event->ticket);
    assert_int_equal(got.origin, event->origin);
    assert_int_equal(got.incarnation, event->incarnation);
    assert_int_equal(got.flags, event->flags);
    assert_int_equal(got.topic_count, event->topic_count);
    assert_true(identity_equals(&got.notifier, &event->notifier));
    assert_int_equal(got.data.length, event->data.length);
    assert_true(got.data.length == 0 || memcmp(got.data.data, event->data.data, got.data.length) == 0);
    uint32_t offset = 0;
    struct slice topic;
    for (uint32_t i = 0; i < event->topic_count; i++) {
        assert_true(ring_event_topic_next(&got, &offset, &topic));
        assert_int_equal(topic.length, topics[i].length);
        assert_memory_equal(topic.data, topics[i].data, topics[i].length);
    }
    assert_false(ring_event_topic_next(&got, &offset, &topic));
    /* Cut anywhere, it is no event, and nothing past the cut is read. */
    unsigned char whole[512];
    assert_true(size <= sizeof whole);
    memcpy(whole, at, size);
    for (uint32_t length = 0; length < size; length++) {
        memcpy(guarded + AREA - length, whole, length);
        assert_false(ring_event_decode(guarded + AREA - length, length, &got));
    }
    return size;
}

static const struct ring_event sample = {
    .entered_ns = 0x1122334455667788u,
    .ticket = UINT64_MAX - 1,
    .origin = RING_EVENT_NO_WORKER,
    .incarnation = 7,
    .flags = RING_EVENT_LOCAL_ONLY | RING_EVENT_HAS_NOTIFIER,
    .notifier = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255}},
};

static void test_shapes(void **state)
{
    (void)state;
    static const char bytes[64] = "policy_data/users/bob/location-0123456789-abcdefghijklmnopqrstu";
    static const char text[300] = "{\"a\": 9007199254740993, \"b\": 1.0}";
    for (uint32_t topic_length = 0; topic_length < 10; topic_length++)
        for (uint32_t count = 0; count < 4; count++) {
            struct slice topics[4];
            for (uint32_t i = 0; i < count; i++)
                topics[i] = (struct slice){bytes + i, topic_length + i};
            for (uint32_t data_length = 0; data_length < 100; data_length += 9) {
                struct ring_event event = sample;
                event.topic_count = count;
                event.data = (struct slice){text, data_length};
                round_trip(&event, topics);
            }
        }
}

static void test_exact_size(void **state)
{
    (void)state;
    struct slice topics[] = {SLICE_LITERAL("policy_data"), SLICE_LITERAL("x")};
    struct slice none = {NULL, 0};
    assert_int_equal(ring_event_encoded_size(NULL, 0, none), 56);
    /* 56 + (4 + 12) + (4 + 4) + 0 -> 80, + 5 */
    assert_int_equal(ring_event_encoded_size(topics, 2, SLICE_LITERAL("hello")), 85);
    /* padding before the data: 56 + (4 + 12) + (4 + 4) + (4 + 4), and 56 + (4 + 4) + (4 + 12) + (4 + 12) */
    assert_int_equal(ring_event_encoded_size(topics + 1, 1, SLICE_LITERAL("{}")), 66);
    assert_int_equal(ring_event_encoded_size(&SLICE_LITERAL(""), 1, SLICE_LITERAL("{}")), 66);
}

/* Sizes are computed from lengths only, so they can be asked for without the memory. */
static void test_too_large(void **state)
{
    (void)state;
    const char *somewhere = "";
    struct slice none = {NULL, 0};
    struct slice small = SLICE_LITERAL("t");
    struct slice huge = {somewhere, UINT32_MAX};
    struct slice beyond = {somewhere, (size_t)UINT32_MAX + 10};
    struct slice two[] = {{somewhere, 0x80000000u}, {somewhere, 0x80000000u}};
    struct slice largest = {somewhere, SIZE_MAX};
    assert_int_equal(ring_event_encoded_size(&small, 1, huge), UINT32_MAX);
    assert_int_equal(ring_event_encoded_size(&small, 1, beyond), UINT32_MAX);
    assert_int_equal(ring_event_encoded_size(&small, 1, largest), UINT32_MAX);
    assert_int_equal(ring_event_encoded_size(&huge, 1, none), UINT32_MAX);
    assert_int_equal(ring_event_encoded_size(&largest, 1, none), UINT32_MAX);
    assert_int_equal(ring_event_encoded_size(two, 2, none), UINT32_MAX);
    struct slice fits = {somewhere, UINT32_MAX - 64 - 1};
    assert_int_equal(ring_event_encoded_size(&small, 1, fits), UINT32_MAX - 1);
}

/* Every 32-bit length of the head replaced by hostile values: refused or decoded within bounds, never a
 * crash. */
static void test_hostile_lengths(void **state)
{
    (void)state;
    struct slice topics[] = {SLICE_LITERAL("policy_data"), SLICE_LITERAL("a/b")};
    struct ring_event event = sample;
    event.topic_count = 2;
    event.data = SLICE_LITERAL("[1, 2, 3]");
    uint32_t size = ring_event_encoded_size(topics, 2, event.data);
    unsigned char good[256];
    ring_event_encode(good, &event, topics);
    const uint32_t hostile[] = {0, 1, 2, 3, 4, 7, 8, 15, 16, size - 1, size, size + 1, 0x7fffffff,
        0x80000000u, UINT32_MAX - 8, UINT32_MAX - 1, UINT32_MAX};
    unsigned char *at = guarded + AREA - size;
    /* head lengths, then the lengths in front of both topics */
    const uint32_t places[] = {28, 32, 36, 56, 72};
    for (size_t p = 0; p < sizeof places / sizeof places[0]; p++)
        for (size_t h = 0; h < sizeof hostile / sizeof hostile[0]; h++) {
            memcpy(at, good, size);
            memcpy(at + places[p], &hostile[h], sizeof hostile[h]);
            struct ring_event got;
            if (!ring_event_decode(at, size, &got))
                continue;
            /* A length that its padding hides is all that can pass. */
            assert_true(hostile[h] < size);
            assert_ptr_equal(got.data.data + got.data.length, guarded + AREA);
            assert_true(got.topics.data + got.topics.length <= got.data.data);
        }
    /* Lengths whose 32-bit sum wraps to the right total. */
    const uint32_t wraps[] = {24 + 0x80000000u, 9 + 0x80000000u};
    memcpy(at, good, size);
    memcpy(at + 32, wraps, sizeof wraps);
    struct ring_event got;
    assert_false(ring_event_decode(at, size, &got));
}

/* Random bytes and random damage: whatever is accepted can be walked and read to its last byte. */
static void test_random(void **state)
{
    (void)state;
    struct slice topics[] = {SLICE_LITERAL("policy_data"), SLICE_LITERAL("a/b"), SLICE_LITERAL("")};
    struct ring_event event = sample;
    event.topic_count = 3;
    event.data = SLICE_LITERAL("{\"k\": [null, true]}");
    uint32_t size = ring_event_encoded_size(topics, 3, event.data);
    unsigned char good[256];
    ring_event_encode(good, &event, topics);
    unsigned seed = random_seed(12345);
    unsigned accepted = 0;
    for (int round = 0; round < 200000; round++) {
        uint32_t length = round % 4 ? size : (uint32_t)rand_r(&seed) % size;
        unsigned char *at = guarded + AREA - length;
        memcpy(at, good, length);
        for (int i = round % 3; i >= 0 && length > 0; i--)
            at[(uint32_t)rand_r(&seed) % length] = (unsigned char)rand_r(&seed);
        struct ring_event got;
        if (!ring_event_decode(at, length, &got))
            continue;
        accepted++;
        uint32_t offset = 0;
        uint32_t count = 0;
        struct slice topic;
        unsigned sum = 0;
        while (ring_event_topic_next(&got, &offset, &topic)) {
            count++;
            for (size_t i = 0; i < topic.length; i++)
                sum += (unsigned char)topic.data[i];
        }
        assert_int_equal(count, got.topic_count);
        for (size_t i = 0; i < sizeof got.notifier.bytes; i++)
            sum += got.notifier.bytes[i];
        for (size_t i = 0; i < got.data.length; i++)
            sum += (unsigned char)got.data.data[i];
        at[0] = (unsigned char)sum; /* so that the reads are not removed */
    }
    assert_true(accepted > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_exact_size),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_hostile_lengths),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
