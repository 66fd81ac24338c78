#include "server/policy/bundle/bundle_path.h"

#include <string.h>

static size_t leading_slashes(struct slice path)
{
    size_t count = 0;
    while (count < path.length && path.data[count] == '/')
        count++;
    return count == 2 ? 2 : count > 0; /* POSIX: two are special, three are as one */
}

void bundle_path_normalize(struct slice path, struct text *out)
{
    size_t begin = out->length;
    size_t root = leading_slashes(path);
    text_append(out, "//", root);
    for (size_t at = 0; at < path.length;) {
        const char *slash = memchr(path.data + at, '/', path.length - at);
        size_t length = slash ? (size_t)(slash - path.data) - at : path.length - at;
        struct slice part = {path.data + at, length};
        if (part.length > 0 && !slice_equals_string(part, ".")) {
            if (out->length > begin + root)
                text_append_char(out, '/');
            text_append_slice(out, part);
        }
        at += length + 1;
    }
    if (out->length == begin)
        text_append_char(out, '.');
}

struct slice bundle_path_name(struct slice path)
{
    const char *slash = path.length ? memrchr(path.data, '/', path.length) : NULL;
    if (!slash)
        return path;
    return (struct slice){slash + 1, path.length - (size_t)(slash + 1 - path.data)};
}

struct slice bundle_path_suffix(struct slice path)
{
    struct slice name = bundle_path_name(path);
    const char *dot = name.length ? memrchr(name.data, '.', name.length) : NULL;
    if (!dot || dot == name.data || dot == name.data + name.length - 1)
        return SLICE_LITERAL("");
    return (struct slice){dot, name.length - (size_t)(dot - name.data)};
}

struct slice bundle_path_parent(struct slice path)
{
    const char *slash = path.length ? memrchr(path.data, '/', path.length) : NULL;
    return slash ? (struct slice){path.data, (size_t)(slash - path.data)} : SLICE_LITERAL(".");
}

bool bundle_path_is_under(struct slice path, struct slice directory)
{
    if (slice_equals_string(directory, "."))
        return !slice_equals_string(path, ".");
    return path.length > directory.length && path.data[directory.length] == '/' &&
           memcmp(path.data, directory.data, directory.length) == 0;
}

int bundle_path_compare(struct slice a, struct slice b)
{
    int order = memcmp(a.data, b.data, a.length < b.length ? a.length : b.length);
    return order ? order : (a.length > b.length) - (a.length < b.length);
}

bool bundle_path_is_safe(struct slice path)
{
    for (size_t at = 0; at <= path.length;) {
        const char *slash = at < path.length ? memchr(path.data + at, '/', path.length - at) : NULL;
        size_t length = slash ? (size_t)(slash - path.data) - at : path.length - at;
        struct slice part = {path.data + at, length};
        if (length == 0 || slice_equals_string(part, ".") || slice_equals_string(part, ".."))
            return false;
        at += length + 1;
    }
    return true;
}
