#include "server/common/identity.h"

#include <endian.h>
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
    /* Eight digits at a time, because every delivery has some: nibbles spread over the bytes of a word, then '0' added, and 39 more for
     * a to f. The first byte is the lowest of the word. */
    for (size_t i = 0; i < IDENTITY_BYTES; i += 4) {
        uint32_t four;
        memcpy(&four, identity->bytes + i, sizeof four);
        uint64_t word = le32toh(four);
        word = (word | word << 16) & UINT64_C(0x0000ffff0000ffff);
        word = (word | word << 8) & UINT64_C(0x00ff00ff00ff00ff);
        word = ((word >> 4) | word << 8) & UINT64_C(0x0f0f0f0f0f0f0f0f);
        uint64_t letters = ((word + UINT64_C(0x0606060606060606)) >> 4) & UINT64_C(0x0101010101010101);
        word = htole64(word + UINT64_C(0x3030303030303030) + letters * 39);
        memcpy(out + 2 * i, &word, sizeof word);
    }
}
