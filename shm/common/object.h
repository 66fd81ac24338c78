/*
 * Checks for mistakes of our own that a compiler can't see.
 *
 * A void * that comes back from libevent, librdkafka or a callback table may point at something else than the
 * callee believes. Each heap object that is reached that way begins with a magic number of its own;
 * object_cast looks at it and aborts when it is another (the master replaces a worker, systemd restarts the
 * master). A destructor sets it to 0, so that a use after free is found too.
 */
#ifndef OPALD_SHM_COMMON_OBJECT_H
#define OPALD_SHM_COMMON_OBJECT_H

#include <stdint.h>

/* On every function that can fail: its result must be looked at. */
#define MUST_CHECK __attribute__((warn_unused_result))

/* Writes one line to stderr and aborts. */
_Noreturn void object_broken(const char *type, const char *function);

/* The object behind `pointer`, which must be a TYPE whose first member is a uint32_t that holds MAGIC. Any
 * thread. */
#define object_cast(type, magic, pointer) ((type *)object_checked((pointer), (magic), #type, __func__))

static inline void *object_checked(void *pointer, uint32_t magic, const char *type, const char *function)
{
    if (!pointer || *(const uint32_t *)pointer != magic)
        object_broken(type, function);
    return pointer;
}

#endif
