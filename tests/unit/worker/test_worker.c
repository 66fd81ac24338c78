/* A whole worker under a master played by the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "shm/common/clock.h"
#include "tests/unit/worker/fixture_client.h"

#define PING(id) "{\"request\":{\"method\":\"ping\",\"arguments\":{},\"call_id\":\"" id "\"}}"

static void publish(int fd, const char *arguments, const char *id)
{
    struct text call = {0};
    text_append_format(
        &call, "{\"request\":{\"method\":\"publish\",\"arguments\":%s,\"call_id\":\"%s\"}}", arguments, id);
    client_say(fd, call.data);
    text_free(&call);
}

/* The data of the next notify, checked to the byte around it. */
static void expect_notify(struct fixture *fixture, int fd, const char *topic, const char *data)
{
    struct text got = {0}, expected = {0};
    assert_int_equal(client_read(fixture, fd, &got, 3000), 1);
    const char *id = strstr(got.data, "\"id\": \""), *call = strstr(got.data, "\"call_id\": \"");
    const char *subscriber = strstr(got.data, "\"subscriber_id\": \"");
    assert_true(id && call && subscriber);
    text_append_format(&expected,
        "{\"request\": {\"method\": \"notify\", \"arguments\": {\"subscription\": {\"id\": \"%.32s\", "
        "\"subscriber_id\": "
        "\"%.32s\", \"topic\": \"%s\", \"notifier_id\": null}, \"data\": %s}, \"call_id\": \"%.32s\"}, "
        "\"response\": null}",
        id + 7, subscriber + 18, topic, data, call + 12);
    assert_string_equal(got.data, expected.data);
    text_free(&got);
    text_free(&expected);
}

static void expect_silence(struct fixture *fixture, int fd)
{
    assert_int_equal(client_byte(fixture, fd, 100), -2);
}

static void test_publish_and_notify(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_config(&fixture);
    fixture_start(&fixture);
    int a = client_open(&fixture), b = client_open(&fixture);
    client_subscribe(&fixture, a, "[\"t\",\"u\"]");
    client_subscribe(&fixture, b, "[\"t\"]");
    publish(a, "{\"topics\":[\"t\",\"u\",\"t\"],\"data\":{\"n\": 9007199254740993, \"x\":1.0, \"x\":1E400}}",
        "p");
    expect_notify(&fixture, b, "t", "{\"n\": 9007199254740993, \"x\":1.0, \"x\":1E400}");
    expect_notify(&fixture, b, "t", "{\"n\": 9007199254740993, \"x\":1.0, \"x\":1E400}");
    client_expect(&fixture, a, REPLY("true", "bool", "p")); /* not its own event */
    publish(a, "{\"topics\":\"u\",\"notifier_id\":\"x\",\"sync\":false}", "q");
    client_expect(&fixture, a, REPLY("true", "bool", "q"));
    expect_notify(&fixture, a, "u", "null");
    expect_silence(&fixture, b);
    client_say(
        a, "{\"request\":{\"method\":\"unsubscribe\",\"arguments\":{\"topics\":[\"t\"]},\"call_id\":\"r\"}}");
    client_expect(&fixture, a, REPLY("true", "bool", "r"));
    fixture_event(&fixture, "t", NULL, SLICE_LITERAL("5"));
    expect_notify(&fixture, b, "t", "5");
    expect_silence(&fixture, a);
    assert_int_equal(fixture_counter(&fixture, COUNTER_DELIVERIES), 4);
    close(a);
    close(b);
    fixture_stop(&fixture);
}

static void test_replies_keep_order(void **state)
{
    (void)state;
    struct fixture fixture;
    struct text burst = {0};
    fixture_config(&fixture);
    fixture_start(&fixture);
    int fd = client_open(&fixture);
    frame_append(&burst, 1,
        SLICE_LITERAL(
            "{\"request\":{\"method\":\"publish\",\"arguments\":{\"topics\":[\"x\"]},\"call_id\":\"1\"}}"));
    frame_append(&burst, 1, SLICE_LITERAL(PING("2")));
    frame_append(&burst, 9, SLICE_LITERAL("p"));
    frame_append(&burst, 1,
        SLICE_LITERAL(
            "{\"request\":{\"method\":\"publish\",\"arguments\":{\"topics\":[\"x\"]},\"call_id\":\"3\"}}"));
    frame_append(&burst, 1, SLICE_LITERAL(PING("4")));
    fixture.hold = true; /* the master is slow */
    client_write(fd, burst.data, burst.length);
    expect_silence(&fixture, fd);
    fixture.hold = false;
    client_expect(&fixture, fd, REPLY("true", "bool", "1"));
    client_expect(&fixture, fd, REPLY("\"pong\"", "str", "2"));
    struct text got = {0};
    assert_int_equal(client_read(&fixture, fd, &got, 1000), 10);
    text_free(&got);
    client_expect(&fixture, fd, REPLY("true", "bool", "3"));
    client_expect(&fixture, fd, REPLY("\"pong\"", "str", "4"));

    /* a client that goes away while its publish waits */
    fixture.hold = true;
    client_write(fd, burst.data, burst.length);
    usleep(20000);
    close(fd);
    usleep(20000);
    fixture.hold = false;
    fd = client_open(&fixture);
    client_say(fd, PING("5"));
    client_expect(&fixture, fd, REPLY("\"pong\"", "str", "5"));
    text_free(&burst);
    close(fd);
    fixture_stop(&fixture);
}

static void post_waiting(int fd)
{
    static const char request[] = "POST /data/config?wait=backbone HTTP/1.1\r\nhost: x\r\ncontent-length: "
                                  "25\r\n\r\n{\"entries\":[{\"url\":\"u\"}]}";
    client_write(fd, request, sizeof(request) - 1);
}

/* The next reply starts with `status` and ends with `body`. */
static void expect_reply(struct fixture *fixture, int fd, const char *status, const char *end)
{
    struct text got = {0};
    while (!got.data || !strstr(got.data, "\r\n\r\n") || got.data[got.length - 1] != '}') {
        int byte = client_byte(fixture, fd, 3000);
        assert_true(byte >= 0);
        text_append_char(&got, (char)byte);
    }
    assert_ptr_equal(strstr(got.data, status), got.data);
    assert_string_equal(got.data + got.length - strlen(end), end);
    text_free(&got);
}

static void acknowledge(struct fixture *fixture)
{
    memcpy(fixture_reserve(fixture, RING_ACKNOWLEDGED, sizeof(fixture->acknowledgement)),
        &fixture->acknowledgement, sizeof(fixture->acknowledgement));
    ring_writer_commit(fixture->ring);
    ring_writer_wake(fixture->ring);
}

/* An HTTP publisher that waits for the backbone: acknowledged, not acknowledged, too late, of another
 * incarnation. */
static void test_waits_for_backbone(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_config(&fixture);
    fixture.config.publish_wait_seconds = 0.4;
    fixture_start(&fixture);
    backbone_state_write(fixture.segment, BACKBONE_UP);
    int fd = client_connect(&fixture, 0);
    post_waiting(fd);
    assert_int_equal(client_byte(&fixture, fd, 150), -2); /* ordered, which is not enough */
    assert_int_equal(fixture.flags, RING_EVENT_WANTS_ACKNOWLEDGEMENT | RING_EVENT_SERVER_SIDE);
    acknowledge(&fixture);
    expect_reply(&fixture, fd, "HTTP/1.1 200 ", "{\"status\":\"ok\"}");

    post_waiting(fd);
    assert_int_equal(client_byte(&fixture, fd, 50), -2);
    fixture.acknowledgement.ok = 0;
    acknowledge(&fixture);
    expect_reply(&fixture, fd, "HTTP/1.1 504 ", "other servers don't get it\"}");

    post_waiting(fd);
    assert_int_equal(client_byte(&fixture, fd, 50), -2);
    fixture.acknowledgement.incarnation++;
    acknowledge(&fixture); /* nobody of this life */
    uint64_t began = clock_monotonic_ns();
    expect_reply(&fixture, fd, "HTTP/1.1 504 ", "when the backbone takes it\"}");
    assert_true(clock_monotonic_ns() - began < 2 * CLOCK_SECOND);
    fixture.acknowledgement.incarnation--;
    acknowledge(&fixture); /* too late: ignored */

    backbone_state_write(fixture.segment, BACKBONE_NONE);
    post_waiting(fd);
    expect_reply(&fixture, fd, "HTTP/1.1 200 ", "{\"status\":\"ok\"}");
    assert_int_equal(fixture.flags, RING_EVENT_SERVER_SIDE);
    assert_int_equal(fixture_counter(&fixture, COUNTER_ACKNOWLEDGEMENTS_LATE), 1);

    backbone_state_write(
        fixture.segment, BACKBONE_UP); /* the connection, then the worker, goes while it waits */
    post_waiting(fd);
    assert_int_equal(client_byte(&fixture, fd, 50), -2);
    close(fd);
    fd = client_connect(&fixture, 0);
    post_waiting(fd);
    assert_int_equal(client_byte(&fixture, fd, 50), -2);
    fixture_stop(&fixture);
    close(fd);
}

static void test_refusals(void **state)
{
    (void)state;
    struct fixture fixture;
    struct text large = {0};
    fixture_config(&fixture);
    fixture.config.subscriptions_max = 3;
    fixture_start(&fixture);
    event_limit_write(fixture.segment, 2000);
    int fd = client_open(&fixture);
    fixture.refuse = true;
    publish(fd, "{\"topics\":[\"t\"]}", "1");
    client_expect(&fixture, fd, REPLY("false", "bool", "1"));
    fixture.refuse = false;
    publish(fd, "{\"topics\":[\"t\"]}", "2");
    client_expect(&fixture, fd, REPLY("true", "bool", "2"));
    text_append_string(&large, "{\"topics\":[\"t\"],\"data\":\"");
    for (int i = 0; i < 2000; i++)
        text_append_char(&large, 'x');
    text_append_string(&large, "\"}");
    publish(fd, large.data, "3");
    client_expect(&fixture, fd, REPLY("false", "bool", "3"));
    publish(fd, "{\"topics\":[\"__EventNotifier_ALL_TOPICS__\"]}", "4");
    client_expect(&fixture, fd, REPLY("false", "bool", "4"));
    client_subscribe(&fixture, fd, "[\"a\",\"b\"]");
    client_say(fd, "{\"request\":{\"method\":\"subscribe\",\"arguments\":{\"topics\":[\"c\",\"d\"]},\"call_"
                   "id\":\"5\"}}");
    client_expect(&fixture, fd, REPLY("false", "bool", "5"));
    client_subscribe(&fixture, fd, "[\"c\"]");
    client_say(fd, "{\"request\":{\"method\":\"nope\"}}");
    struct text got = {0};
    assert_int_equal(client_read(&fixture, fd, &got, 1000), 8);
    assert_memory_equal(got.data, "\x03\xe8", 2);
    client_frame(fd, 8, SLICE_LITERAL("\x03\xe8")); /* their close frame ends it */
    assert_int_equal(client_byte(&fixture, fd, 1000), -1);
    text_free(&got);
    text_free(&large);
    close(fd);
    fixture_stop(&fixture);
}

/* Sizes on both sides of what is copied, shared and cut, to clients of which some read late. */
static void test_sizes(void **state)
{
    (void)state;
    static const size_t sizes[] = {2, 100, 256, 257, 4095, 4096, 4097, 65000, 66000, 300000, 1000000};
    struct fixture fixture;
    fixture_config(&fixture);
    fixture.config.client_queue_max_bytes = 64 << 20;
    fixture_start(&fixture);
    int quick = client_open(&fixture), late[3];
    client_subscribe(&fixture, quick, "[\"t\"]");
    for (int i = 0; i < 3; i++) {
        late[i] = client_open_buffer(&fixture, 4096);
        client_subscribe(&fixture, late[i], "[\"t\"]");
    }
    struct text all[22];
    for (int i = 0; i < 22; i++) {
        all[i] = filler(sizes[i % 11]);
        fixture_event(&fixture, "t", NULL, text_slice(&all[i]));
    }
    for (int i = 0; i < 22; i++)
        expect_notify(&fixture, quick, "t", all[i].data);
    for (int c = 0; c < 3; c++) {
        client_say(late[c], PING("p"));
        for (int i = 0; i < 22; i++)
            expect_notify(&fixture, late[c], "t", all[i].data);
        client_expect(&fixture, late[c], REPLY("\"pong\"", "str", "p"));
        close(late[c]);
    }
    assert_int_equal(fixture_counter(&fixture, COUNTER_DELIVERIES), 88);
    assert_int_equal(fixture_counter(&fixture, COUNTER_DELIVERIES_DROPPED), 0);
    for (int i = 0; i < 22; i++)
        text_free(&all[i]);
    close(quick);
    fixture_stop(&fixture);
}

/* Frames are whole up to the close frame, and the others get everything at once. */
static void test_slow_client(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_config(&fixture);
    fixture_start(&fixture);
    int good = client_open(&fixture), slow = client_open_buffer(&fixture, 4096);
    client_subscribe(&fixture, good, "[\"t\"]");
    client_subscribe(&fixture, slow, "[\"t\"]");
    struct text data = filler(200000), got = {0};
    int sent = 0;
    for (; sent < 200 && fixture_counter(&fixture, COUNTER_CLIENTS_TOO_SLOW) == 0; sent++) {
        fixture_event(&fixture, "t", NULL, text_slice(&data));
        expect_notify(&fixture, good, "t", data.data);
        /* answered after the fan-out: an event more would find the slow one closing */
        client_say(good, PING("p"));
        client_expect(&fixture, good, REPLY("\"pong\"", "str", "p"));
    }
    assert_int_equal(fixture_counter(&fixture, COUNTER_CLIENTS_TOO_SLOW), 1);
    assert_true(fixture_counter(&fixture, COUNTER_DELIVERIES_DROPPED) > 0);
    int received = 0, opcode;
    while ((opcode = client_read(&fixture, slow, &got, 3000)) == 1)
        received++;
    assert_int_equal(opcode, 8);
    assert_memory_equal(got.data,
        "\x03\xf5"
        "client too slow",
        17);
    assert_int_equal(client_byte(&fixture, slow, 3000), -1);
    assert_int_equal((uint64_t)received + fixture_counter(&fixture, COUNTER_DELIVERIES_DROPPED), sent);
    text_free(&data);
    text_free(&got);
    close(good);
    close(slow);
    fixture_stop(&fixture);
}

static void test_stalled_client(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_config(&fixture);
    fixture.config.client_queue_max_bytes = 64 << 20;
    fixture.config.client_queue_max_seconds = 0.3;
    fixture_start(&fixture);
    int slow = client_open_buffer(&fixture, 4096);
    client_subscribe(&fixture, slow, "[\"t\"]");
    struct text data = filler(1000000);
    for (int i = 0; i < 8; i++)
        fixture_event(&fixture, "t", NULL, text_slice(&data));
    for (int i = 0; i < 400 && fixture_counter(&fixture, COUNTER_CLIENTS_TOO_SLOW) == 0; i++)
        usleep(5000);
    assert_int_equal(fixture_counter(&fixture, COUNTER_CLIENTS_TOO_SLOW), 1);
    /* it gets its linger time and no more */
    for (int i = 0; i < 1000 && worker_table_connections(fixture.segment, 0) > 0; i++)
        usleep(5000);
    assert_int_equal(worker_table_connections(fixture.segment, 0), 0);
    text_free(&data);
    close(slow);
    fixture_stop(&fixture);
}

static void test_keepalive(void **state)
{
    (void)state;
    struct fixture fixture;
    struct text got = {0};
    fixture_config(&fixture);
    fixture.config.websocket_ping_interval = 0.1;
    fixture.config.websocket_ping_timeout = 0.2;
    fixture_start(&fixture);
    int fd = client_open(&fixture);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(client_read(&fixture, fd, &got, 1000), 9);
        assert_int_equal(got.length, 4);
        client_frame(fd, 10, SLICE_LITERAL("none")); /* not the answer */
        client_frame(fd, 10, text_slice(&got));
    }
    assert_int_equal(client_read(&fixture, fd, &got, 1000), 9);
    client_frame(fd, 10, SLICE_LITERAL("none"));
    client_expect_close(&fixture, fd, 1011, "keepalive ping timeout");
    assert_int_equal(fixture_counter(&fixture, COUNTER_CLIENTS_PING_TIMEOUT), 1);
    text_free(&got);
    close(fd);
    fixture_stop(&fixture);
}

/* Clients that came together are not pinged together, but over the second half of the interval. */
static void test_first_pings_are_spread(void **state)
{
    (void)state;
    enum { CLIENTS = 64, SLICES = 16 };
    struct fixture fixture;
    int clients[CLIENTS], found[SLICES] = {0}, pinged = 0;
    fixture_config(&fixture);
    fixture.config.websocket_ping_interval = 1.6;
    fixture_start(&fixture);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = client_open(&fixture);
    uint64_t start = clock_monotonic_ns();
    while (pinged < CLIENTS && clock_monotonic_ns() - start < 3 * CLOCK_SECOND) {
        struct pollfd polled[CLIENTS];
        for (int i = 0; i < CLIENTS; i++)
            polled[i] = (struct pollfd){.fd = clients[i], .events = POLLIN};
        poll(polled, CLIENTS, 5);
        uint64_t slice = (clock_monotonic_ns() - start) / (100 * CLOCK_MILLISECOND);
        for (int i = 0; i < CLIENTS; i++)
            if (polled[i].revents) {
                assert_int_equal(client_byte(&fixture, clients[i], 0), 0x89);
                close(clients[i]);
                clients[i] = -1;
                found[slice < SLICES ? slice : SLICES - 1]++;
                pinged++;
            }
    }
    assert_int_equal(pinged, CLIENTS);
    int used = 0;
    for (int i = 0; i < SLICES; i++)
        used += found[i] > 0;
    assert_in_range(used, SLICES / 2 - 2, SLICES / 2 + 1);
    fixture_stop(&fixture);
}

static void test_no_pings(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_config(&fixture);
    fixture.config.websocket_ping_interval = 0;
    fixture.config.http_header_timeout = 0.1;
    fixture_start(&fixture);
    int fd = client_open(&fixture);
    assert_int_equal(client_byte(&fixture, fd, 400), -2);
    close(fd);
    fixture_stop(&fixture);
}

static void test_resync(void **state)
{
    (void)state;
    struct fixture fixture;
    int clients[20];
    fixture_config(&fixture);
    fixture_start(&fixture);
    for (int i = 0; i < 20; i++) {
        clients[i] = client_open(&fixture);
        client_subscribe(&fixture, clients[i], "[\"t\"]");
    }
    fixture_event(&fixture, "t", NULL, SLICE_LITERAL("1")); /* before the resync: delivered */
    struct ring_resync resync = {.gap_ns = CLOCK_SECOND, .closes_per_second = 100};
    memcpy(fixture_reserve(&fixture, RING_RESYNC, sizeof(resync)), &resync, sizeof(resync));
    ring_writer_commit(fixture.ring);
    ring_writer_wake(fixture.ring);
    uint64_t start = clock_monotonic_ns();
    close(clients[7]); /* one leaves by itself */
    for (int i = 0; i < 20; i++) {
        if (i == 7)
            continue;
        expect_notify(&fixture, clients[i], "t", "1");
        client_expect_close(&fixture, clients[i], 1012, "");
        close(clients[i]);
    }
    uint64_t took = clock_monotonic_ns() - start;
    assert_true(took > 80 * CLOCK_MILLISECOND); /* paced, not all at once */
    assert_in_range(fixture_counter(&fixture, COUNTER_RESYNC_CLOSES), 19, 20);
    int fd = client_open(&fixture); /* they come back */
    client_say(fd, PING("1"));
    client_expect(&fixture, fd, REPLY("\"pong\"", "str", "1"));
    close(fd);
    fixture_stop(&fixture);
}

static void test_graceful_stop(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_config(&fixture);
    fixture_start(&fixture);
    int a = client_open(&fixture), b = client_open(&fixture), idle = client_connect(&fixture, 0);
    usleep(20000);
    kill(fixture.pid, SIGTERM);
    client_expect_close(&fixture, a, 1012, "");
    client_expect_close(&fixture, b, 1012, "");
    assert_int_equal(client_byte(&fixture, idle, 1000), -1);
    close(a);
    close(b);
    close(idle);
    assert_int_equal(fixture_wait(&fixture, 2000), 0);
    fixture_stop(&fixture);
}

/* Clients that don't close their side hold it up no longer than they may, and a second signal ends it at
 * once. */
static void test_stop_with_mute_clients(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_config(&fixture);
    fixture_start(&fixture);
    int mute = client_open(&fixture);
    kill(fixture.pid, SIGTERM);
    usleep(50000);
    assert_int_equal(fixture_wait(&fixture, 50), -1); /* lingers */
    kill(fixture.pid, SIGTERM);
    assert_int_equal(fixture_wait(&fixture, 500), 0);
    close(mute);
    fixture_stop(&fixture);
}

static void test_master_gone(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_config(&fixture);
    fixture_start(&fixture);
    int fd = client_open(&fixture);
    close(fixture.lifeline[1]);
    fixture.lifeline[1] = -1;
    assert_int_equal(fixture_wait(&fixture, 1000), 1);
    assert_int_equal(client_byte(&fixture, fd, 1000), -1);
    close(fd);
    fixture_stop(&fixture);
}

/* Another worker (the test) has no connections: it must be given most of the new ones, and what it gives
 * is served here. */
static void test_handoff(void **state)
{
    (void)state;
    struct fixture fixture;
    int clients[20];
    fixture_config(&fixture);
    fixture_start(&fixture);
    worker_table_set_state(fixture.segment, 1, WORKER_READY);
    worker_table_beat(fixture.segment, 1, clock_monotonic_ns());
    for (int i = 0; i < 20; i++)
        clients[i] = client_connect(&fixture, 0);
    int given = 0;
    for (int i = 0; i < 40 && given < 15; i++) {
        struct pollfd wait = {.fd = fixture.pairs[1][0], .events = POLLIN};
        if (poll(&wait, 1, 20) <= 0)
            continue;
        char byte;
        union {
            struct cmsghdr header;
            char space[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec piece = {&byte, 1};
        struct msghdr message = {.msg_iov = &piece,
            .msg_iovlen = 1,
            .msg_control = control.space,
            .msg_controllen = sizeof(control.space)};
        assert_true(recvmsg(fixture.pairs[1][0], &message, 0) > 0);
        given++;
        if (given == 1) { /* and back: now it is the worker's, whatever the counts */
            assert_int_equal(sendmsg(fixture.pairs[0][1], &message, 0), 1);
        }
        int fd;
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
        close(fd);
    }
    assert_in_range(given, 8, 19); /* those on the way count, so it is nearly half and half */
    assert_int_equal(fixture_counter(&fixture, COUNTER_CONNECTIONS_HANDED), given);
    for (int i = 0; i < 50 && worker_table_connections(fixture.segment, 0) < (uint32_t)(21 - given); i++)
        usleep(2000);
    assert_int_equal(worker_table_connections(fixture.segment, 0), 21 - given);
    worker_table_set_state(fixture.segment, 1, WORKER_DEAD);
    int fd = client_open(&fixture); /* nobody else is there: kept */
    client_say(fd, PING("1"));
    client_expect(&fixture, fd, REPLY("\"pong\"", "str", "1"));
    for (int i = 0; i < 20; i++)
        close(clients[i]);
    close(fd);
    fixture_stop(&fixture);
}

static void test_connection_limit(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_config(&fixture);
    fixture.config.connections_max = 3;
    fixture_start(&fixture);
    worker_table_set_connections(fixture.segment, 1, 1); /* another worker's */
    int a = client_open(&fixture), b = client_open(&fixture), c = client_connect(&fixture, 0);
    assert_int_equal(client_byte(&fixture, c, 1000), -1);
    assert_int_equal(fixture_counter(&fixture, COUNTER_CONNECTIONS_REFUSED_LIMIT), 1);
    close(a);
    while (worker_table_connections(fixture.segment, 0) > 1)
        usleep(1000);
    close(c);
    c = client_open(&fixture);
    close(b);
    close(c);
    fixture_stop(&fixture);
}

/* Requests in one packet with the handshake, a message in many packets, a close in between. */
static void test_input_pieces(void **state)
{
    (void)state;
    static const char request[] =
        "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    struct fixture fixture;
    struct text bytes = {0}, got = {0};
    fixture_config(&fixture);
    fixture_start(&fixture);
    int fd = client_connect(&fixture, 0);
    text_append_string(&bytes, request);
    frame_append(&bytes, 1, SLICE_LITERAL(PING("1")));
    client_write(fd, bytes.data, bytes.length);
    while (got.length < 4 || memcmp(got.data + got.length - 4, "\r\n\r\n", 4) != 0)
        text_append_char(&got, (char)client_byte(&fixture, fd, 1000));
    client_expect(&fixture, fd, REPLY("\"pong\"", "str", "1"));
    text_clear(&bytes);
    frame_append(&bytes, 1, SLICE_LITERAL(PING("2")));
    frame_append(&bytes, 8,
        SLICE_LITERAL("\x0b\xb8"
                      "bye"));
    for (size_t i = 0; i < bytes.length; i++) {
        client_write(fd, bytes.data + i, 1);
        usleep(200);
    }
    client_expect(&fixture, fd, REPLY("\"pong\"", "str", "2"));
    client_expect_close(&fixture, fd, 3000, "bye");
    close(fd);
    text_free(&bytes);
    text_free(&got);
    fixture_stop(&fixture);
}

/* Many frames in one batch to clients of which some take only part of them: nothing lost, nothing twice,
 * in order. */
static void test_batches(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_config(&fixture);
    fixture.config.client_queue_max_bytes = 64 << 20;
    fixture_start(&fixture);
    int quick = client_open(&fixture), late = client_open_buffer(&fixture, 4096);
    client_subscribe(&fixture, quick, "[\"t\"]");
    client_subscribe(&fixture, late, "[\"t\"]");
    struct text all[400];
    for (int i = 0; i < 400; i++) {
        all[i] = filler(20 + (size_t)(i * 977 % 30000));
        int length = snprintf(all[i].data + 1, 12, "%09d", i);
        all[i].data[1 + length] = 'z';
        fixture_event_quiet(&fixture, "t", NULL, text_slice(&all[i]));
        if (i % 40 == 39)
            ring_writer_wake(fixture.ring);
    }
    for (int i = 0; i < 400; i++)
        expect_notify(&fixture, quick, "t", all[i].data);
    for (int i = 0; i < 400; i++)
        expect_notify(&fixture, late, "t", all[i].data);
    assert_true(fixture_counter(&fixture, COUNTER_SEND_CALLS) < 900);
    for (int i = 0; i < 400; i++)
        text_free(&all[i]);
    close(quick);
    close(late);
    fixture_stop(&fixture);
}

/* More than the ring holds goes through it: the worker gives its memory back. */
static void test_ring_goes_round(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_config(&fixture);
    fixture_start(&fixture);
    int fd = client_open(&fixture);
    client_subscribe(&fixture, fd, "[\"t\"]");
    struct text data = filler(400000);
    for (int i = 0; i < 120; i++) {
        fixture_event(&fixture, "t", NULL, text_slice(&data));
        expect_notify(&fixture, fd, "t", data.data);
    }
    text_free(&data);
    close(fd);
    fixture_stop(&fixture);
}

/* The ring brings an event of this slot's former worker with a ticket that this one has given too: it
 * answers nobody. */
static void test_predecessor(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_config(&fixture);
    fixture_start(&fixture);
    int fd = client_open(&fixture);
    fixture.hold = true;
    publish(fd, "{\"topics\":[\"t\"]}", "1");
    usleep(20000);
    struct slice topic = SLICE_LITERAL("t"), data = SLICE_LITERAL("1");
    struct ring_event event = {.ticket = 1,
        .origin = 0,
        .incarnation = worker_table_incarnation(fixture.segment, 0) - 1,
        .topic_count = 1,
        .data = data};
    ring_event_encode(
        fixture_reserve(&fixture, RING_EVENT, ring_event_encoded_size(&topic, 1, data)), &event, &topic);
    ring_writer_commit(fixture.ring);
    ring_writer_wake(fixture.ring);
    expect_silence(&fixture, fd);
    fixture.hold = false;
    client_expect(&fixture, fd, REPLY("true", "bool", "1"));
    close(fd);
    fixture_stop(&fixture);
}

/* While a synchronous publish waits, the worker does not read on: what a client sends meanwhile stays in
 * the kernel. */
static void test_back_pressure(void **state)
{
    (void)state;
    struct fixture fixture;
    static char zeros[65536];
    fixture_config(&fixture);
    fixture_start(&fixture);
    int fd = client_open(&fixture);
    fixture.hold = true;
    publish(fd, "{\"topics\":[\"t\"]}", "1");
    usleep(20000);
    size_t sent = 0;
    for (int idle = 0; idle < 40 && sent < (256u << 20);) {
        ssize_t length = send(fd, zeros, sizeof(zeros), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (length > 0) {
            sent += (size_t)length;
            idle = 0;
        } else {
            idle++;
            usleep(5000);
        }
    }
    assert_true(sent < (64u << 20));
    fixture.hold = false;
    client_expect(&fixture, fd, REPLY("true", "bool", "1"));
    close(fd);
    fixture_stop(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_publish_and_notify),
        cmocka_unit_test(test_replies_keep_order),
        cmocka_unit_test(test_waits_for_backbone),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_ring_goes_round),
        cmocka_unit_test(test_predecessor),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_slow_client),
        cmocka_unit_test(test_stalled_client),
        cmocka_unit_test(test_keepalive),
        cmocka_unit_test(test_first_pings_are_spread),
        cmocka_unit_test(test_no_pings),
        cmocka_unit_test(test_resync),
        cmocka_unit_test(test_graceful_stop),
        cmocka_unit_test(test_stop_with_mute_clients),
        cmocka_unit_test(test_master_gone),
        cmocka_unit_test(test_handoff),
        cmocka_unit_test(test_connection_limit),
        cmocka_unit_test(test_input_pieces),
    };
    return cmocka_run_group_tests_name("worker", tests, NULL, NULL);
}
