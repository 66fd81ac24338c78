/*
 * The websocket framing of RFC 6455 (section 5), server side: bytes in, whole messages out. Pure: no socket,
 * no clock; the caller owns the input buffer, which is unmasked in place.
 *
 * A message that arrives whole in one buffer is returned as a view into that buffer. Only what is incomplete
 * at the end of a buffer is copied, into memory that exists until that message or control frame is complete:
 * an idle parser owns no memory but itself.
 *
 * Refusals, their order and their texts are the reference's (websockets 17 under uvicorn): opcode, mask and
 * length are judged from the frame's head, reserved bits and the rules for control frames next, then the
 * order of fragments. Text is checked for UTF-8 as it arrives, so that a bad message is refused at its first
 * bad byte (RFC 6455 8.1).
 */
#ifndef OPALD_WORKER_WEBSOCKET_WEBSOCKET_FRAME_H
#define OPALD_WORKER_WEBSOCKET_WEBSOCKET_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/object.h"
#include "shm/common/text.h"
#include "shm/common/utf8.h"

#define WEBSOCKET_CONTROL_MAX 125
#define WEBSOCKET_HEADER_MAX  10 /* of an unmasked frame, which is what a server sends */

enum websocket_opcode {
    WEBSOCKET_CONTINUATION = 0,
    WEBSOCKET_TEXT = 1,
    WEBSOCKET_BINARY = 2,
    WEBSOCKET_CLOSE = 8,
    WEBSOCKET_PING = 9,
    WEBSOCKET_PONG = 10,
};

/* RFC 6455 7.4.1 */
enum websocket_close_code {
    WEBSOCKET_CLOSE_NORMAL = 1000,
    WEBSOCKET_CLOSE_PROTOCOL_ERROR = 1002,
    WEBSOCKET_CLOSE_INVALID_DATA = 1007,
    WEBSOCKET_CLOSE_POLICY_VIOLATION = 1008,
    WEBSOCKET_CLOSE_TOO_BIG = 1009,
    WEBSOCKET_CLOSE_INTERNAL_ERROR = 1011,
    WEBSOCKET_CLOSE_SERVICE_RESTART = 1012,
    WEBSOCKET_CLOSE_TRY_AGAIN_LATER = 1013,
};

/* Why a connection must be failed. */
struct websocket_failure {
    uint16_t code;
    /* NUL-terminated, at most 123 bytes */
    char reason[WEBSOCKET_CONTROL_MAX - 1];
};

struct websocket_assembly;

/* Zero-initialise; websocket_parser_free at the end. */
struct websocket_parser {
    /* what is incomplete; NULL when nothing is */
    struct websocket_assembly *assembly;
    /* bytes of the message's earlier frames */
    uint64_t message_length;
    /* payload bytes of the current frame still to come */
    uint64_t remaining;
    /* the frame's head as far as it is there */
    uint8_t header[14];
    uint8_t header_length;
    /* of the current frame */
    uint8_t opcode;
    /* TEXT or BINARY while a message is under way, else 0 */
    uint8_t message_opcode;
    /* payload bytes seen, modulo 4 */
    uint8_t mask_offset;
    struct utf8_stream utf8;
    bool in_payload;
    bool final;
};

enum websocket_result {
    /* all input is consumed */
    WEBSOCKET_MORE,
    /* `payload` is the whole text, valid UTF-8 */
    WEBSOCKET_TEXT_MESSAGE,
    /* its payload was not kept */
    WEBSOCKET_BINARY_MESSAGE,
    WEBSOCKET_PING_FRAME,
    WEBSOCKET_PONG_FRAME,
    /* the payload was checked: empty, or a valid code and a UTF-8 reason */
    WEBSOCKET_CLOSE_FRAME,
    /* `failure` says why; the parser must not be used any more */
    WEBSOCKET_FAILED,
};

void websocket_parser_free(struct websocket_parser *parser);

/*
 * Takes up to `length` bytes (they are changed), stops after one message or control frame, and says in
 * `*consumed` how many bytes it took: call again with the rest. `payload` is valid until the next call and
 * while `bytes` lives. `message_max` limits a message over all its fragments.
 */
MUST_CHECK enum websocket_result websocket_parser_next(struct websocket_parser *parser, uint8_t *bytes,
    size_t length, uint64_t message_max, size_t *consumed, struct slice *payload,
    struct websocket_failure *failure);

/* The two below without the look whether there is anything; each reply of a client goes through them. */
void websocket_parser_drop_finished(struct websocket_parser *parser);
size_t websocket_assembly_held(const struct websocket_assembly *assembly);

/* Gives back the memory of a finished message, whose payload is then no longer valid. The next call of
 * websocket_parser_next does it too; a connection calls it before it goes idle. */
static inline void websocket_parser_tidy(struct websocket_parser *parser)
{
    if (parser->assembly)
        websocket_parser_drop_finished(parser);
}

/* Bytes held for what is incomplete. */
static inline size_t websocket_parser_held(const struct websocket_parser *parser)
{
    return parser->assembly ? websocket_assembly_held(parser->assembly) : 0;
}

/* True when the next byte begins a frame and no message is under way. */
static inline bool websocket_parser_between_messages(const struct websocket_parser *parser)
{
    return parser->header_length == 0 && !parser->in_payload && parser->message_opcode == 0;
}

/* Writes the head of an unmasked, final frame; returns its length (2, 4 or 10). */
size_t websocket_header_write(
    uint8_t out[WEBSOCKET_HEADER_MAX], enum websocket_opcode opcode, uint64_t length);

/* Writes a whole close frame into `out` (2 + 125 bytes); returns its length. Code 0: an empty one. */
size_t websocket_close_write(uint8_t *out, uint16_t code, const char *reason);

/* True when a peer may send this code (RFC 6455 7.4 and the registry). */
bool websocket_close_code_valid(uint16_t code);

#endif
