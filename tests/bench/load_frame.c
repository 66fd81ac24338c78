#include "tests/bench/load_frame.h"

#include <endian.h>
#include <string.h>

const unsigned char frame_mask[4] = {0x37, 0xfa, 0x21, 0x3d};

bool frame_parse(const unsigned char *bytes, size_t available, struct frame *frame)
{
    if (available < 2) {
        return false;
    }
    frame->opcode = bytes[0] & 0x0fU;
    frame->final = (bytes[0] & 0x80U) != 0;
    frame->header = 2;
    frame->length = bytes[1] & 0x7fU;
    if ((bytes[1] & 0x80U) != 0 || (bytes[0] & 0x70U) != 0) {
        frame->opcode = 16;
        return true;
    }
    if (frame->length == 126) {
        if (available < 4) {
            return false;
        }
        frame->header = 4;
        frame->length = (size_t)bytes[2] << 8 | bytes[3];
    } else if (frame->length == 127) {
        uint64_t length;
        if (available < 10) {
            return false;
        }
        memcpy(&length, bytes + 2, sizeof length);
        frame->header = 10;
        frame->length = (size_t)be64toh(length);
    }
    return true;
}

size_t frame_write(unsigned char *out, unsigned opcode, const void *payload, size_t length)
{
    const unsigned char *in = payload;
    size_t header = 2;
    out[0] = (unsigned char)(0x80U | opcode);
    if (length < 126) {
        out[1] = (unsigned char)(0x80U | length);
    } else if (length < 65536) {
        out[1] = 0x80U | 126U;
        out[2] = (unsigned char)(length >> 8);
        out[3] = (unsigned char)length;
        header = 4;
    } else {
        const uint64_t size = htobe64(length);
        out[1] = 0x80U | 127U;
        memcpy(out + 2, &size, sizeof size);
        header = 10;
    }
    memcpy(out + header, frame_mask, sizeof frame_mask);
    header += sizeof frame_mask;
    for (size_t i = 0; i < length; i++) {
        out[header + i] = in[i] ^ frame_mask[i % 4];
    }
    return header + length;
}
