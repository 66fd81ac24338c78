/* Messages with a descriptor: shm/common/passed_descriptor.h. No descriptor may stay open by mistake,
 * whatever comes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "shm/common/passed_descriptor.h"
#include "tests/unit/shm/common/open_descriptors.h"

#define DESCRIPTORS_MAX 4

static int ends[2];

static int make_pair(void **state)
{
    (void)state;
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
}

static int close_pair(void **state)
{
    (void)state;
    close(ends[0]);
    close(ends[1]);
    return 0;
}

/* Sends `count` copies of standard error in one message, which the product's own send can't do. */
static void send_several(const char *bytes, unsigned count)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec part = {(void *)(uintptr_t)bytes, strlen(bytes)};
    struct msghdr message = {.msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(count * sizeof(int));
    for (unsigned i = 0; i < count; i++)
        memcpy(CMSG_DATA(rights) + i * sizeof(int), &(int){STDERR_FILENO}, sizeof(int));
    assert_int_equal(sendmsg(ends[0], &message, 0), strlen(bytes));
}

static void with_one_and_with_none(void **state)
{
    const struct iovec parts[] = {{(void *)(uintptr_t) "ab", 2}, {(void *)(uintptr_t) "c", 1}};
    char buffer[16];
    int descriptor;
    bool cut;
    (void)state;
    assert_int_equal(passed_descriptor_send(ends[0], parts, 2, STDERR_FILENO, 0), 3);
    assert_int_equal(passed_descriptor_send(ends[0], parts, 2, -1, 0), 3);
    assert_int_equal(passed_descriptor_receive(ends[1], buffer, sizeof buffer, 0, &descriptor, &cut), 3);
    assert_memory_equal(buffer, "abc", 3);
    assert_true(descriptor > STDERR_FILENO);
    assert_false(cut);
    assert_int_equal(close(descriptor), 0);
    assert_int_equal(passed_descriptor_receive(ends[1], buffer, sizeof buffer, 0, &descriptor, &cut), 3);
    assert_int_equal(descriptor, -1);
    assert_false(cut);
}

static void nothing_and_the_end(void **state)
{
    char buffer[16];
    int descriptor = 7;
    bool cut = true;
    (void)state;
    assert_true(
        passed_descriptor_receive(ends[1], buffer, sizeof buffer, MSG_DONTWAIT, &descriptor, &cut) < 0);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(descriptor, -1);
    assert_false(cut);
    shutdown(ends[0], SHUT_RDWR);
    assert_int_equal(passed_descriptor_receive(ends[1], buffer, sizeof buffer, 0, &descriptor, NULL), 0);
    assert_int_equal(descriptor, -1);
}

static void several_are_all_closed(void **state)
{
    unsigned before = open_descriptors();
    (void)state;
    for (unsigned count = 2; count <= DESCRIPTORS_MAX; count++) {
        char buffer[16];
        int descriptor;
        bool cut;
        send_several("x", count);
        assert_int_equal(passed_descriptor_receive(ends[1], buffer, sizeof buffer, 0, &descriptor, &cut), 1);
        assert_int_equal(descriptor, -1);
        assert_true(cut);
        assert_int_equal(open_descriptors(), before);
    }
}

static void a_message_that_is_too_long(void **state)
{
    char buffer[2];
    int descriptor;
    bool cut;
    (void)state;
    send_several("abc", 1);
    assert_int_equal(passed_descriptor_receive(ends[1], buffer, sizeof buffer, 0, &descriptor, &cut), 2);
    assert_true(cut);
    if (descriptor >= 0)
        close(descriptor);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(with_one_and_with_none, make_pair, close_pair),
        cmocka_unit_test_setup_teardown(nothing_and_the_end, make_pair, close_pair),
        cmocka_unit_test_setup_teardown(several_are_all_closed, make_pair, close_pair),
        cmocka_unit_test_setup_teardown(a_message_that_is_too_long, make_pair, close_pair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
