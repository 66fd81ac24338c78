#include "server/policy/bundle/bundle_key.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"
#include "server/policy/bundle/bundle_path.h"

static int compare_paths(const void *a, const void *b)
{
    return bundle_path_compare(*(const struct slice *)a, *(const struct slice *)b);
}

/* Sets the key from sorted paths, each in normal form. */
static void key_fill(struct bundle_key *key, struct slice base, const struct slice *paths, size_t count)
{
    size_t at = base.length + 1;
    text_append_slice(&key->bytes, base);
    text_append_char(&key->bytes, '\0');
    key->paths = memory_allocate(count * sizeof *key->paths);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && slice_equals(paths[i], paths[i - 1]))
            continue;
        text_append_slice(&key->bytes, paths[i]);
        text_append_char(&key->bytes, '\0');
        key->paths[key->path_count++].length = paths[i].length;
    }
    key->base = (struct slice){key->bytes.data, base.length};
    for (size_t i = 0; i < key->path_count; at += key->paths[i++].length + 1)
        key->paths[i].data = key->bytes.data + at;
    /* FNV-1a */
    key->hash = 2166136261u;
    for (size_t i = 0; i < key->bytes.length; i++)
        key->hash = (key->hash ^ (unsigned char)key->bytes.data[i]) * 16777619u;
}

void bundle_key_make(struct bundle_key *key, const struct slice *paths, size_t path_count, struct slice base)
{
    size_t count = path_count ? path_count : 1;
    struct text *normal = memory_allocate(count * sizeof *normal);
    struct slice *sorted = memory_allocate(count * sizeof *sorted);
    for (size_t i = 0; i < count; i++) {
        struct slice path = path_count ? paths[i] : SLICE_LITERAL("");
        bool absolute = path.length > 0 && path.data[0] == '/';
        path = (struct slice){path.data + absolute, path.length - absolute};
        if (path.length > 0 && memchr(path.data, '\0', path.length))
            path = SLICE_LITERAL("/NUL");
        if (path.length > 0 && path.data[0] == '/')
            text_append_char(&normal[i], '/');
        bundle_path_normalize(path, &normal[i]);
        sorted[i] = text_slice(&normal[i]);
    }
    qsort(sorted, count, sizeof *sorted, compare_paths);
    if (base.length > 0 && memchr(base.data, '\0', base.length))
        base = SLICE_LITERAL("");
    key_fill(key, base, sorted, count);
    for (size_t i = 0; i < count; i++)
        text_free(&normal[i]);
    free(normal);
    free(sorted);
}

void bundle_key_with_base(const struct bundle_key *key, struct slice base, struct bundle_key *out)
{
    key_fill(out, base, key->paths, key->path_count);
}

bool bundle_key_is_everything(const struct bundle_key *key)
{
    return key->base.length == 0 && key->path_count == 1 && slice_equals_string(key->paths[0], ".");
}

void bundle_key_free(struct bundle_key *key)
{
    text_free(&key->bytes);
    free(key->paths);
    *key = (struct bundle_key){0};
}
