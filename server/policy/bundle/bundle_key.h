/* What makes two questions for a bundle the same: base and the set of paths in normal form, sorted, each once. Pure. */
#ifndef OPALD_SERVER_POLICY_BUNDLE_BUNDLE_KEY_H
#define OPALD_SERVER_POLICY_BUNDLE_BUNDLE_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/text.h"

/* Zero-initialise; bundle_key_free at the end. */
struct bundle_key {
    struct text bytes; /* base NUL path NUL path NUL ...; bytes that equal are questions that equal */
    struct slice base; /* views into it */
    struct slice *
        paths; /* to be given to the builder as they are: absolute ones have one slash more, which it takes off */
    size_t path_count; /* at least one: "." when none was given */
    uint32_t hash;
};

/* Fills an empty key. A base with a NUL in it is as none; a path with a NUL stands as a path that no repository has. */
void bundle_key_make(struct bundle_key *key, const struct slice *paths, size_t path_count, struct slice base);
/* The same question with another base. */
void bundle_key_with_base(const struct bundle_key *key, struct slice base, struct bundle_key *out);
void bundle_key_free(struct bundle_key *key);

#endif
