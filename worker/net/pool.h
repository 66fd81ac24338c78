/*
 * Objects of one size, packed densely, away from the heap. Connections and subscriptions live long and come
 * by the thousands; in the heap they would lie between the short-lived memory of HTTP sessions, and after a
 * burst of connects no page of that could be given back. Memory comes from the kernel in chunks and goes back
 * when a chunk is empty (one is kept). Worker's loop only.
 *
 * Under AddressSanitizer every object is a malloc of its own, so that a use after free is found.
 */
#ifndef OPALD_WORKER_NET_POOL_H
#define OPALD_WORKER_NET_POOL_H

#include <stddef.h>

struct pool;

/* `size` is at most 4096; `alignment` is 8 or 64. Objects are aligned to it. */
struct pool *pool_open(size_t size, size_t alignment);
/* Frees all memory; every object must have been given back. */
void pool_close(struct pool *pool);

void *pool_allocate(struct pool *pool) __attribute__((returns_nonnull, warn_unused_result)); /* zeroed */
void pool_free(struct pool *pool, void *object);

#endif
