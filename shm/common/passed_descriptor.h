/*
 * A message of a local socket with a descriptor beside its bytes, or without one (SCM_RIGHTS, unix(7)). The
 * sender may be a worker gone mad: whatever else comes along is closed here.
 */
#ifndef OPALD_SHM_COMMON_PASSED_DESCRIPTOR_H
#define OPALD_SHM_COMMON_PASSED_DESCRIPTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "shm/common/object.h"

/* sendmsg(2) with MSG_NOSIGNAL and `flags`, begun anew when a signal interrupts it. `descriptor` stays the
 * caller's; negative: none. Async-signal-safe. */
MUST_CHECK ssize_t passed_descriptor_send(
    int socket, const struct iovec *parts, size_t count, int descriptor, int flags);

/*
 * recvmsg(2) with `flags`, begun anew when a signal interrupts it. `*descriptor` is the caller's
 * (close-on-exec), -1 when none came. `*cut` (may be NULL) says that the message was longer than `size`, or
 * that it had more than one descriptor, or one for which this process has no room; in the last two cases none
 * is left open and `*descriptor` is -1.
 */
MUST_CHECK ssize_t passed_descriptor_receive(
    int socket, void *buffer, size_t size, int flags, int *descriptor, bool *cut);

#endif
