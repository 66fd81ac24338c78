/*
 * A chunk is a power of two and aligned to its size, so the chunk of an object is found by its address:
 *
 *   | header: links, free list, counts | object | object | ...        | unused |
 *
 * Chunks with room are in a list; the newest that has room is served first, so that others may become empty.
 * A chunk's objects are handed out in address order at first, and pages that were never used cost nothing.
 */
#include "worker/net/pool.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "shm/common/memory.h"

#define POOL_CHUNK ((size_t)64 * 1024)

#if defined(__SANITIZE_ADDRESS__)
#define POOL_PLAIN true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_PLAIN true
#endif
#endif
#ifndef POOL_PLAIN
#define POOL_PLAIN false
#endif

struct pool_object {
    struct pool_object *next;
};

struct pool_chunk {
    /* of those with room */
    struct pool_chunk *next;
    struct pool_chunk *previous;
    /* given back */
    struct pool_object *free;
    uint32_t used;
    /* objects from here on were never handed out */
    uint32_t fresh;
};

struct pool {
    /* of an object with what its alignment adds */
    size_t size;
    /* where the first object lies in a chunk */
    size_t first;
    /* objects a chunk */
    uint32_t capacity;
    /* chunks with room */
    struct pool_chunk *open;
    /* an empty one that is kept; also in `open` */
    struct pool_chunk *spare;
    size_t objects;
};

static size_t round_up(size_t size, size_t alignment)
{
    return (size + alignment - 1) / alignment * alignment;
}

struct pool *pool_open(size_t size, size_t alignment)
{
    struct pool *pool = memory_allocate(sizeof *pool);
    pool->size = round_up(size, alignment);
    pool->first = round_up(sizeof(struct pool_chunk), alignment);
    pool->capacity = (uint32_t)((POOL_CHUNK - pool->first) / pool->size);
    return pool;
}

static struct pool_chunk *chunk_of(void *object)
{
    return (struct pool_chunk *)((uintptr_t)object & ~(uintptr_t)(POOL_CHUNK - 1));
}

/* Twice the size is asked for, and what lies before and behind the aligned part given back. */
static struct pool_chunk *chunk_map(void)
{
    char *start = mmap(NULL, 2 * POOL_CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        abort(); /* as memory_allocate */
    char *aligned = (char *)(((uintptr_t)start + POOL_CHUNK - 1) & ~(uintptr_t)(POOL_CHUNK - 1));
    if (aligned > start)
        munmap(start, (size_t)(aligned - start));
    munmap(aligned + POOL_CHUNK, (size_t)(start + POOL_CHUNK - aligned));
    return (struct pool_chunk *)(void *)aligned;
}

static void chunk_link(struct pool *pool, struct pool_chunk *chunk)
{
    chunk->previous = NULL;
    chunk->next = pool->open;
    if (pool->open)
        pool->open->previous = chunk;
    pool->open = chunk;
}

static void chunk_unlink(struct pool *pool, struct pool_chunk *chunk)
{
    if (chunk->previous)
        chunk->previous->next = chunk->next;
    else
        pool->open = chunk->next;
    if (chunk->next)
        chunk->next->previous = chunk->previous;
}

void *pool_allocate(struct pool *pool)
{
    pool->objects++;
    if (POOL_PLAIN)
        return memory_allocate(pool->size);
    if (!pool->open)
        chunk_link(pool, chunk_map());
    struct pool_chunk *chunk = pool->open;
    void *object;
    if (chunk->free) {
        object = chunk->free;
        chunk->free = chunk->free->next;
    } else {
        object = (char *)chunk + pool->first + chunk->fresh++ * pool->size;
    }
    if (chunk == pool->spare)
        pool->spare = NULL;
    if (++chunk->used == pool->capacity)
        chunk_unlink(pool, chunk);
    memset(object, 0, pool->size);
    return object;
}

void pool_free(struct pool *pool, void *object)
{
    pool->objects--;
    if (POOL_PLAIN) {
        free(object);
        return;
    }
    struct pool_chunk *chunk = chunk_of(object);
    struct pool_object *given = object;
    given->next = chunk->free;
    chunk->free = given;
    if (chunk->used-- == pool->capacity)
        chunk_link(pool, chunk);
    if (chunk->used > 0)
        return;
    if (pool->spare) {
        chunk_unlink(pool, chunk);
        munmap(chunk, POOL_CHUNK);
    } else {
        pool->spare = chunk;
    }
}

void pool_close(struct pool *pool)
{
    if (pool->objects > 0)
        abort(); /* somebody would go on using them */
    while (pool->open) {
        struct pool_chunk *chunk = pool->open;
        chunk_unlink(pool, chunk);
        munmap(chunk, POOL_CHUNK);
    }
    free(pool);
}
