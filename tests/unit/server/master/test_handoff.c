/* Connections on their way to a worker that has gone must reach another one, or be closed; none may hang. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "server/master/handoff.h"

static void open_pair(int pair[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
}

static void give(int through, int descriptor)
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    char note[] = "peer";
    struct iovec part = {note, sizeof note};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    assert_int_equal(sendmsg(through, &message, 0), sizeof note);
    close(descriptor);
}

static int take(int from, char *note, size_t size)
{
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {note, size};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int descriptor;
    if (recvmsg(from, &message, MSG_DONTWAIT) <= 0)
        return -1;
    memcpy(&descriptor, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof descriptor);
    return descriptor;
}

/* True when the other end of `descriptor` is still open somewhere. */
static int is_open(int descriptor)
{
    struct pollfd poll_set = {.fd = descriptor, .events = POLLIN};
    return poll(&poll_set, 1, 0) == 0;
}

static void test_moves_connection_and_note(void **state)
{
    int gone[2], living[2], client[2];
    char note[16];
    (void)state;
    open_pair(gone);
    open_pair(living);
    open_pair(client);
    give(gone[1], client[1]);
    assert_int_equal(handoff_rescue(gone[0], living[1]), 1);
    int moved = take(living[0], note, sizeof note);
    assert_true(moved >= 0);
    assert_string_equal(note, "peer");
    assert_true(is_open(client[0]));
    assert_int_equal(write(moved, "x", 1), 1);
    close(moved);
    assert_false(is_open(client[0])); /* the rescuer kept no copy */
}

static void test_closes_when_nobody_lives(void **state)
{
    int gone[2], client[2];
    (void)state;
    open_pair(gone);
    open_pair(client);
    give(gone[1], client[1]);
    assert_int_equal(handoff_rescue(gone[0], -1), 1);
    assert_false(is_open(client[0]));
}

static void test_nothing_waiting(void **state)
{
    int gone[2];
    (void)state;
    open_pair(gone);
    assert_int_equal(handoff_rescue(gone[0], -1), 0);
}

static void test_full_receiver_closes(void **state)
{
    int gone[2], living[2], client[2];
    char filler[4096] = {0};
    (void)state;
    open_pair(gone);
    open_pair(living);
    open_pair(client);
    while (send(living[1], filler, sizeof filler, MSG_DONTWAIT) > 0)
        ;
    assert_int_equal(errno, EAGAIN);
    give(gone[1], client[1]);
    assert_int_equal(handoff_rescue(gone[0], living[1]), 1);
    assert_false(is_open(client[0]));
}

/* A worker gone mad: two descriptors in one message, of which the kernel delivers both. */
static void test_two_descriptors_are_closed(void **state)
{
    int gone[2], living[2], client[2];
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control = {.bytes = {0}};
    (void)state;
    open_pair(gone);
    open_pair(living);
    open_pair(client);
    const int both[2] = {client[1], client[1]};
    struct iovec part = {(void *)(uintptr_t) "peer", 5};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.bytes};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof both);
    memcpy(CMSG_DATA(rights), both, sizeof both);
    assert_int_equal(sendmsg(gone[1], &message, 0), 5);
    close(client[1]);
    assert_int_equal(handoff_rescue(gone[0], living[1]), 0);
    assert_false(is_open(client[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moves_connection_and_note),
        cmocka_unit_test(test_closes_when_nobody_lives),
        cmocka_unit_test(test_nothing_waiting),
        cmocka_unit_test(test_full_receiver_closes),
        cmocka_unit_test(test_two_descriptors_are_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
