/* The link to the workers when descriptors are short, or more come than should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/common/clock.h"
#include "shm/common/passed_descriptor.h"
#include "server/policy/bundle/bundle_wire.h"
#include "server/policy/policy_server.h"
#include "shm/link/policy_socket.h"
#include "shm/worker_table.h"
#include "tests/unit/shm/common/open_descriptors.h"

static struct rlimit before;

/* No descriptor is left to this process. */
static void descriptors_end(void)
{
    int next = open("/dev/null", O_RDONLY);
    assert_true(next >= 0);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    /* the lowest free one is the first that can't be had */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)next, before.rlim_max}), 0);
}

static void descriptors_come_back(void)
{
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* ---- the server ---- */

static unsigned webhooks;

static void on_webhook(void *context)
{
    (void)context;
    webhooks++;
}

static void on_request(void *context, policy_peer peer, uint64_t id, struct slice body)
{
    (void)context;
    (void)peer;
    (void)id;
    (void)body;
}

static void on_gone(void *context, policy_peer peer)
{
    (void)context;
    (void)peer;
}

static unsigned run_loop(struct event_base *base, unsigned milliseconds)
{
    uint64_t end = clock_monotonic_ns() + milliseconds * CLOCK_MILLISECOND;
    unsigned turns = 0;
    for (; clock_monotonic_ns() < end; turns++) {
        const struct timeval most = {0, 20 * 1000};
        event_base_loopexit(base, &most);
        event_base_loop(base, EVLOOP_ONCE);
    }
    return turns;
}

static void test_accepting_pauses_without_descriptors(void **state)
{
    char address[POLICY_ADDRESS_MAX];
    struct error err = {0};
    const struct segment_settings settings = {.ring_bytes = 65536, .uplink_bytes = 65536, .slots = 1};
    const struct policy_server_hooks hooks = {on_webhook, on_request, on_gone, NULL};
    (void)state;
    webhooks = 0;
    struct segment *segment = segment_create(&settings, &err);
    assert_non_null(segment);
    worker_table_set_pid(segment, 0, (int32_t)getpid());
    struct event_base *base = event_base_new();
    int listener = policy_socket_listen(address, &err);
    assert_true(listener >= 0);
    struct policy_server *server = policy_server_open(base, listener, segment, &hooks);
    int client = policy_socket_connect(address);
    assert_true(client >= 0);
    assert_int_equal(
        policy_socket_send(client, POLICY_MESSAGE_WEBHOOK, 0, SLICE_LITERAL(""), -1), POLICY_SENT);
    descriptors_end();
    unsigned turns = run_loop(base, 400);
    descriptors_come_back();
    assert_int_equal(webhooks, 0);
    assert_true(turns < 60); /* one every 20 ms and a few; a loop that spins has thousands */
    for (unsigned i = 0; i < 500 && webhooks == 0; i++)
        run_loop(base, 20);
    assert_int_equal(webhooks, 1); /* what was sent meanwhile is not lost */
    policy_server_close(server);
    close(client);
    event_base_free(base);
    segment_close(segment);
}

/* ---- descriptors that come ---- */

static int ends[2];

static void send_descriptors(struct slice bytes, size_t count)
{
    const int descriptors[] = {ends[0], ends[1], ends[0]};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof descriptors)];
    } control = {.bytes = {0}};
    struct iovec part = {(void *)(uintptr_t)bytes.data, bytes.length};
    struct msghdr message = {.msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(rights), descriptors, count * sizeof(int));
    assert_int_equal(sendmsg(ends[0], &message, 0), (ssize_t)bytes.length);
}

static int make_pair(void **state)
{
    struct error err = {0};
    (void)state;
    return bundle_wire_pair(ends, &err);
}

static int close_pair(void **state)
{
    (void)state;
    close(ends[0]);
    close(ends[1]);
    return 0;
}

static void test_surplus_descriptors_are_closed(void **state)
{
    const struct policy_message_head head = {POLICY_MESSAGE_BUNDLE_ANSWER, POLICY_LINK_VERSION, 1};
    const struct slice bytes = {(const char *)&head, sizeof head};
    char *buffer = malloc(POLICY_PACKET_MAX);
    struct policy_message message;
    struct text text = {0};
    int descriptor;
    (void)state;
    unsigned count = open_descriptors();
    send_descriptors(bytes, 1);
    assert_int_equal(policy_socket_receive(ends[1], buffer, &message), POLICY_RECEIVED);
    assert_int_equal(fcntl(message.descriptor, F_GETFD), FD_CLOEXEC);
    assert_int_equal(open_descriptors(), count + 1);
    close(message.descriptor);
    for (size_t sent = 2; sent <= 3; sent++) {
        send_descriptors(bytes, sent);
        assert_int_equal(policy_socket_receive(ends[1], buffer, &message), POLICY_CLOSED);
        assert_int_equal(message.descriptor, -1);
        assert_int_equal(open_descriptors(), count);
        send_descriptors(bytes, sent);
        assert_int_equal(bundle_wire_receive(ends[1], &text, &descriptor), sizeof head);
        assert_int_equal(descriptor, -1);
        assert_int_equal(open_descriptors(), count);
    }
    text_free(&text);
    free(buffer);
}

static void test_no_room_for_a_descriptor(void **state)
{
    const struct policy_message_head head = {POLICY_MESSAGE_BUNDLE_ANSWER, POLICY_LINK_VERSION, 1};
    const struct slice bytes = {(const char *)&head, sizeof head};
    char *buffer = malloc(POLICY_PACKET_MAX);
    struct policy_message message;
    (void)state;
    send_descriptors(bytes, 1);
    descriptors_end();
    enum policy_received received = policy_socket_receive(ends[1], buffer, &message);
    descriptors_come_back();
    assert_int_equal(received, POLICY_CLOSED); /* not an answer without its bundle */
    assert_int_equal(message.descriptor, -1);
    free(buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepting_pauses_without_descriptors),
        cmocka_unit_test_setup_teardown(test_surplus_descriptors_are_closed, make_pair, close_pair),
        cmocka_unit_test_setup_teardown(test_no_room_for_a_descriptor, make_pair, close_pair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
