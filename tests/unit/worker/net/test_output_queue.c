/* The output queue over a socket that takes little at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "shm/common/text.h"
#include "tests/unit/shm/common/random_seed.h"
#include "worker/net/output_queue.h"

static void pair_open(int pair[2])
{
    int small = 2048;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
}

static void drain(int fd, struct text *out, size_t at_most)
{
    char bytes[4096];
    while (at_most > 0) {
        ssize_t length = recv(fd, bytes, at_most < sizeof(bytes) ? at_most : sizeof(bytes), 0);
        if (length <= 0)
            return;
        text_append(out, bytes, (size_t)length);
        at_most -= (size_t)length;
    }
}

static void test_partial_writes(void **state)
{
    (void)state;
    int pair[2];
    pair_open(pair);
    uint64_t ledger = 0;
    struct output_queue queue = {.ledger = &ledger};
    struct text expected = {0}, got = {0};
    srandom(random_seed(11));
    struct text shared = {0};
    for (int i = 0; i < 30000; i++)
        text_append_char(&shared, (char)('a' + i % 26));
    struct output_block *block = output_block_make(text_slice(&shared), &ledger);
    for (int frame = 0; frame < 60; frame++) {
        char head[200], tail[20];
        int head_length = snprintf(head, sizeof(head), "<%d%*s", frame, (int)(random() % 150), "");
        int tail_length = snprintf(tail, sizeof(tail), "%d>", frame);
        bool large = frame % 7 == 3;
        struct output_parts parts = {
            .head = {head, (size_t)head_length},
            .tail = {tail, (size_t)tail_length},
            .block = large ? output_block_take(block) : NULL,
            .delivery = true,
        };
        size_t begun = frame == 0 ? (size_t)head_length + 1 : 0; /* the first one was sent in part before */
        struct text whole = {0};
        text_append(&whole, head, (size_t)head_length);
        if (large)
            text_append_slice(&whole, text_slice(&shared));
        text_append(&whole, tail, (size_t)tail_length);
        parts.sent = begun;
        text_append(&expected, whole.data + begun, whole.length - begun);
        text_free(&whole);
        output_queue_append(&queue, &parts);
    }
    output_block_drop(block);
    assert_int_equal(queue.bytes, expected.length);
    assert_true(
        ledger > shared.length && ledger < 2 * shared.length); /* the block once, not for each frame */
    enum output_result result;
    uint64_t calls = 0;
    struct transport transport;
    transport_open(&transport, pair[0]);
    do {
        size_t before = queue.bytes, sent;
        result = output_queue_flush(&queue, &transport, &sent, &calls);
        assert_int_equal(before - queue.bytes, sent);
        assert_int_not_equal(result, OUTPUT_ERROR);
        drain(pair[1], &got, 1 + (size_t)random() % 3000);
    } while (result == OUTPUT_AGAIN);
    drain(pair[1], &got, SIZE_MAX);
    assert_int_equal(queue.bytes, 0);
    assert_null(queue.first);
    assert_int_equal(ledger, 0); /* frames and block are gone */
    assert_int_equal(got.length, expected.length);
    assert_memory_equal(got.data, expected.data, got.length);
    assert_true(calls > 10);
    text_free(&shared);
    text_free(&expected);
    text_free(&got);
    transport_close(&transport);
    close(pair[1]);
}

static void append(struct output_queue *queue, const char *text, size_t sent, bool delivery)
{
    output_queue_append(
        queue, &(struct output_parts){.head = slice_from_string(text), .sent = sent, .delivery = delivery});
}

static void test_drop(void **state)
{
    (void)state;
    uint64_t ledger = 0;
    struct output_queue queue = {.ledger = &ledger};
    append(&queue, "begun", 2, true);
    append(&queue, "second", 0, true);
    append(&queue, "reply", 0, false);
    append(&queue, "third", 0, true);
    assert_int_equal(queue.bytes, 3 + 6 + 5 + 5);
    assert_int_equal(output_queue_drop_unsent(&queue), 2);
    assert_int_equal(queue.bytes, 3); /* the frame in progress stays whole */
    append(&queue, "close", 0, false);
    int pair[2];
    pair_open(pair);
    size_t sent;
    uint64_t calls = 0;
    struct transport transport;
    transport_open(&transport, pair[0]);
    assert_int_equal(output_queue_flush(&queue, &transport, &sent, &calls), OUTPUT_DONE);
    struct text got = {0};
    drain(pair[1], &got, SIZE_MAX);
    assert_string_equal(got.data, "gunclose");
    text_free(&got);

    append(&queue, "a", 0, true);
    append(&queue, "b", 0, true);
    assert_int_equal(output_queue_drop_unsent(&queue), 2);
    assert_null(queue.first);
    append(&queue, "ab", 1, true);
    append(&queue, "b", 0, true);
    assert_int_equal(output_queue_clear(&queue), 2);
    assert_int_equal(queue.bytes, 0);
    transport_close(&transport);
    close(pair[1]);
}

static void test_broken_peer(void **state)
{
    (void)state;
    int pair[2];
    pair_open(pair);
    close(pair[1]);
    uint64_t ledger = 0;
    struct output_queue queue = {.ledger = &ledger};
    append(&queue, "x", 0, false);
    size_t sent;
    uint64_t calls = 0;
    struct transport transport;
    transport_open(&transport, pair[0]);
    assert_int_equal(output_queue_flush(&queue, &transport, &sent, &calls), OUTPUT_ERROR);
    assert_int_equal(errno, EPIPE);
    output_queue_clear(&queue);
    transport_close(&transport);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_partial_writes),
        cmocka_unit_test(test_drop),
        cmocka_unit_test(test_broken_peer),
    };
    return cmocka_run_group_tests_name("output_queue", tests, NULL, NULL);
}
