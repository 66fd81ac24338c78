/*
 * A value below 128 has a bucket of its own; above, each power of two is cut into 128 equal parts, so a
 * bucket is at most 1/128 of its value wide.
 */
#include "tests/bench/load_histogram.h"

#include <string.h>

void histogram_clear(struct histogram *histogram)
{
    memset(histogram, 0, sizeof *histogram);
}

static unsigned bucket_of(uint64_t value)
{
    if (value < HISTOGRAM_PARTS) {
        return (unsigned)value;
    }
    const unsigned shift = 63U - (unsigned)__builtin_clzll(value) - HISTOGRAM_PART_BITS;
    return (shift + 1U) * HISTOGRAM_PARTS + (unsigned)((value >> shift) & (HISTOGRAM_PARTS - 1U));
}

static uint64_t bucket_end(unsigned bucket)
{
    if (bucket < HISTOGRAM_PARTS) {
        return bucket;
    }
    const unsigned shift = bucket / HISTOGRAM_PARTS - 1U;
    const uint64_t low = (uint64_t)(HISTOGRAM_PARTS + bucket % HISTOGRAM_PARTS) << shift;
    return low + (((uint64_t)1 << shift) - 1U);
}

void histogram_add(struct histogram *histogram, uint64_t nanoseconds)
{
    histogram->counts[bucket_of(nanoseconds)]++;
    histogram->total++;
    if (nanoseconds > histogram->max) {
        histogram->max = nanoseconds;
    }
}

uint64_t histogram_percentile(const struct histogram *histogram, double part)
{
    const double wanted = part * (double)histogram->total;
    uint64_t seen = 0;
    for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        seen += histogram->counts[bucket];
        if (histogram->counts[bucket] != 0 && (double)seen >= wanted) {
            const uint64_t end = bucket_end(bucket);
            return end < histogram->max ? end : histogram->max;
        }
    }
    return histogram->max;
}
