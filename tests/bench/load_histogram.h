/* Counts of durations in buckets less than 1 % wide: percentiles of millions of values in fixed memory.
 * Not thread-safe. */
#ifndef OPALD_BENCH_LOAD_HISTOGRAM_H
#define OPALD_BENCH_LOAD_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_PART_BITS 7
#define HISTOGRAM_PARTS     (1U << HISTOGRAM_PART_BITS)
#define HISTOGRAM_BUCKETS   ((64U - HISTOGRAM_PART_BITS + 1U) * HISTOGRAM_PARTS)

/* All zero is an empty histogram. */
struct histogram {
    uint64_t total;
    uint64_t max;
    uint64_t counts[HISTOGRAM_BUCKETS];
};

void histogram_clear(struct histogram *histogram);
void histogram_add(struct histogram *histogram, uint64_t nanoseconds);
/* The value that `part` (0 to 1) of the values do not exceed; 0 when empty. Rounded up by less than 1 %,
 * never above max. */
uint64_t histogram_percentile(const struct histogram *histogram, double part);

#endif
