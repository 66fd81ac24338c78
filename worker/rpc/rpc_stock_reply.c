/*
 * The text has one length, so its frame has one head, and every byte of it one place. It is compared as it
 * came, masked, sixteen bytes at a time, with what a stock reply would look like under this mask:
 *
 *   0        16        32        48        64     67        83                99              115  118
 *   |--------|---------|---------|---------|------|.........|the call id.....................|  "}} |
 *   literal                                literal, again    16 hex digits     16 hex digits    literal
 *
 * No branch depends on the bytes until the end: the digits are random, so each guess would be wrong half the
 * time. Vectors are the compiler's (SSE2 on x86-64, NEON on ARM, plain words elsewhere).
 */
#include "worker/rpc/rpc_stock_reply.h"

#include <string.h>

#define REPLY_HEAD \
    "{\"request\": null, \"response\": {\"result\": \"None\", \"result_type\": \"str\", \"call_id\": \""
#define REPLY_TAIL   "\"}}"
#define REPLY_ID     (sizeof REPLY_HEAD - 1)
#define REPLY_ID_END (REPLY_ID + 32)

_Static_assert(REPLY_ID_END + sizeof REPLY_TAIL - 1 == RPC_STOCK_REPLY_LENGTH, "the text's length");
_Static_assert(RPC_STOCK_REPLY_LENGTH < 126, "its frame has the shortest head");
_Static_assert(REPLY_ID >= 80 && REPLY_ID <= 96, "six vectors cover what stands before the id");

typedef uint8_t vector __attribute__((vector_size(16)));

static vector vector_load(const void *from)
{
    vector v;
    memcpy(&v, from, sizeof v);
    return v;
}

/* The mask as it lies over sixteen bytes from `offset` on. */
static vector mask_at(const uint8_t mask[4], size_t offset)
{
    uint8_t turned[4];
    for (size_t i = 0; i < sizeof turned; i++)
        turned[i] = mask[(offset + i) & 3];
    uint32_t word;
    memcpy(&word, turned, sizeof word);
    typedef uint32_t words __attribute__((vector_size(16)));
    return (vector)((words){word, word, word, word});
}

/* Where the bytes differ from the literal; all zero when they don't. */
static vector differs(const uint8_t *bytes, size_t offset, vector mask)
{
    return vector_load(bytes + offset) ^ mask ^ vector_load(&(REPLY_HEAD)[offset]);
}

/* Where the bytes are no lower-case hex digits. */
static vector no_digits(const uint8_t *bytes, size_t offset, vector mask)
{
    vector v = vector_load(bytes + offset) ^ mask;
    return (vector)((v - '0' > 9) & (v - 'a' > 5));
}

static bool reply_matches(const uint8_t *bytes, const uint8_t mask[4])
{
    static const uint8_t tail[] = REPLY_TAIL;
    vector straight = mask_at(mask, 0), turned = mask_at(mask, REPLY_ID);
    vector bad = differs(bytes, 0, straight) | differs(bytes, 16, straight) | differs(bytes, 32, straight) |
                 differs(bytes, 48, straight) | differs(bytes, 64, straight) |
                 differs(bytes, REPLY_ID - 16, turned) | no_digits(bytes, REPLY_ID, turned) |
                 no_digits(bytes, REPLY_ID + 16, turned);
    uint64_t halves[2];
    memcpy(halves, &bad, sizeof halves);
    unsigned end = 0;
    for (size_t i = 0; i < sizeof tail - 1; i++)
        end |= bytes[REPLY_ID_END + i] ^ mask[(REPLY_ID_END + i) & 3] ^ (unsigned)tail[i];
    return (halves[0] | halves[1] | end) == 0;
}

bool rpc_is_stock_reply(struct slice text)
{
    static const uint8_t plain[4];
    return text.length == RPC_STOCK_REPLY_LENGTH && reply_matches((const uint8_t *)text.data, plain);
}

size_t rpc_stock_reply_skip(const uint8_t *bytes, size_t length)
{
    size_t at = 0;
    while (length - at >= RPC_STOCK_REPLY_FRAME) {
        const uint8_t *frame = bytes + at;
        /* final, text; masked */
        if (frame[0] != 0x81 || frame[1] != (0x80 | RPC_STOCK_REPLY_LENGTH) ||
            !reply_matches(frame + 6, frame + 2))
            break;
        at += RPC_STOCK_REPLY_FRAME;
    }
    return at;
}
