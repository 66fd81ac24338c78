/* The client's half of RFC 6455 framing, as pure functions: no descriptor, no state. */
#ifndef OPALD_BENCH_LOAD_FRAME_H
#define OPALD_BENCH_LOAD_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum frame_opcode {
    FRAME_CONTINUATION = 0,
    FRAME_TEXT = 1,
    FRAME_BINARY = 2,
    FRAME_CLOSE = 8,
    FRAME_PING = 9,
    FRAME_PONG = 10
};

#define FRAME_HEADER_MAX 14

struct frame {
    unsigned opcode;
    bool final;
    /* bytes before the payload */
    size_t header;
    /* of the payload */
    size_t length;
};

/* Reads a server's frame header from `bytes`. False when more bytes are needed. A masked frame or one with
 * reserved bits (which a server must not send to this client) comes back with opcode 16. */
bool frame_parse(const unsigned char *bytes, size_t available, struct frame *frame);
/* Writes a final, masked frame to `out`, which has room for length + FRAME_HEADER_MAX; returns its size. */
size_t frame_write(unsigned char *out, unsigned opcode, const void *payload, size_t length);
/* The masking key of all frames of this program: a server can't tell, and its work is the same. */
extern const unsigned char frame_mask[4];

#endif
