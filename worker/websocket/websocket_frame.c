/*
 * The frame parser. One frame:
 *
 *   byte 0: FIN RSV1 RSV2 RSV3 opcode(4)   byte 1: MASK length(7)   then 0, 2 or 8 bytes of length, 4 of
 * mask, the payload
 *
 * States: a head under way (header_length bytes of it are in `header`), or a payload under way (in_payload).
 * A control frame may stand between the fragments of a message, so the two are assembled apart.
 */
#include "worker/websocket/websocket_frame.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shm/common/memory.h"

struct websocket_assembly {
    struct text message;
    /* a text under way has its earlier part in `message` */
    bool message_used;
    uint8_t control_length;
    uint8_t control[WEBSOCKET_CONTROL_MAX];
};

static struct websocket_assembly *parser_assembly(struct websocket_parser *parser)
{
    if (!parser->assembly)
        parser->assembly = memory_allocate(sizeof *parser->assembly);
    return parser->assembly;
}

void websocket_parser_free(struct websocket_parser *parser)
{
    if (parser->assembly) {
        text_free(&parser->assembly->message);
        free(parser->assembly);
        parser->assembly = NULL;
    }
}

size_t websocket_assembly_held(const struct websocket_assembly *assembly)
{
    return sizeof *assembly + assembly->message.capacity;
}

static enum websocket_result parser_fail(struct websocket_failure *failure, uint16_t code, const char *format,
    ...) __attribute__((format(printf, 3, 4)));

static enum websocket_result parser_fail(
    struct websocket_failure *failure, uint16_t code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    failure->code = code;
    vsnprintf(failure->reason, sizeof failure->reason, format, arguments);
    va_end(arguments);
    return WEBSOCKET_FAILED;
}

static bool opcode_is_control(uint8_t opcode)
{
    return opcode >= WEBSOCKET_CLOSE;
}

/* Bytes the head needs, judged by what is there of it. */
static size_t header_need(const struct websocket_parser *parser)
{
    if (parser->header_length < 2)
        return 2;
    uint8_t code = parser->header[1] & 0x7f;
    return 2 + (code == 126 ? 2u : code == 127 ? 8u : 0u) + 4u;
}

static uint64_t header_payload_length(const struct websocket_parser *parser)
{
    uint8_t code = parser->header[1] & 0x7f;
    if (code < 126)
        return code;
    uint64_t length = 0;
    for (unsigned i = 0; i < (code == 126 ? 2u : 8u); i++)
        length = length << 8 | parser->header[2 + i];
    return length;
}

/* The first two bytes are there. */
static enum websocket_result header_check_start(
    const struct websocket_parser *parser, struct websocket_failure *failure)
{
    uint8_t opcode = parser->header[0] & 0x0f;
    if ((opcode > WEBSOCKET_BINARY && opcode < WEBSOCKET_CLOSE) || opcode > WEBSOCKET_PONG)
        return parser_fail(failure, WEBSOCKET_CLOSE_PROTOCOL_ERROR, "invalid opcode");
    if (!(parser->header[1] & 0x80))
        return parser_fail(failure, WEBSOCKET_CLOSE_PROTOCOL_ERROR, "incorrect masking");
    return WEBSOCKET_MORE;
}

/* The whole head is there: takes it over or refuses it. */
static enum websocket_result header_take(
    struct websocket_parser *parser, uint64_t message_max, struct websocket_failure *failure)
{
    uint8_t opcode = parser->header[0] & 0x0f;
    uint64_t length = header_payload_length(parser);
    bool under_way = parser->message_opcode != 0;
    uint64_t room = message_max - (under_way ? parser->message_length : 0);
    if (length > room) {
        if (under_way)
            return parser_fail(failure, WEBSOCKET_CLOSE_TOO_BIG,
                "frame with %llu bytes after reading %llu bytes exceeds limit of %llu bytes",
                (unsigned long long)length, (unsigned long long)parser->message_length,
                (unsigned long long)message_max);
        return parser_fail(failure, WEBSOCKET_CLOSE_TOO_BIG,
            "frame with %llu bytes exceeds limit of %llu bytes", (unsigned long long)length,
            (unsigned long long)message_max);
    }
    if (parser->header[0] & 0x70)
        return parser_fail(failure, WEBSOCKET_CLOSE_PROTOCOL_ERROR, "reserved bits must be 0");
    if (opcode_is_control(opcode)) {
        if (length > WEBSOCKET_CONTROL_MAX)
            return parser_fail(failure, WEBSOCKET_CLOSE_PROTOCOL_ERROR, "control frame too long");
        if (!(parser->header[0] & 0x80))
            return parser_fail(failure, WEBSOCKET_CLOSE_PROTOCOL_ERROR, "fragmented control frame");
    } else if (opcode == WEBSOCKET_CONTINUATION) {
        if (!under_way)
            return parser_fail(failure, WEBSOCKET_CLOSE_PROTOCOL_ERROR, "unexpected continuation frame");
    } else {
        if (under_way)
            return parser_fail(failure, WEBSOCKET_CLOSE_PROTOCOL_ERROR, "expected a continuation frame");
        parser->message_opcode = opcode;
        parser->message_length = 0;
        parser->utf8 = (struct utf8_stream){0};
    }
    parser->opcode = opcode;
    parser->final = (parser->header[0] & 0x80) != 0;
    parser->remaining = length;
    parser->mask_offset = 0;
    parser->in_payload = true;
    return WEBSOCKET_MORE;
}

static const uint8_t *parser_mask(const struct websocket_parser *parser)
{
    return parser->header + header_need(parser) - 4;
}

static void parser_unmask(struct websocket_parser *parser, uint8_t *bytes, size_t length)
{
    const uint8_t *mask = parser_mask(parser);
    uint8_t turned[8];
    for (unsigned i = 0; i < sizeof turned; i++)
        turned[i] = mask[(parser->mask_offset + i) & 3];
    uint64_t wide;
    memcpy(&wide, turned, sizeof wide);
    size_t i = 0;
    for (; i + sizeof wide <= length; i += sizeof wide) {
        uint64_t word;
        memcpy(&word, bytes + i, sizeof word);
        word ^= wide;
        memcpy(bytes + i, &word, sizeof word);
    }
    for (; i < length; i++)
        bytes[i] ^= turned[i & 7];
    parser->mask_offset = (uint8_t)((parser->mask_offset + length) & 3);
}

bool websocket_close_code_valid(uint16_t code)
{
    if (code >= 3000 && code < 5000)
        return true;
    return code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
}

/* Python's text for the first bad byte of a close reason, which the reference puts into its own close frame.
 */
static enum websocket_result close_reason_fail(
    const uint8_t *reason, size_t length, struct websocket_failure *failure)
{
    struct utf8_stream stream = {0};
    size_t start = 0;
    for (size_t i = 0; i < length; i++) {
        bool inside = stream.left > 0;
        if (!inside)
            start = i;
        if (!utf8_stream_feed(&stream, reason + i, 1))
            return parser_fail(failure, WEBSOCKET_CLOSE_INVALID_DATA, "%s at position %zu",
                inside ? "invalid continuation byte" : "invalid start byte", start);
    }
    return parser_fail(
        failure, WEBSOCKET_CLOSE_INVALID_DATA, "unexpected end of data at position %zu", start);
}

static enum websocket_result close_check(
    const struct websocket_parser *parser, struct slice payload, struct websocket_failure *failure)
{
    const uint8_t *bytes = (const uint8_t *)payload.data;
    if (payload.length == 1)
        return parser_fail(failure, WEBSOCKET_CLOSE_PROTOCOL_ERROR, "close frame too short");
    if (payload.length >= 2) {
        if (!utf8_is_valid((struct slice){payload.data + 2, payload.length - 2}))
            return close_reason_fail(bytes + 2, payload.length - 2, failure);
        if (!websocket_close_code_valid((uint16_t)(bytes[0] << 8 | bytes[1])))
            return parser_fail(failure, WEBSOCKET_CLOSE_PROTOCOL_ERROR, "invalid status code");
    }
    if (parser->message_opcode)
        return parser_fail(failure, WEBSOCKET_CLOSE_PROTOCOL_ERROR, "incomplete fragmented message");
    return WEBSOCKET_CLOSE_FRAME;
}

/* `bytes` are the next part of a control frame's payload, unmasked. */
static enum websocket_result control_take(struct websocket_parser *parser, const uint8_t *bytes,
    size_t length, struct slice *payload, struct websocket_failure *failure)
{
    struct websocket_assembly *assembly = parser->assembly;
    if (parser->remaining > 0 || (assembly && assembly->control_length > 0)) {
        assembly = parser_assembly(parser);
        /* fits: header_take refused a length above WEBSOCKET_CONTROL_MAX */
        memcpy(assembly->control + assembly->control_length, bytes, length);
        assembly->control_length = (uint8_t)(assembly->control_length + length);
        if (parser->remaining > 0)
            return WEBSOCKET_MORE;
        *payload = (struct slice){(const char *)assembly->control, assembly->control_length};
        assembly->control_length = 0;
    } else {
        *payload = (struct slice){(const char *)bytes, length};
    }
    parser->in_payload = false;
    parser->header_length = 0;
    if (parser->opcode == WEBSOCKET_PING)
        return WEBSOCKET_PING_FRAME;
    if (parser->opcode == WEBSOCKET_PONG)
        return WEBSOCKET_PONG_FRAME;
    return close_check(parser, *payload, failure);
}

/* `bytes` are the next part of a message's payload, unmasked. */
static enum websocket_result message_take(struct websocket_parser *parser, const uint8_t *bytes,
    size_t length, struct slice *payload, struct websocket_failure *failure)
{
    bool text = parser->message_opcode == WEBSOCKET_TEXT;
    bool complete = parser->remaining == 0 && parser->final;
    parser->message_length += length;
    if (text) {
        if (!utf8_stream_feed(&parser->utf8, bytes, length) || (complete && parser->utf8.left > 0))
            return parser_fail(failure, WEBSOCKET_CLOSE_INVALID_DATA, "%s", "");
        if (!complete && length > 0) {
            struct websocket_assembly *assembly = parser_assembly(parser);
            text_append(&assembly->message, bytes, length);
            assembly->message_used = true;
        }
    }
    if (parser->remaining == 0) {
        parser->in_payload = false;
        parser->header_length = 0;
    }
    if (!complete)
        return WEBSOCKET_MORE;
    parser->message_opcode = 0;
    parser->message_length = 0;
    if (!text)
        return WEBSOCKET_BINARY_MESSAGE;
    if (parser->assembly && parser->assembly->message_used) {
        text_append(&parser->assembly->message, bytes, length);
        parser->assembly->message_used = false;
        *payload = text_slice(&parser->assembly->message);
    } else {
        *payload = (struct slice){(const char *)bytes, length};
    }
    return WEBSOCKET_TEXT_MESSAGE;
}

void websocket_parser_drop_finished(struct websocket_parser *parser)
{
    struct websocket_assembly *assembly = parser->assembly;
    if (!assembly->message_used && assembly->control_length == 0)
        websocket_parser_free(parser);
    else if (!assembly->message_used)
        text_free(&assembly->message);
}

enum websocket_result websocket_parser_next(struct websocket_parser *parser, uint8_t *bytes, size_t length,
    uint64_t message_max, size_t *consumed, struct slice *payload, struct websocket_failure *failure)
{
    size_t at = 0;
    enum websocket_result result = WEBSOCKET_MORE;
    websocket_parser_tidy(parser);
    while (result == WEBSOCKET_MORE) {
        if (!parser->in_payload) {
            size_t need = header_need(parser);
            if (at == length)
                break;
            size_t take = need - parser->header_length;
            if (take > length - at)
                take = length - at;
            memcpy(parser->header + parser->header_length, bytes + at, take);
            at += take;
            parser->header_length = (uint8_t)(parser->header_length + take);
            if (parser->header_length < need)
                break;
            if (need == 2) /* the second byte tells how long the head really is */
                result = header_check_start(parser, failure);
            else
                result = header_take(parser, message_max, failure);
            continue;
        }
        if (at == length && parser->remaining > 0)
            break;
        uint64_t part = length - at;
        if (part > parser->remaining)
            part = parser->remaining;
        uint8_t *start = bytes + at;
        parser_unmask(parser, start, (size_t)part);
        parser->remaining -= part;
        at += (size_t)part;
        if (opcode_is_control(parser->opcode))
            result = control_take(parser, start, (size_t)part, payload, failure);
        else
            result = message_take(parser, start, (size_t)part, payload, failure);
    }
    *consumed = at;
    return result;
}

size_t websocket_header_write(
    uint8_t out[WEBSOCKET_HEADER_MAX], enum websocket_opcode opcode, uint64_t length)
{
    out[0] = (uint8_t)(0x80u | opcode);
    if (length < 126) {
        out[1] = (uint8_t)length;
        return 2;
    }
    if (length < 65536) {
        out[1] = 126;
        out[2] = (uint8_t)(length >> 8);
        out[3] = (uint8_t)length;
        return 4;
    }
    out[1] = 127;
    for (unsigned i = 0; i < 8; i++)
        out[2 + i] = (uint8_t)(length >> (56 - 8 * i));
    return 10;
}

size_t websocket_close_write(uint8_t *out, uint16_t code, const char *reason)
{
    size_t length = 0;
    if (code != 0) {
        size_t text = strnlen(reason, WEBSOCKET_CONTROL_MAX - 2);
        out[2] = (uint8_t)(code >> 8);
        out[3] = (uint8_t)code;
        memcpy(out + 4, reason, text);
        length = 2 + text;
    }
    return websocket_header_write(out, WEBSOCKET_CLOSE, length) + length;
}
