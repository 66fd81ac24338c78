/* Clients that go away at a bad moment, and what the worker owes those that only ended their own side. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "tests/unit/worker/fixture_client.h"

static void client_reset(int fd)
{
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(fd);
}

/*
 * The reset is found by a write in the middle of a batch: more events wait for the client than go out in
 * one call. Its topic, of which it was the last subscriber, is gone from then on (SAN=address tells of a
 * use), and each delivery is counted as made or as dropped.
 */
static void test_reset_within_batch(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_config(&fixture);
    fixture.config.drain_batch_records = 1000;
    fixture_start(&fixture);
    int fd = client_open(&fixture);
    client_subscribe(&fixture, fd, "[\"only\"]");
    usleep(50000); /* the worker sleeps: the wake-up comes before the reset */
    kill(fixture.pid, SIGSTOP);
    for (int i = 0; i < 700; i++)
        fixture_event_quiet(&fixture, "only", NULL, SLICE_LITERAL("\"some data\""));
    ring_writer_wake(fixture.ring);
    client_reset(fd);
    kill(fixture.pid, SIGCONT);
    for (int i = 0; i < 500 && worker_table_connections(fixture.segment, 0) > 0; i++)
        usleep(2000);
    usleep(50000); /* the counters are written at the end of the batch */
    assert_int_equal(worker_table_connections(fixture.segment, 0), 0);
    assert_int_equal(
        fixture_counter(&fixture, COUNTER_DELIVERIES) + fixture_counter(&fixture, COUNTER_DELIVERIES_DROPPED),
        700);
    fd = client_open(&fixture);
    client_subscribe(&fixture, fd, "[\"only\"]");
    close(fd);
    fixture_stop(&fixture);
}

/* The same when the client is given up in the middle of a batch because it doesn't read. */
static void test_too_slow_within_batch(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_config(&fixture);
    fixture.config.drain_batch_records = 2000;
    fixture.config.drain_batch_bytes = 64 << 20;
    fixture.config.client_queue_max_bytes = 65536;
    fixture_start(&fixture);
    int fd = client_open_buffer(&fixture, 4096), opcode;
    client_subscribe(&fixture, fd, "[\"only\"]");
    char large[4000];
    memset(large, 'x', sizeof(large));
    large[0] = large[sizeof(large) - 1] = '"';
    usleep(50000);
    kill(fixture.pid, SIGSTOP);
    for (int i = 0; i < 2000; i++)
        fixture_event_quiet(&fixture, "only", NULL, (struct slice){large, sizeof(large)});
    ring_writer_wake(fixture.ring);
    kill(fixture.pid, SIGCONT);
    for (int i = 0; i < 1000 && fixture_counter(&fixture, COUNTER_CLIENTS_TOO_SLOW) == 0; i++)
        usleep(2000);
    usleep(50000);
    struct text got = {0};
    uint64_t received = 0;
    while ((opcode = client_read(&fixture, fd, &got, 3000)) == 1)
        received++;
    assert_int_equal(opcode, 8);
    assert_int_equal(received + fixture_counter(&fixture, COUNTER_DELIVERIES_DROPPED), 2000);
    text_free(&got);
    close(fd);
    fixture_stop(&fixture);
}

/* `nc -N` and the like end their side right after the request: a reply that is too large for the socket
 * still goes out whole. */
static void test_half_closed_gets_whole_reply(void **state)
{
    (void)state;
    static const char request[] = "GET /data/config HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    struct fixture fixture;
    struct text sources = {0}, reply = {0};
    text_append_string(&sources, "{\"config\":{\"entries\":[");
    for (int i = 0; i < 40000; i++)
        text_append_format(&sources,
            "%s{\"url\":\"http://localhost/%0200d\",\"topics\":[\"t\"],\"dst_path\":\"/%d\"}", i ? "," : "",
            i, i);
    text_append_string(&sources, "]}}");
    text_append_char(&sources, '\0');
    fixture_config(&fixture);
    fixture.config.data_config_sources = sources.data;
    fixture.config.limits.json_max_tokens = 1000000;
    fixture_start(&fixture);
    int fd = client_connect(&fixture, 4096), byte;
    client_write(fd, request, sizeof(request) - 1);
    shutdown(fd, SHUT_WR);
    usleep(300000); /* the worker sees the end before anybody reads */
    while ((byte = client_byte(&fixture, fd, 3000)) >= 0) {
        char more[65536];
        text_append_char(&reply, (char)byte);
        ssize_t length = recv(fd, more, sizeof(more), MSG_DONTWAIT);
        if (length > 0)
            text_append(&reply, more, (size_t)length);
    }
    assert_int_equal(byte, -1);
    text_append_char(&reply, '\0');
    const char *length = strstr(reply.data, "content-length: "), *body = strstr(reply.data, "\r\n\r\n");
    assert_non_null(length);
    assert_non_null(body);
    assert_true(strtoul(length + 16, NULL, 10) > 8000000);
    assert_int_equal(strlen(body + 4), strtoul(length + 16, NULL, 10));
    close(fd);
    text_free(&sources);
    text_free(&reply);
    fixture_stop(&fixture);
}

/* The worker stops while a client that has just connected is about to ask: it gets its answer; one that
 * says nothing, or half a head, holds nobody up. */
static void test_fresh_connections_while_stopping(void **state)
{
    (void)state;
    static const char request[] = "GET /healthcheck HTTP/1.1\r\nHost: x\r\n\r\n";
    struct fixture fixture;
    char reply[13] = {0};
    fixture_config(&fixture);
    fixture_start(&fixture);
    int silent = client_connect(&fixture, 0), asks = client_connect(&fixture, 0),
        half = client_connect(&fixture, 0);
    client_write(half, request, 10);
    for (int i = 0; i < 500 && worker_table_connections(fixture.segment, 0) < 3; i++)
        usleep(2000);
    usleep(20000);
    kill(fixture.pid, SIGTERM);
    usleep(100000);
    client_write(asks, request, sizeof(request) - 1);
    for (size_t i = 0; i + 1 < sizeof(reply); i++) {
        int byte = client_byte(&fixture, asks, 2000);
        assert_true(byte >= 0);
        reply[i] = (char)byte;
    }
    assert_string_equal(reply, "HTTP/1.1 200");
    while (client_byte(&fixture, asks, 1000) >= 0)
        ;
    assert_int_equal(client_byte(&fixture, silent, 2000), -1);
    close(asks);
    close(silent);
    assert_int_equal(fixture_wait(&fixture, 2000), 0);
    close(half);
    fixture_stop(&fixture);
}

/* A connection that another worker gives while this one has no descriptor left comes as a message without
 * it: counted. */
static void test_given_without_descriptor(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_config(&fixture);
    fixture_start(&fixture);
    assert_int_equal(send(fixture.pairs[0][1], "", 1, 0), 1);
    for (int i = 0; i < 500 && fixture_counter(&fixture, COUNTER_CONNECTIONS_REFUSED_LIMIT) == 0; i++)
        usleep(2000);
    assert_int_equal(fixture_counter(&fixture, COUNTER_CONNECTIONS_REFUSED_LIMIT), 1);
    assert_int_equal(worker_table_connections(fixture.segment, 0), 0);
    fixture_stop(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reset_within_batch),
        cmocka_unit_test(test_too_slow_within_batch),
        cmocka_unit_test(test_half_closed_gets_whole_reply),
        cmocka_unit_test(test_fresh_connections_while_stopping),
        cmocka_unit_test(test_given_without_descriptor),
    };
    return cmocka_run_group_tests_name("worker_gone", tests, NULL, NULL);
}
