/* Messages between workers: each kind goes to whom it was registered for, and no descriptor is left open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "worker/client/peers.h"

struct seen {
    unsigned count;
    uint32_t number;
    int fd;
};

static void receive(void *context, const struct handoff_message *message, int fd)
{
    struct seen *seen = context;
    seen->count++;
    seen->number = message->number;
    seen->fd = fd;
}

static void test_kinds(void **state)
{
    const struct handoff_message question = {.kind = HANDOFF_ASK_CLIENTS, .slot = 1, .number = 7};
    const struct handoff_message answer = {.kind = HANDOFF_CLIENTS, .slot = 1, .number = 8};
    struct event_base *base = event_base_new();
    struct seen asked = {0};
    int own[2], pipes[2];
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, own), 0);
    assert_int_equal(pipe(pipes), 0);
    struct peers *peers = peers_open(base, own[0], (const int[]){own[1], -1}, 2);
    peers_register(peers, HANDOFF_ASK_CLIENTS, receive, &asked);
    assert_true(peers_has(peers, 0));
    assert_false(peers_has(peers, 1));
    assert_false(peers_has(peers, 2));
    assert_false(peers_send(peers, 1, &question, -1));

    assert_true(peers_send(peers, 0, &question, pipes[1]));
    assert_int_equal(peers_on_the_way(peers, 0), 1);
    event_base_loop(base, EVLOOP_ONCE);
    assert_int_equal(asked.count, 1);
    assert_int_equal(asked.number, 7);
    assert_int_equal(write(asked.fd, "x", 1), 1);
    close(asked.fd);
    assert_int_equal(peers_on_the_way(peers, 0), 0);

    /* nobody wants an answer: its descriptor is closed, and the pipe ends with the last write end */
    assert_true(peers_send(peers, 0, &answer, pipes[1]));
    close(pipes[1]);
    event_base_loop(base, EVLOOP_ONCE);
    assert_int_equal(asked.count, 1);
    char bytes[2];
    assert_int_equal(read(pipes[0], bytes, sizeof bytes), 1);
    assert_int_equal(read(pipes[0], bytes, sizeof bytes), 0);
    close(pipes[0]);
    peers_close(peers);
    assert_int_equal(fcntl(own[0], F_GETFD), -1);
    assert_int_equal(fcntl(own[1], F_GETFD), -1);
    event_base_free(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
    };
    return cmocka_run_group_tests_name("peers", tests, NULL, NULL);
}
