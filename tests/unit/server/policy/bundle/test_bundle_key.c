/* Which requests for a bundle are the same, and how the store holds them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "server/policy/bundle/bundle_entry.h"

static struct bundle_key make(const char *base, size_t count, const char *const *paths)
{
    struct bundle_key key = {0};
    struct slice slices[8];
    for (size_t i = 0; i < count; i++)
        slices[i] = slice_from_string(paths[i]);
    bundle_key_make(&key, slices, count, slice_from_string(base));
    return key;
}

#define KEY(base, ...) \
    make(base, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *), \
        (const char *const[]){__VA_ARGS__})

static bool same(struct bundle_key a, struct bundle_key b)
{
    bool result = slice_equals(text_slice(&a.bytes), text_slice(&b.bytes));
    if (result)
        assert_int_equal(a.hash, b.hash);
    bundle_key_free(&a);
    bundle_key_free(&b);
    return result;
}

static void test_same(void **state)
{
    (void)state;
    assert_true(same(make("", 0, NULL), KEY("", ".")));
    assert_true(same(KEY("", "a", "b"), KEY("", "b", "a", "a/", "./b")));
    assert_true(same(KEY("", "/a"), KEY("", "a")));
    assert_false(same(KEY("", "//a"), KEY("", "a")));
    assert_false(same(KEY("", "a"), KEY("", "b")));
    assert_false(same(KEY("", "a"), KEY("x", "a")));
    assert_false(same(KEY("", "a", "b"), KEY("", "a")));
    assert_false(same(KEY("a", "b"), KEY("", "a", "b")));
}

static void test_parts(void **state)
{
    struct bundle_key other = {0};
    (void)state;
    struct bundle_key key = KEY("base", "b/", "a", "b");
    assert_int_equal(key.path_count, 2);
    assert_true(slice_equals_string(key.paths[0], "a") && slice_equals_string(key.paths[1], "b"));
    assert_true(slice_equals_string(key.base, "base"));
    bundle_key_with_base(&key, SLICE_LITERAL("longer base"), &other);
    assert_true(slice_equals_string(other.base, "longer base") && slice_equals_string(other.paths[1], "b"));
    bundle_key_free(&key);
    bundle_key_free(&other);
}

/* A NUL separates the parts of a key: one in a part must not make two requests equal. */
static void test_nul(void **state)
{
    struct bundle_key key = {0};
    const struct slice path = SLICE_LITERAL("a\0b");
    (void)state;
    bundle_key_make(&key, &path, 1, SLICE_LITERAL("x\0y"));
    assert_int_equal(key.base.length, 0);
    assert_true(slice_equals_string(key.paths[0], "//NUL"));
    bundle_key_free(&key);
}

static struct bundle_entry *entry_of(const char *path)
{
    struct bundle_key key = KEY("", path);
    return bundle_entry_make(&key, "repository", "head", 7);
}

static void test_table_and_list(void **state)
{
    static struct bundle_table table;
    struct bundle_list list = {0};
    struct bundle_entry *entries[3000];
    char name[16];
    (void)state;
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "p%d", i);
        entries[i] = entry_of(name);
        bundle_table_add(&table, entries[i]);
        bundle_list_append(&list, entries[i]);
    }
    for (int i = 0; i < 3000; i++)
        assert_ptr_equal(bundle_table_find(&table, &entries[i]->key), entries[i]);
    for (int i = 0; i < 3000; i += 2) {
        bundle_table_remove(&table, entries[i]);
        bundle_table_remove(&table, entries[i]);
        bundle_list_remove(&list, entries[i]);
    }
    assert_int_equal(list.count, 1500);
    assert_ptr_equal(list.first, entries[1]);
    assert_ptr_equal(list.last, entries[2999]);
    for (int i = 0; i < 3000; i++)
        assert_ptr_equal(bundle_table_find(&table, &entries[i]->key), i % 2 ? entries[i] : NULL);
    size_t count = 0;
    for (const struct bundle_entry *entry = list.first; entry; entry = entry->next)
        count++;
    assert_int_equal(count, 1500);
    for (int i = 0; i < 3000; i++)
        bundle_entry_free(entries[i]);
}

static void test_askers(void **state)
{
    struct bundle_entry *entry = entry_of("a");
    (void)state;
    assert_false(bundle_entry_is_built(entry));
    assert_string_equal(entry->head, "head");
    for (uint64_t i = 0; i < 10; i++)
        bundle_entry_add_asker(entry, (struct bundle_asker){.peer = i, .id = 100 + i});
    assert_int_equal(entry->asker_count, 10);
    assert_int_equal(entry->askers[9].id, 109);
    bundle_entry_forget_askers(entry);
    assert_int_equal(entry->asker_count, 0);
    entry->body = (struct bundle_body){.descriptor = dup(STDIN_FILENO), .json_bytes = 3, .gzip_bytes = 4};
    int descriptor = entry->body.descriptor;
    assert_true(bundle_entry_is_built(entry));
    assert_int_equal(bundle_entry_bytes(entry), 7);
    bundle_entry_free(entry);
    assert_int_equal(close(descriptor), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same), cmocka_unit_test(test_parts),
        cmocka_unit_test(test_nul), cmocka_unit_test(test_table_and_list), cmocka_unit_test(test_askers)};
    return cmocka_run_group_tests_name("server/policy/bundle/bundle_key, bundle_entry", tests, NULL, NULL);
}
