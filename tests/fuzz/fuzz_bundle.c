/* What a repository and a query can hold: manifest lines, package lines, ill-formed text, paths, ignore
 * patterns, git's listing. The first byte chooses. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/policy/bundle/bundle_diff.h"
#include "server/policy/bundle/bundle_key.h"
#include "server/policy/bundle/bundle_path.h"
#include "server/policy/bundle/bundle_text.h"
#include "server/policy/bundle/ignore_glob.h"
#include "shm/common/utf8.h"
#include "tests/fuzz/fuzz.h"

static void text(struct slice input)
{
    struct slice rest = input, line;
    struct text repaired = {0};
    while (bundle_text_line(&rest, &line))
        if (line.data < input.data || line.data + line.length > input.data + input.length)
            abort();
    struct slice name = bundle_text_package(input);
    if (name.length > input.length)
        abort();
    text_append_repaired(&repaired, input);
    if (!utf8_is_valid(text_slice(&repaired)))
        abort();
    if (utf8_is_valid(input) && !slice_equals(input, text_slice(&repaired)))
        abort();
    text_free(&repaired);
}

static void path(struct slice input)
{
    struct text once = {0}, twice = {0};
    bundle_path_normalize(input, &once);
    bundle_path_normalize(text_slice(&once), &twice);
    if (!slice_equals(text_slice(&once), text_slice(&twice)))
        abort();
    bundle_path_suffix(text_slice(&once));
    if (!slice_equals_string(text_slice(&once), ".") && once.data[0] != '/' &&
        !bundle_path_is_under(text_slice(&once), bundle_path_parent(text_slice(&once))))
        abort();
    text_free(&once);
    text_free(&twice);
}

static void glob(struct slice input)
{
    const char *end = memchr(input.data, '\0', input.length);
    size_t length = end ? (size_t)(end - input.data) : input.length;
    char *pattern = calloc(1, length + 1);
    memcpy(pattern, input.data, length);
    const struct config_list list = {&pattern, 1};
    ignore_glob_find(&list, (struct slice){input.data + length, input.length - length});
    free(pattern);
}

static void diff(struct slice input)
{
    struct bundle_diff parsed = {0};
    text_append_slice(&parsed.output, input);
    if (bundle_diff_parse(&parsed, 1000, NULL) == 0 && parsed.count > 1000)
        abort();
    bundle_diff_free(&parsed);
}

static void key(struct slice input)
{
    struct bundle_key made = {0}, again = {0};
    const char *middle = memchr(input.data, '\n', input.length);
    size_t length = middle ? (size_t)(middle - input.data) : input.length;
    const struct slice paths[] = {{input.data, length}, {input.data + length, input.length - length}};
    bundle_key_make(&made, paths, 2, paths[0]);
    bundle_key_with_base(&made, made.base, &again);
    if (!slice_equals(text_slice(&made.bytes), text_slice(&again.bytes)))
        abort();
    bundle_key_free(&made);
    bundle_key_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const targets[])(struct slice) = {text, path, glob, diff, key};
    if (size < 2)
        return 0;
    targets[data[0] % 5]((struct slice){(const char *)data + 1, size - 1});
    return 0;
}
