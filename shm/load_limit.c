#include "shm/load_limit.h"

#include <stdbool.h>
#include "shm/layout.h"

#define COUNT_BITS 24
#define COUNT_MASK ((UINT64_C(1) << COUNT_BITS) - 1)

static_assert(RATE_LIMIT_AMOUNT_MAX == COUNT_MASK, "an amount must fit the count");
static_assert(RATE_LIMITS_MAX <= LAYOUT_LOAD_WINDOWS, "a word for each limit");

static bool window_take(_Atomic uint64_t *word, const struct rate_limit *limit, uint64_t now_ms)
{
    uint64_t seen = atomic_load_explicit(word, ORDER_LOAD_WINDOW);
    uint64_t wanted;
    if (limit->amount == 0)
        return false;
    do {
        uint64_t start = seen >> COUNT_BITS;
        if (seen == 0 || start > now_ms || now_ms - start >= limit->window_ms)
            wanted = now_ms << COUNT_BITS | 1;
        else if ((seen & COUNT_MASK) >= limit->amount)
            return false;
        else
            wanted = seen + 1;
    } while (
        !atomic_compare_exchange_weak_explicit(word, &seen, wanted, ORDER_LOAD_WINDOW, ORDER_LOAD_WINDOW));
    return true;
}

const struct rate_limit *load_limit_take(
    struct segment *segment, const struct rate_limits *limits, uint64_t now_ms)
{
    segment_check(segment);
    for (size_t i = 0; i < limits->count; i++)
        if (!window_take(&segment->doorbell_line->load_window[i], &limits->items[i], now_ms))
            return &limits->items[i];
    return NULL;
}
