#include "tests/unit/worker/fixture_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include "shm/common/clock.h"

int client_connect(const struct fixture *fixture, int receive_buffer)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(fixture->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (receive_buffer > 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

void client_write(int fd, const void *bytes, size_t length)
{
    assert_int_equal(send(fd, bytes, length, MSG_NOSIGNAL), length);
}

int client_byte(struct fixture *fixture, int fd, int milliseconds)
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

int client_open_buffer(struct fixture *fixture, int receive_buffer)
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

int client_open(struct fixture *fixture)
{
    return client_open_buffer(fixture, 0);
}

void frame_append(struct text *out, uint8_t opcode, struct slice payload)
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

void client_frame(int fd, uint8_t opcode, struct slice payload)
{
    struct text frame = {0};
    frame_append(&frame, opcode, payload);
    client_write(fd, frame.data, frame.length);
    text_free(&frame);
}

void client_say(int fd, const char *text)
{
    client_frame(fd, 1, slice_from_string(text));
}

int client_read(struct fixture *fixture, int fd, struct text *out, int milliseconds)
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

void client_expect(struct fixture *fixture, int fd, const char *text)
{
    struct text got = {0};
    int opcode = client_read(fixture, fd, &got, 3000);
    if (opcode != 1 || strcmp(got.data, text) != 0)
        fail_msg("got opcode %d <%.300s>, wanted <%.300s>", opcode, got.data, text);
    text_free(&got);
}

void client_subscribe(struct fixture *fixture, int fd, const char *topics_json)
{
    struct text call = {0};
    text_append_format(&call,
        "{\"request\":{\"method\":\"subscribe\",\"arguments\":{\"topics\":%s},\"call_id\":\"s\"}}",
        topics_json);
    client_say(fd, call.data);
    text_free(&call);
    client_expect(fixture, fd, REPLY("true", "bool", "s"));
}

void client_expect_close(struct fixture *fixture, int fd, uint16_t code, const char *reason)
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
