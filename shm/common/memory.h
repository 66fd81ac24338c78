/* Allocation that never returns NULL: on failure one line goes to stderr and the process aborts (the master
 * replaces a worker; systemd restarts the master). Sizes that a peer controls are limited before they get
 * here. */
#ifndef OPALD_SHM_COMMON_MEMORY_H
#define OPALD_SHM_COMMON_MEMORY_H

#include <stddef.h>

void *memory_allocate(size_t size) __attribute__((malloc, returns_nonnull, warn_unused_result)); /* zeroed */
void *memory_resize(void *block, size_t size) __attribute__((returns_nonnull, warn_unused_result));
char *memory_copy_string(const char *string) __attribute__((returns_nonnull, warn_unused_result));
void *memory_copy(const void *bytes, size_t length)
    __attribute__((returns_nonnull, warn_unused_result)); /* + a NUL */

#endif
