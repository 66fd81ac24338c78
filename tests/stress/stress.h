/*
 * What the stress tests of the ring and the uplinks share. The content of a record follows from its
 * position and a salt, so a writer that takes over from a killed one, and every reader, know what must
 * stand where without any counter of their own.
 */
#ifndef OPALD_TESTS_STRESS_STRESS_H
#define OPALD_TESTS_STRESS_STRESS_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "shm/common/clock.h"
#include "shm/layout.h"

#define STRESS_FAIL(...) \
    do { \
        fprintf(stderr, "FAILED: " __VA_ARGS__); \
        fputc('\n', stderr); \
        _exit(1); \
    } while (0)

static inline uint64_t stress_mix(uint64_t x)
{
    x ^= x >> 33;
    x *= UINT64_C(0xff51afd7ed558ccd);
    x ^= x >> 33;
    x *= UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ x >> 33;
}

static inline uint32_t stress_random(uint64_t *state, uint32_t below)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(stress_mix(*state) % below);
}

/* Length of the record that is put where the tail was `tail`: mostly small, now and then large; a multiple
 * of 8 half of the time. */
static inline uint32_t stress_length(uint64_t tail, uint64_t salt, uint32_t max)
{
    uint64_t x = stress_mix(tail ^ salt << 48);
    uint32_t below = x % 16 == 0 ? max : x % 4 == 0 ? max / 8 : 120;
    uint32_t length = (uint32_t)((x >> 8) % (below - 16)) + 16;
    return x >> 63 ? length & ~7u : length;
}

/* Where a record of that length lands: at the tail, or behind a pad. */
static inline uint64_t stress_position(uint64_t tail, uint32_t length, uint64_t capacity)
{
    uint64_t to_end = capacity - (tail & (capacity - 1));
    return layout_record_size(length) > to_end ? tail + to_end : tail;
}

/* Plain stores and loads, so that ThreadSanitizer sees them. */
static inline void stress_fill(void *body, uint32_t length, uint64_t position, uint64_t salt)
{
    uint64_t *words = body;
    uint64_t seed = stress_mix(position + salt);
    for (uint32_t i = 0; i < length / 8; i++)
        words[i] = seed + i;
    unsigned char *rest = (unsigned char *)body + (length & ~7u);
    for (uint32_t i = 0; i < length % 8; i++)
        rest[i] = (unsigned char)(seed >> i);
}

static inline bool stress_matches(const void *body, uint32_t length, uint64_t position, uint64_t salt)
{
    const uint64_t *words = body;
    uint64_t seed = stress_mix(position + salt);
    uint64_t wrong = 0;
    for (uint32_t i = 0; i < length / 8; i++)
        wrong |= words[i] ^ (seed + i);
    const unsigned char *rest = (const unsigned char *)body + (length & ~7u);
    for (uint32_t i = 0; i < length % 8; i++)
        wrong |= (uint64_t)(rest[i] ^ (unsigned char)(seed >> i));
    return wrong == 0;
}

static inline bool stress_readable(int fd, int milliseconds)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    return poll(&pollfd, 1, milliseconds) == 1;
}

static inline void stress_pause(long microseconds)
{
    struct timespec pause = {.tv_sec = microseconds / 1000000, .tv_nsec = microseconds % 1000000 * 1000};
    nanosleep(&pause, NULL);
}

static inline void stress_spin(uint32_t rounds)
{
    for (volatile uint32_t i = 0; i < rounds; i++)
        ;
}

#endif
