#include "tests/unit/shm/common/guard_page.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct guarded guarded_copy(const void *bytes, size_t length)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t room = (length + page - 1) / page * page;
    struct guarded guarded = {.size = room + page};
    guarded.mapping = mmap(NULL, guarded.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (guarded.mapping == MAP_FAILED || mprotect((char *)guarded.mapping + room, page, PROT_NONE) != 0)
        abort();
    guarded.bytes = (uint8_t *)guarded.mapping + room - length;
    if (length > 0)
        memcpy(guarded.bytes, bytes, length);
    return guarded;
}

void guarded_free(struct guarded *guarded)
{
    munmap(guarded->mapping, guarded->size);
}
