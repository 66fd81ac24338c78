/* The notation of rate limits that the reference takes (the library `limits`): "10/second", "5 per 2
 * minutes; 100/hour". Pure. */
#ifndef OPALD_SHM_COMMON_RATE_LIMIT_H
#define OPALD_SHM_COMMON_RATE_LIMIT_H

#include <stddef.h>
#include <stdint.h>
#include "shm/common/error.h"
#include "shm/common/object.h"

#define RATE_LIMITS_MAX        8
#define RATE_LIMIT_AMOUNT_MAX  16777215 /* 24 bits: see shm/load_limit.h */
#define RATE_LIMIT_SECONDS_MAX (INT64_C(100) * 360 * 86400)

struct rate_limit {
    /* in one window; 0 refuses everything */
    uint32_t amount;
    uint32_t multiples;
    /* "minute": static text */
    const char *granularity;
    uint64_t window_ms;
};

struct rate_limits {
    /* in the order in which they are written, which is that of the check */
    struct rate_limit items[RATE_LIMITS_MAX];
    size_t count;
};

/* 0, or -1 with `err` saying what is wrong with the text. Upper and lower case are alike; limits are
 * separated by , ; or |. */
MUST_CHECK int rate_limits_parse(const char *notation, struct rate_limits *limits, struct error *err);

#endif
