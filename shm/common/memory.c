#include "shm/common/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void memory_fail(size_t size) __attribute__((noreturn));

static void memory_fail(size_t size)
{
    fprintf(stderr, "opald: out of memory (%zu bytes asked for), ending this process\n", size);
    abort();
}

void *memory_allocate(size_t size)
{
    void *block = calloc(1, size ? size : 1);
    if (!block)
        memory_fail(size);
    return block;
}

void *memory_resize(void *block, size_t size)
{
    void *resized = realloc(block, size ? size : 1);
    if (!resized)
        memory_fail(size);
    return resized;
}

void *memory_copy(const void *bytes, size_t length)
{
    char *copy = memory_allocate(length + 1);
    if (length)
        memcpy(copy, bytes, length);
    return copy;
}

char *memory_copy_string(const char *string)
{
    return memory_copy(string, strlen(string));
}
