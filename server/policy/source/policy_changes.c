#include "server/policy/source/policy_changes.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"
#include "server/policy/bundle/bundle_path.h"
#include "shm/common/utf8.h"

/* In an event a topic is itself with its prefix, a length and some padding. */
#define TOPIC_BYTES(length) ((length) + 16)

static void directories_add(struct policy_directories *directories, struct slice path)
{
    struct text repaired = {0};
    text_append_repaired(&repaired, path);
    if (directories->count == directories->capacity) {
        directories->capacity = directories->capacity ? directories->capacity * 2 : 32;
        directories->items =
            memory_resize(directories->items, directories->capacity * sizeof *directories->items);
    }
    directories->items[directories->count++] =
        memory_copy(repaired.data ? repaired.data : "", repaired.length);
    text_free(&repaired);
}

/* All directories above `path`. Files come in the order of their names, so those above the one before were
 * added already. */
static void directories_add_above(
    struct policy_directories *directories, struct slice path, struct slice *last)
{
    struct slice parent = bundle_path_parent(path);
    if (last->data && slice_equals(parent, *last))
        return;
    *last = parent;
    for (;;) {
        directories_add(directories, parent);
        if (slice_equals_string(parent, "."))
            return;
        parent = bundle_path_parent(parent);
    }
}

/* Python's order of paths: part by part; the root has no part. '/' sorts below every other byte then. */
static int compare(const void *a, const void *b)
{
    const unsigned char *left = *(const unsigned char *const *)a;
    const unsigned char *right = *(const unsigned char *const *)b;
    bool left_root = strcmp((const char *)left, ".") == 0;
    bool right_root = strcmp((const char *)right, ".") == 0;
    if (left_root || right_root)
        return (int)right_root - (int)left_root;
    while (*left && *left == *right) {
        left++;
        right++;
    }
    int l = *left == '/' ? 1 : *left ? *left + 1 : 0;
    int r = *right == '/' ? 1 : *right ? *right + 1 : 0;
    return l - r;
}

static void directories_sort(struct policy_directories *directories)
{
    size_t kept = 0;
    if (directories->count == 0)
        return;
    qsort(directories->items, directories->count, sizeof *directories->items, compare);
    for (size_t i = 1; i < directories->count; i++) {
        if (strcmp(directories->items[i], directories->items[kept]) == 0)
            free(directories->items[i]);
        else
            directories->items[++kept] = directories->items[i];
    }
    directories->count = kept + 1;
}

/* Without extensions everything counts, whatever is ignored: the reference's rule. */
static bool counts(const struct bundle_rules *rules, struct slice path)
{
    if (rules->extensions->count == 0)
        return true;
    return bundle_rules_has_extension(rules, path) && !bundle_rules_ignores(rules, path);
}

void policy_directories_of_diff(
    struct policy_directories *directories, const struct bundle_diff *diff, const struct bundle_rules *rules)
{
    struct slice last = {0};
    for (size_t i = 0; i < diff->count; i++) {
        const struct bundle_change *change = &diff->changes[i];
        if (counts(rules, change->old_path))
            directories_add_above(directories, change->old_path, &last);
        if (change->status == 'R' && counts(rules, change->new_path))
            directories_add_above(directories, change->new_path, &last);
    }
    directories_sort(directories);
}

void policy_directories_of_listing(
    struct policy_directories *directories, struct slice listing, const struct bundle_rules *rules)
{
    struct slice last = {0};
    const char *at = listing.data;
    const char *end = listing.data + listing.length;
    while (at < end) {
        size_t length = strnlen(at, (size_t)(end - at));
        struct slice path = {at, length};
        if (length > 0 && bundle_rules_has_extension(rules, path) && !bundle_rules_ignores(rules, path))
            directories_add_above(directories, path, &last);
        at += length + 1;
    }
    directories_sort(directories);
}

void policy_directories_free(struct policy_directories *directories)
{
    for (size_t i = 0; i < directories->count; i++)
        free(directories->items[i]);
    free(directories->items);
    *directories = (struct policy_directories){0};
}

size_t policy_changes_message(const struct policy_directories *directories, size_t first,
    const char *old_hash, const char *new_hash, size_t bytes_max, struct text *data)
{
    size_t topics = 0;
    size_t at = first;
    text_append_format(data,
        "{\"old_policy_hash\": \"%s\", \"new_policy_hash\": \"%s\", \"changed_directories\": [", old_hash,
        new_hash);
    for (; at < directories->count; at++) {
        size_t before = data->length;
        if (at > first)
            text_append_string(data, ", ");
        text_append_json_ascii(data, slice_from_string(directories->items[at]));
        topics += TOPIC_BYTES(strlen(directories->items[at]));
        if (at > first && data->length + topics > bytes_max) {
            data->length = before;
            break;
        }
    }
    text_append_string(data, "]}");
    return at;
}

void policy_changes_topic(const char *directory, struct text *topic)
{
    text_append_format(topic, "policy:%s", directory);
}
