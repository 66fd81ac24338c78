/* What makes two requests for a bundle the same: the base, and the set of paths in normal form, sorted, each
 * once. Pure. */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_KEY_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/text.h"

/* Zero-initialise; bundle_key_free at the end. */
struct bundle_key {
    /* base NUL path NUL path NUL ...; equal bytes are equal requests. */
    struct text bytes;
    /* Views into it. */
    struct slice base;
    /* For the builder as they are: an absolute one has one slash more, which the builder takes off. */
    struct slice *paths;
    /* At least one: "." when none was given. */
    size_t path_count;
    uint32_t hash;
};

/* Fills an empty key. A base with a NUL in it counts as none; a path with a NUL becomes a path that no
 * repository has. */
void bundle_key_make(struct bundle_key *key, const struct slice *paths, size_t path_count, struct slice base);
/* The same request with another base. */
void bundle_key_with_base(const struct bundle_key *key, struct slice base, struct bundle_key *out);
/* The whole repository without a base: what every client asks for at its start. */
bool bundle_key_is_everything(const struct bundle_key *key);
void bundle_key_free(struct bundle_key *key);

#endif
