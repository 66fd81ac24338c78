/* What the tests of shm/ share: a segment, or the test fails; records that can be recognised. */
#ifndef OPALD_TESTS_SHM_HARNESS_H
#define OPALD_TESTS_SHM_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/segment.h"

struct segment *make_segment(size_t ring_bytes, size_t uplink_bytes, unsigned slots);

void prepare(struct segment *segment, unsigned slot);

/* Descriptors of its own for a worker in this same process. */
struct segment_descriptors copy_descriptors(const struct segment *segment, unsigned slot);

struct segment *attach(const struct segment *master, unsigned slot);

bool readable(int fd);

/* The n-th record's length (0..max) and bytes follow from n. */
uint32_t pattern_length(uint64_t n, uint32_t max);

void pattern_fill(void *body, uint32_t length, uint64_t n);

void pattern_check(const void *body, uint32_t length, uint64_t n);

#endif
