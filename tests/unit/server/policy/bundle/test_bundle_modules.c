/* Which changes and files become modules, and in which order: tables of git's listing. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "server/policy/bundle/bundle_modules.h"

static char *extension_items[] = {".rego", ".json"};
static char *ignore_items[] = {"skip/**"};
static const struct config_list extensions = {extension_items, 2};
static const struct config_list policies = {extension_items, 1};
static const struct config_list ignore = {ignore_items, 1};
static const struct bundle_rules rules = {
    .extensions = &extensions, .policy_extensions = &policies, .ignore = &ignore};

#define H1 "1111111111111111111111111111111111111111"
#define H2 "2222222222222222222222222222222222222222"
#define Z0 "0000000000000000000000000000000000000000"

static void read_changes(struct bundle_diff *diff)
{
    struct error err = {0};
    static const char *const changes[] = {":100644 000000 " H1 " " Z0 " D|gone.rego|",
        ":100644 000000 " H1 " " Z0 " D|d/data.json|",
        ":100644 100644 " H1 " " H1 " R100|old.rego|a/moved.rego|",
        ":100644 100644 " H1 " " H2 " R090|old2.rego|moved2.rego|",
        ":100644 100644 " H1 " " H2 " M|a/m.rego|", ":000000 100644 " Z0 " " H2 " A|new.rego|",
        ":000000 100644 " Z0 " " H2 " A|skip/new.rego|", ":000000 160000 " Z0 " " H2 " A|sub.rego|",
        ":100644 100755 " H1 " " H1 " M|mode.rego|", ":100644 120000 " H1 " " H2 " T|link.rego|",
        ":000000 100644 " Z0 " " H2 " A|README|", ":000000 100644 " Z0 " " H2 " A|x/../up.rego|"};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
        for (const char *at = changes[i]; *at; at++)
            text_append_char(&diff->output, *at == '|' ? '\0' : *at);
    size_t count = sizeof changes / sizeof *changes;
    /* The status ends with a NUL too: "D|". */
    if (bundle_diff_parse(diff, count, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(diff->count, count);
}

static void assert_paths(const struct bundle_modules *modules, const char *const *paths, size_t count)
{
    for (size_t i = 0; i < modules->count && i < count; i++)
        assert_true(slice_equals_string(modules->items[i].path, paths[i]));
    assert_int_equal(modules->count, count);
}

#define ASSERT_PATHS(modules, ...) \
    assert_paths(modules, (const char *const[]){__VA_ARGS__}, \
        sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void test_changes(void **state)
{
    const struct slice root[] = {SLICE_LITERAL(".")}, folder[] = {SLICE_LITERAL("a")};
    const struct bundle_directories all = {.paths = root, .count = 1}, some = {.paths = folder, .count = 1};
    struct bundle_diff diff = {0};
    struct bundle_modules modules = {0};
    (void)state;
    read_changes(&diff);
    /* Added, renamed, then modified; what was renamed and changed is there twice. */
    bundle_modules_of_diff(&modules, &diff, &all, &rules);
    ASSERT_PATHS(&modules, "new.rego", "a/moved.rego", "moved2.rego", "moved2.rego", "a/m.rego", "mode.rego",
        "link.rego");
    bundle_modules_free(&modules);
    bundle_modules_deleted(&modules, &diff, &all, &rules);
    ASSERT_PATHS(&modules, "gone.rego", "d/data.json", "old.rego", "old2.rego");
    assert_int_equal(modules.items[1].kind, BUNDLE_DATA);
    bundle_modules_free(&modules);
    /* One side in the directory is enough. */
    bundle_modules_of_diff(&modules, &diff, &some, &rules);
    ASSERT_PATHS(&modules, "a/moved.rego", "a/m.rego");
    bundle_modules_free(&modules);
    bundle_modules_deleted(&modules, &diff, &some, &rules);
    ASSERT_PATHS(&modules, "old.rego");
    bundle_modules_free(&modules);
    bundle_diff_free(&diff);
}

static void test_tree(void **state)
{
    struct bundle_node nodes[] = {{.path = SLICE_LITERAL("."), .directory = true},
        {.path = SLICE_LITERAL("x.txt")}, {.path = SLICE_LITERAL("a.rego"), .directory = true},
        {.path = SLICE_LITERAL("skip/s.rego")}, {.path = SLICE_LITERAL("other.json")},
        {.path = SLICE_LITERAL("last.rego")}};
    struct bundle_tree tree = {.nodes = nodes, .count = 5};
    const struct slice root[] = {SLICE_LITERAL(".")};
    const struct bundle_directories all = {.paths = root, .count = 1};
    struct bundle_modules modules = {0};
    (void)state;
    assert_false(bundle_modules_any(&tree, &rules));
    bundle_modules_of_tree(&modules, &tree, &all, &rules);
    assert_int_equal(modules.count, 0);
    tree.count = 6;
    assert_true(bundle_modules_any(&tree, &rules));
    bundle_modules_of_tree(&modules, &tree, &all, &rules);
    ASSERT_PATHS(&modules, "last.rego");
    bundle_modules_free(&modules);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_changes), cmocka_unit_test(test_tree)};
    return cmocka_run_group_tests_name("server/policy/bundle/bundle_modules", tests, NULL, NULL);
}
