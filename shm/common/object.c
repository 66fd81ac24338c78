#include "shm/common/object.h"

#include <stdio.h>
#include <stdlib.h>

void object_broken(const char *type, const char *function)
{
    fprintf(stderr, "opald: %s: the argument is not a %s\n", function, type);
    abort();
}
