/* Things that are found by their name: POSIX trees (tsearch), which are balanced, so that nobody can choose
 * names that collide. A thing begins with a struct named. */
#ifndef OPALD_SERVER_STATISTICS_NAMED_H
#define OPALD_SERVER_STATISTICS_NAMED_H

#include <stddef.h>
#include "shm/common/text.h"

struct named {
    size_t length;
    char *name;
};

/* NULL when there is none. */
void *named_find(void *const *tree, struct slice name);
/* `size` bytes, zeroed but for their struct named, which is in the tree from now on. */
void *named_make(void **tree, struct slice name, size_t size);
void named_free(void **tree, struct named *named);
struct slice named_slice(const struct named *named);

#endif
