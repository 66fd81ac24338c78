#include "shm/common/identity.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <uuid/uuid.h>

struct identity identity_make(void)
{
    struct identity made;
    uuid_t uuid;
    uuid_generate_random(uuid);
    memcpy(made.bytes, uuid, sizeof made.bytes);
    return made;
}

static void identity_mark_uuid4(struct identity *identity)
{
    identity->bytes[6] = (uint8_t)((identity->bytes[6] & 0x0f) | 0x40);
    identity->bytes[8] = (uint8_t)((identity->bytes[8] & 0x3f) | 0x80);
}

/* splitmix64 (Steele, Lea, Flood 2014): every 64-bit value once in its period, so two halves from one stream
 * of 2^64 make ids that never repeat within a process; the random start keeps processes apart. */
static uint64_t splitmix64_next(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

struct identity identity_make_fast(void)
{
    static uint64_t state[2];
    if (!state[0] && getrandom(state, sizeof state, 0) != (ssize_t)sizeof state)
        abort(); /* the kernel's pool is up before any service is */
    uint64_t halves[2] = {splitmix64_next(&state[0]), splitmix64_next(&state[1])};
    struct identity made;
    memcpy(made.bytes, halves, sizeof made.bytes);
    identity_mark_uuid4(&made);
    return made;
}

void identity_format(const struct identity *identity, char *out)
{
    /* All digits at once, because every delivery has some: the nibbles of the sixteen bytes in two vectors,
     * woven, then '0' added, and 39 more for a to f. */
    typedef uint8_t vector __attribute__((vector_size(16)));
    vector bytes;
    memcpy(&bytes, identity->bytes, sizeof bytes);
    vector high = bytes >> 4, low = bytes & 15;
    high += '0' + ((vector)(high > 9) & 39);
    low += '0' + ((vector)(low > 9) & 39);
    vector first = __builtin_shufflevector(high, low, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    vector second =
        __builtin_shufflevector(high, low, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    memcpy(out, &first, sizeof first);
    memcpy(out + sizeof first, &second, sizeof second);
}

bool identity_parse(struct slice text, struct identity *identity)
{
    if (text.length != IDENTITY_HEX)
        return false;
    for (size_t i = 0; i < IDENTITY_BYTES; i++) {
        const char *pair = text.data + 2 * i;
        int high = text_hex_value(pair[0]), low = text_hex_value(pair[1]);
        bool upper_case = (pair[0] >= 'A' && pair[0] <= 'F') || (pair[1] >= 'A' && pair[1] <= 'F');
        if (high < 0 || low < 0 || upper_case)
            return false;
        identity->bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}
