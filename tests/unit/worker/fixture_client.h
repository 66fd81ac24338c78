/* A client of the worker under test: raw bytes and websocket frames over loopback. While it waits, it
 * plays the master (fixture_pump). */
#ifndef OPALD_TESTS_FIXTURE_CLIENT_H
#define OPALD_TESTS_FIXTURE_CLIENT_H

#include "tests/unit/worker/worker_fixture.h"

/* A connection to the worker; with a receive buffer of that size when it is not 0. */
int client_connect(const struct fixture *fixture, int receive_buffer);

void client_write(int fd, const void *bytes, size_t length);

/* Reads one byte at a time at most `milliseconds` long while the master works; -1 at the end of the
 * stream, -2 when time is over. */
int client_byte(struct fixture *fixture, int fd, int milliseconds);

/* The same as a websocket: the handshake is done. */
int client_open_buffer(struct fixture *fixture, int receive_buffer);

int client_open(struct fixture *fixture);

/* Appends a masked, final frame. */
void frame_append(struct text *out, uint8_t opcode, struct slice payload);

/* Sends a frame, a text frame, a subscribe call (its answer is read). */
void client_frame(int fd, uint8_t opcode, struct slice payload);

void client_say(int fd, const char *text);

/*
 * Reads one frame: returns its opcode with the payload in `out` (cleared first, NUL-terminated); -1 at the
 * end of the stream, -2 when nothing came in time.
 */
int client_read(struct fixture *fixture, int fd, struct text *out, int milliseconds);

/* The next frame must be this text. */
void client_expect(struct fixture *fixture, int fd, const char *text);

#define REPLY(result, type, id) \
    "{\"request\": null, \"response\": {\"result\": " result ", \"result_type\": \"" type \
    "\", \"call_id\": \"" id "\"}}"

void client_subscribe(struct fixture *fixture, int fd, const char *topics_json);

/* Reads a close frame and the end of the stream. */
void client_expect_close(struct fixture *fixture, int fd, uint16_t code, const char *reason);

#endif
