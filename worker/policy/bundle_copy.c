#include "worker/policy/bundle_copy.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/common/memory.h"

#define BUNDLE_COPY_MAGIC UINT32_C(0x6263706d)

static void *map(int descriptor, size_t length)
{
    struct stat status;
    if (length == 0 || fstat(descriptor, &status) < 0 || (size_t)status.st_size != length)
        return NULL;
    void *bytes = mmap(NULL, length, PROT_READ, MAP_SHARED, descriptor, 0);
    return bytes == MAP_FAILED ? NULL : bytes;
}

struct bundle_copy *bundle_copy_map(const struct bundle_link_answer *answer, int descriptor)
{
    size_t length;
    bool overflow = __builtin_add_overflow(answer->json_bytes, answer->gzip_bytes, &length);
    if (descriptor < 0)
        return NULL;
    void *bytes = overflow ? NULL : map(descriptor, length);
    close(descriptor); /* the mapping keeps the memory */
    if (!bytes)
        return NULL;
    struct bundle_copy *copy = memory_allocate(sizeof *copy);
    copy->magic = BUNDLE_COPY_MAGIC;
    copy->references = 1;
    copy->bytes = bytes;
    copy->mapped_bytes = length;
    copy->json_bytes = answer->json_bytes;
    copy->gzip_bytes = answer->gzip_bytes;
    memcpy(copy->tag, answer->tag, sizeof copy->tag);
    memcpy(copy->head, answer->head, sizeof copy->head);
    return copy;
}

struct bundle_copy *bundle_copy_keep(struct bundle_copy *copy)
{
    copy->references++;
    return copy;
}

void bundle_copy_drop(struct bundle_copy *copy)
{
    if (!copy || --copy->references > 0)
        return;
    munmap(copy->bytes, copy->mapped_bytes);
    copy->magic = 0;
    free(copy);
}

static void release(void *context)
{
    bundle_copy_drop(object_cast(struct bundle_copy, BUNDLE_COPY_MAGIC, context));
}

struct output_block *bundle_copy_block(struct bundle_copy *copy, bool gzip)
{
    struct slice bytes = {copy->bytes, copy->json_bytes};
    if (gzip && copy->gzip_bytes > 0)
        bytes = (struct slice){copy->bytes + copy->json_bytes, copy->gzip_bytes};
    return output_block_borrow(bytes, release, bundle_copy_keep(copy));
}
