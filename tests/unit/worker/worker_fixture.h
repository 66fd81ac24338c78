/*
 * A whole worker in a process of its own, with the test as its master: the test owns the segment, moves events from the uplink to the ring,
 * and speaks raw websocket to the worker. Everything is on loopback and ends with the test.
 */
#ifndef OPALD_TESTS_WORKER_FIXTURE_H
#define OPALD_TESTS_WORKER_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "shm/common/clock.h"
#include "shm/common/text.h"
#include "shm/event.h"
#include "shm/ring.h"
#include "shm/uplink.h"
#include "shm/worker_table.h"
#include "worker/worker.h"

/* There with SAN=address only: the worker's process ends by _exit, so its leaks are looked for here. */
extern int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

struct fixture {
    struct config config;
    struct segment *segment;
    struct ring_writer *ring;
    struct uplink *uplink;
    int listener;
    uint16_t port;
    int lifeline[2];
    int pairs[2][2]; /* per slot: receive end, send end */
    pid_t pid;
    struct event_acknowledgement acknowledgement; /* that would answer the last event pumped */
    uint32_t flags;                               /* of that event */
    bool refuse;                                  /* the master refuses what is published */
    bool hold;                                    /* the master does not look at the uplink */
};

static inline void fixture_config(struct fixture *fixture)
{
    *fixture = (struct fixture){
        .config =
            {
                .grace_seconds = 5,
                .event_max_bytes = 4 << 20,
                .json_max_depth = 100,
                .json_max_tokens = 100000,
                .topics_max = 64,
                .topic_max_bytes = 200,
                .http_header_max_bytes = 65536,
                .http_header_max_count = 100,
                .http_body_max_bytes = 1 << 20,
                .http_header_timeout = 5,
                .http_body_timeout = 5,
                .http_keepalive_timeout = 5,
                .data_config_route = "/data/config",
                .all_data_route = "/policy-data",
                .all_data_topic = "policy_data",
                .all_data_url = "http://localhost:7002/policy-data",
                .data_callback_default_route = "/data/callback_report",
                .auth_jwks_url = "/.well-known/jwks.json",
                .connections_max = 1000,
                .websocket_message_max_bytes = 16 << 20,
                .subscriptions_max = 100,
                .client_queue_max_bytes = 1 << 20,
                .clients_memory_max_bytes = 1 << 30,
                .client_queue_max_seconds = 30,
                .websocket_ping_interval = 20,
                .websocket_ping_timeout = 20,
                .drain_batch_records = 64,
                .drain_batch_bytes = 4 << 20,
                .scopes_purge_channel = "__opal_scope_purge__",
            },
    };
}

static inline void fixture_start(struct fixture *fixture)
{
    struct segment_settings settings = {.ring_bytes = 16 << 20, .uplink_bytes = 1 << 20, .slots = 2};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    struct log_settings quiet = {.level = LOG_CRITICAL};
    struct error err = {0};
    if (getenv("OPALD_TEST_LOG"))
        quiet.level = LOG_DEBUG;
    log_configure(&quiet);
    fixture->segment = segment_create(&settings, &err);
    assert_non_null(fixture->segment);
    assert_int_equal(segment_prepare_slot(fixture->segment, 0, &err), 0);
    event_limit_write(fixture->segment, (uint64_t)fixture->config.event_max_bytes);
    worker_table_next_incarnation(fixture->segment, 0);
    fixture->ring = ring_writer_open(fixture->segment);
    ring_writer_activate(fixture->ring, 0);
    fixture->uplink = uplink_open(fixture->segment, 0);
    fixture->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fixture->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fixture->listener, 128), 0);
    getsockname(fixture->listener, (struct sockaddr *)&address, &length);
    fixture->port = ntohs(address.sin_port);
    assert_int_equal(pipe(fixture->lifeline), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fixture->pairs[i]), 0);
    fixture->pid = fork();
    if (fixture->pid == 0) {
        close(fixture->lifeline[1]);
        struct worker_descriptors descriptors = {
            .segment = segment_descriptors(fixture->segment, 0),
            .slot = 0,
            .listeners = {fixture->listener},
            .listener_count = 1,
            .lifeline = fixture->lifeline[0],
            .tls_store = -1,
            .handoff_receive = fixture->pairs[0][0],
            .handoff_send = {fixture->pairs[0][1], fixture->pairs[1][1]},
            .slot_count = 2,
        };
        int status = worker_main(&fixture->config, &descriptors);
        if (__lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check() != 0)
            status = 99;
        _exit(status);
    }
    close(fixture->lifeline[0]);
    while (worker_table_state(fixture->segment, 0) != WORKER_READY)
        usleep(1000);
}

/* Waits for the worker's end; returns its exit status, or 128 + signal. */
static inline int fixture_wait(struct fixture *fixture, int milliseconds)
{
    int status;
    for (; milliseconds > 0; milliseconds -= 5) {
        if (waitpid(fixture->pid, &status, WNOHANG) == fixture->pid) {
            fixture->pid = 0;
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        usleep(5000);
    }
    return -1;
}

static inline void fixture_stop(struct fixture *fixture)
{
    if (fixture->pid > 0) {
        kill(fixture->pid, SIGINT);
        assert_int_equal(fixture_wait(fixture, 5000), 0);
    }
    if (fixture->lifeline[1] >= 0)
        close(fixture->lifeline[1]);
    for (int i = 0; i < 2; i++) {
        close(fixture->pairs[i][0]);
        close(fixture->pairs[i][1]);
    }
    close(fixture->listener);
    uplink_close(fixture->uplink);
    ring_writer_close(fixture->ring);
    segment_close(fixture->segment);
}

static inline uint64_t fixture_counter(const struct fixture *fixture, enum counter counter)
{
    return counter_read(fixture->segment, 0, counter);
}

/* ---- the master's part ---- */

static inline void *fixture_reserve(struct fixture *fixture, enum ring_type type, uint32_t length)
{
    void *body;
    for (int tries = 0; (body = ring_writer_reserve(fixture->ring, type, length)) == NULL; tries++) {
        assert_true(tries < 5000);
        usleep(1000);
    }
    return body;
}

/* Moves what the worker published to the ring. */
static inline void fixture_pump(struct fixture *fixture)
{
    struct uplink_record record;
    bool corrupt = false;
    while (!fixture->hold && uplink_next(fixture->uplink, &record, &corrupt)) {
        struct event event;
        assert_true(event_decode(record.body, record.length, &event));
        fixture->acknowledgement = (struct event_acknowledgement){
            .ticket = event.ticket, .origin = event.origin, .incarnation = event.incarnation, .ok = 1};
        fixture->flags = event.flags;
        if (fixture->refuse) {
            struct event_refusal refusal = {.ticket = event.ticket,
                .origin = event.origin,
                .incarnation = event.incarnation,
                .reason = EVENT_REFUSED_BACKBONE};
            memcpy(fixture_reserve(fixture, RING_REFUSED, sizeof(refusal)), &refusal, sizeof(refusal));
        } else {
            memcpy(fixture_reserve(fixture, RING_EVENT, record.length), record.body, record.length);
        }
        ring_writer_commit(fixture->ring);
        uplink_release(fixture->uplink);
    }
    assert_false(corrupt);
    ring_writer_wake(fixture->ring);
}

/* A JSON string of `length` bytes, quotes included. */
static inline struct text filler(size_t length)
{
    struct text data = {0};
    text_append_char(&data, '"');
    while (data.length < length - 1)
        text_append_char(&data, (char)('a' + data.length % 23));
    text_append_char(&data, '"');
    return data;
}

/* An event of another server that sleeping workers are not told of: more than one can be put into a batch. */
static inline void fixture_event_quiet(
    struct fixture *fixture, const char *topic, const char *notifier, struct slice data)
{
    struct slice name = slice_from_string(topic);
    struct event event = {.origin = EVENT_ORIGIN_BACKBONE,
        .entered_ns = clock_monotonic_ns(),
        .topic_count = 1,
        .notifier = slice_from_string(notifier),
        .data = data};
    event_encode(fixture_reserve(fixture, RING_EVENT, event_encoded_size(&name, 1, event.notifier, data)),
        &event, &name);
    ring_writer_commit(fixture->ring);
}

static inline void fixture_event(
    struct fixture *fixture, const char *topic, const char *notifier, struct slice data)
{
    fixture_event_quiet(fixture, topic, notifier, data);
    ring_writer_wake(fixture->ring);
}

/* ---- a websocket client ---- */

static inline int client_connect(const struct fixture *fixture, int receive_buffer)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(fixture->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (receive_buffer > 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static inline void client_write(int fd, const void *bytes, size_t length)
{
    assert_int_equal(send(fd, bytes, length, MSG_NOSIGNAL), length);
}

/* Reads one byte at a time at most `milliseconds` long while the master works; -1 at the end of the stream, -2 when time is over. */
static inline int client_byte(struct fixture *fixture, int fd, int milliseconds)
{
    uint8_t byte;
    uint64_t end = clock_monotonic_ns() + (uint64_t)milliseconds * CLOCK_MILLISECOND;
    for (;;) {
        ssize_t length = recv(fd, &byte, 1, MSG_DONTWAIT);
        if (length == 1)
            return byte;
        if (length == 0 || (errno != EAGAIN && errno != EINTR))
            return -1;
        if (clock_monotonic_ns() >= end)
            return -2;
        fixture_pump(fixture);
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        poll(&wait, 1, 2);
    }
}

static inline int client_open_buffer(struct fixture *fixture, int receive_buffer)
{
    static const char request[] =
        "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    struct text head = {0};
    int fd = client_connect(fixture, receive_buffer);
    client_write(fd, request, sizeof(request) - 1);
    while (head.length < 4 || memcmp(head.data + head.length - 4, "\r\n\r\n", 4) != 0) {
        int byte = client_byte(fixture, fd, 3000);
        assert_true(byte >= 0);
        text_append_char(&head, (char)byte);
    }
    assert_memory_equal(head.data, "HTTP/1.1 101 ", 13);
    text_free(&head);
    return fd;
}

static inline int client_open(struct fixture *fixture)
{
    return client_open_buffer(fixture, 0);
}

/* Appends a masked, final frame. */
static inline void frame_append(struct text *out, uint8_t opcode, struct slice payload)
{
    text_append_char(out, (char)(0x80 | opcode));
    if (payload.length < 126) {
        text_append_char(out, (char)(0x80 | payload.length));
    } else if (payload.length < 65536) {
        text_append_char(out, (char)(0x80 | 126));
        text_append_char(out, (char)(payload.length >> 8));
        text_append_char(out, (char)payload.length);
    } else {
        text_append_char(out, (char)(0x80 | 127));
        for (int shift = 56; shift >= 0; shift -= 8)
            text_append_char(out, (char)(payload.length >> shift));
    }
    text_append(out, "mask", 4);
    for (size_t i = 0; i < payload.length; i++)
        text_append_char(out, (char)(payload.data[i] ^ "mask"[i & 3]));
}

static inline void client_frame(int fd, uint8_t opcode, struct slice payload)
{
    struct text frame = {0};
    frame_append(&frame, opcode, payload);
    client_write(fd, frame.data, frame.length);
    text_free(&frame);
}

static inline void client_say(int fd, const char *text)
{
    client_frame(fd, 1, slice_from_string(text));
}

/*
 * Reads one frame: returns its opcode with the payload in `out` (cleared first, NUL-terminated); -1 at the end of the stream, -2 when nothing
 * came in time.
 */
static inline int client_read(struct fixture *fixture, int fd, struct text *out, int milliseconds)
{
    text_clear(out);
    text_append(out, "", 0);
    int first = client_byte(fixture, fd, milliseconds);
    if (first < 0)
        return first;
    int code = client_byte(fixture, fd, 3000);
    assert_true(code >= 0 && code < 128);
    uint64_t length = (uint64_t)code;
    int more = code == 126 ? 2 : code == 127 ? 8 : 0;
    for (int i = 0; i < more; i++)
        length = (i == 0 ? 0 : length << 8) | (uint64_t)client_byte(fixture, fd, 3000);
    assert_int_equal(first & 0xf0, 0x80);
    while (out->length < length) {
        char *room = text_reserve(out, length - out->length);
        ssize_t got = recv(fd, room, length - out->length, MSG_DONTWAIT);
        if (got > 0) {
            out->length += (size_t)got;
            continue;
        }
        if (got == 0 || errno != EAGAIN)
            return -3; /* a torn frame */
        fixture_pump(fixture);
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (poll(&wait, 1, 3000) == 0)
            return -3;
    }
    text_append(out, "", 0);
    out->data[out->length] = '\0';
    return first & 0x0f;
}

static inline void client_expect(struct fixture *fixture, int fd, const char *text)
{
    struct text got = {0};
    int opcode = client_read(fixture, fd, &got, 3000);
    if (opcode != 1 || strcmp(got.data, text) != 0)
        fail_msg("got opcode %d <%.300s>, wanted <%.300s>", opcode, got.data, text);
    text_free(&got);
}

#define REPLY(result, type, id) \
    "{\"request\": null, \"response\": {\"result\": " result ", \"result_type\": \"" type \
    "\", \"call_id\": \"" id "\"}}"

static inline void client_subscribe(struct fixture *fixture, int fd, const char *topics_json)
{
    struct text call = {0};
    text_append_format(&call,
        "{\"request\":{\"method\":\"subscribe\",\"arguments\":{\"topics\":%s},\"call_id\":\"s\"}}",
        topics_json);
    client_say(fd, call.data);
    text_free(&call);
    client_expect(fixture, fd, REPLY("true", "bool", "s"));
}

/* Reads a close frame and the end of the stream. */
static inline void client_expect_close(struct fixture *fixture, int fd, uint16_t code, const char *reason)
{
    struct text got = {0};
    int opcode = client_read(fixture, fd, &got, 5000);
    assert_int_equal(opcode, 8);
    assert_true(got.length >= 2);
    assert_int_equal((uint8_t)got.data[0] << 8 | (uint8_t)got.data[1], code);
    assert_string_equal(got.data + 2, reason);
    assert_int_equal(client_byte(fixture, fd, 3000), -1);
    text_free(&got);
}

#endif
