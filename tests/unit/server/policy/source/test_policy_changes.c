/* Directories and messages of a change; paths and links of an archive; URLs and payloads are in the worker's
 * tests. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "server/policy/source/api_unpack.h"
#include "server/policy/source/policy_changes.h"

static char *extensions[] = {".rego", ".json"};
static char *ignored[] = {"skip/**"};
static const struct config_list extension_list = {extensions, 2};
static const struct config_list ignore_list = {ignored, 1};
static const struct config_list empty_list = {NULL, 0};
static const struct bundle_rules rules = {
    .extensions = &extension_list, .policy_extensions = &extension_list, .ignore = &ignore_list};
static const struct bundle_rules rules_all = {
    .extensions = &empty_list, .policy_extensions = &extension_list, .ignore = &ignore_list};

static struct bundle_change change(char status, const char *old_path, const char *new_path)
{
    return (struct bundle_change){
        .status = status, .old_path = slice_from_string(old_path), .new_path = slice_from_string(new_path)};
}

static void assert_directories(const struct policy_directories *directories, const char *const *expected)
{
    size_t count = 0;
    for (; expected[count]; count++) {
        assert_true(count < directories->count);
        assert_string_equal(directories->items[count], expected[count]);
    }
    assert_int_equal(directories->count, count);
}

static void directories_of_a_diff(void **state)
{
    struct bundle_change changes[] = {change('M', "a/q.rego", "a/q.rego"), change('A', "b/x.txt", "b/x.txt"),
        change('R', "old/deep/z.rego", "new/z.txt"), change('D', "data.json", "data.json"),
        change('M', "skip/s.rego", "skip/s.rego")};
    const struct bundle_diff diff = {.changes = changes, .count = 5};
    struct policy_directories directories = {0};
    (void)state;
    policy_directories_of_diff(&directories, &diff, &rules);
    /* the new side of the rename does not count: .txt */
    assert_directories(&directories, (const char *const[]){".", "a", "old", "old/deep", NULL});
    policy_directories_free(&directories);
    policy_directories_of_diff(&directories, &diff, &rules_all);
    assert_directories(
        &directories, (const char *const[]){".", "a", "b", "new", "old", "old/deep", "skip", NULL});
    policy_directories_free(&directories);
}

/* As Python sorts paths: part by part, so that "a/b" comes before "a-b" although '-' is below '/'. */
static void order_is_by_parts(void **state)
{
    static const char listing[] =
        "a-b/x.rego\0a/b/x.rego\0a b/x.rego\0a!/x.rego\0\xc3\xa9/x.rego\0z.rego\0\xff/x.rego";
    struct policy_directories directories = {0};
    (void)state;
    policy_directories_of_listing(&directories, (struct slice){listing, sizeof listing}, &rules);
    assert_directories(&directories,
        (const char *const[]){".", "a", "a/b", "a b", "a!", "a-b", "\xc3\xa9", "\xef\xbf\xbd", NULL});
    policy_directories_free(&directories);
}

static void messages(void **state)
{
    char *items[] = {".", "a", "a/\"b\"", "\xc3\xa9"};
    const struct policy_directories directories = {.items = items, .count = 4};
    struct text data = {0};
    (void)state;
    assert_int_equal(policy_changes_message(&directories, 0, "OLD", "NEW", 100000, &data), 4);
    assert_string_equal(data.data, "{\"old_policy_hash\": \"OLD\", \"new_policy_hash\": \"NEW\", "
                                   "\"changed_directories\": [\".\", \"a\", \"a/\\\"b\\\"\", \"\\u00e9\"]}");
    text_clear(&data);
    /* what does not fit goes into further ones; one always fits */
    assert_int_equal(policy_changes_message(&directories, 1, "OLD", "NEW", 1, &data), 2);
    assert_non_null(strstr(data.data, "\"changed_directories\": [\"a\"]}"));
    text_free(&data);
}

static void paths_of_an_archive(void **state)
{
    static const char *const refused[] = {
        "/a", "..", "a/../b", "../a", "a/..", ".git", ".git/config", "a/.GiT/x", "./.git"};
    char path[32];
    struct error err = {0};
    (void)state;
    assert_int_equal(api_unpack_path("./a//b/./c.rego/", path, sizeof path, &err), 0);
    assert_string_equal(path, "a/b/c.rego");
    assert_int_equal(api_unpack_path("...", path, sizeof path, &err), 0);
    assert_int_equal(api_unpack_path(".gitignore", path, sizeof path, &err), 0);
    assert_int_equal(api_unpack_path("./", path, sizeof path, &err), 1);
    assert_int_equal(api_unpack_path("", path, sizeof path, &err), 1);
    assert_int_equal(api_unpack_path("0123456789012345678901234567890", path, sizeof path, &err), -1);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        assert_int_equal(api_unpack_path(refused[i], path, sizeof path, &err), -1);
}

static void links_of_an_archive(void **state)
{
    (void)state;
    assert_true(api_unpack_link_stays("a/l", "../b"));
    assert_true(api_unpack_link_stays("a/b/l", "../../c/./d"));
    assert_false(api_unpack_link_stays("l", "../b"));
    assert_false(api_unpack_link_stays("a/l", "x/../../../b"));
    assert_false(api_unpack_link_stays("a/l", "b/../../../a/x"));
    assert_false(api_unpack_link_stays("a/l", "/b"));
    assert_false(api_unpack_link_stays("a/l", "../.git/config"));
    assert_false(api_unpack_link_stays("a/l", ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(directories_of_a_diff),
        cmocka_unit_test(order_is_by_parts),
        cmocka_unit_test(messages),
        cmocka_unit_test(paths_of_an_archive),
        cmocka_unit_test(links_of_an_archive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
