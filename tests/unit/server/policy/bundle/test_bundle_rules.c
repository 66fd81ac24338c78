/* Which files of a repository are modules. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "server/policy/bundle/bundle_rules.h"

static void test_rules(void **state)
{
    char *extensions[] = {".rego", ".json"}, *policies[] = {".rego"}, *ignore[] = {"skip/**"};
    const struct config config = {.filter_file_extensions = {extensions, 2},
        .policy_extensions = {policies, 1},
        .bundle_ignore = {ignore, 1},
        .policy_manifest_path = "m",
        .bundle_max_bytes = 1,
        .bundle_files_max = 2,
        .bundle_path_max_bytes = 3};
    static const struct {
        const char *path;
        enum bundle_kind kind;
        bool extension;
        bool ignored;
    } rows[] = {{"a/x.rego", BUNDLE_POLICY, true, false}, {"data.json", BUNDLE_DATA, true, false},
        {"a/data.json", BUNDLE_DATA, true, false}, {"a/other.json", BUNDLE_NEITHER, true, false},
        {"x.txt", BUNDLE_NEITHER, false, false}, {".rego", BUNDLE_NEITHER, false, false},
        {"x.REGO", BUNDLE_NEITHER, false, false}, {"skip/x.rego", BUNDLE_POLICY, true, true},
        {"skipped/x.rego", BUNDLE_POLICY, true, false}};
    const struct bundle_rules rules = bundle_rules_of(&config);
    const struct bundle_limits limits = bundle_limits_of(&config);
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct slice path = slice_from_string(rows[i].path);
        assert_int_equal(bundle_rules_kind(&rules, path), rows[i].kind);
        assert_int_equal(bundle_rules_has_extension(&rules, path), rows[i].extension);
        assert_int_equal(bundle_rules_ignores(&rules, path), rows[i].ignored);
    }
    assert_string_equal(rules.manifest_path, "m");
    assert_int_equal(limits.bytes, 1);
    assert_int_equal(limits.files, 2);
    assert_int_equal(limits.path_bytes, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rules)};
    return cmocka_run_group_tests_name("server/policy/bundle/bundle_rules", tests, NULL, NULL);
}
