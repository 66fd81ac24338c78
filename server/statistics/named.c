#include "server/statistics/named.h"

#include <search.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"

static int named_compare(const void *left, const void *right)
{
    const struct named *a = left, *b = right;
    if (a->length != b->length)
        return a->length < b->length ? -1 : 1;
    return a->length ? memcmp(a->name, b->name, a->length) : 0;
}

void *named_find(void *const *tree, struct slice name)
{
    const struct named key = {.length = name.length, .name = (char *)(uintptr_t)name.data};
    void *const *found = tfind(&key, tree, named_compare);
    return found ? *found : NULL;
}

void *named_make(void **tree, struct slice name, size_t size)
{
    struct named *named = memory_allocate(size);
    named->length = name.length;
    named->name = memory_allocate(name.length + 1);
    if (name.length)
        memcpy(named->name, name.data, name.length);
    if (!tsearch(named, tree, named_compare))
        abort(); /* only out of memory */
    return named;
}

void named_free(void **tree, struct named *named)
{
    tdelete(named, tree, named_compare);
    free(named->name);
    free(named);
}

struct slice named_slice(const struct named *named)
{
    return (struct slice){named->name, named->length};
}
