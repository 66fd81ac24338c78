/* Whole bundles of a small repository: full, differences, manifests, bases, limits, and what is logged. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "shm/common/memory.h"
#include "server/policy/bundle/bundle_build.h"
#include "server/policy/bundle/bundle_revision.h"
#include "tests/unit/server/policy/bundle/bundle_harness.h"

static struct harness_repository repository;
static char *extension_items[] = {".rego", ".json"};
static char *ignore_items[] = {"skip/**"};
static const struct config_list extensions = {extension_items, 2};
static const struct config_list policies = {extension_items, 1};
static const struct config_list ignore = {ignore_items, 1};
static struct bundle_rules rules = {
    .extensions = &extensions, .policy_extensions = &policies, .ignore = &ignore};

static int open_repository(void **state)
{
    (void)state;
    harness_repository_open(&repository);
    return 0;
}

static int close_repository(void **state)
{
    (void)state;
    harness_repository_close(&repository);
    return 0;
}

#define END \
    { \
        NULL, NULL, 0, 0 \
    }
#define COMMIT(...) harness_repository_commit(&repository, (const struct harness_file[]){__VA_ARGS__, END})

/* The body, or the detail of an error; the caller frees. */
static char *make_at(
    const char *base, const char *path, size_t bytes_max, unsigned status, struct bundle_result *result)
{
    const struct bundle_limits limits = {.bytes = bytes_max, .files = 100, .path_bytes = 100};
    const struct slice paths[] = {slice_from_string(path)};
    const struct bundle_request request = {.repository = repository.folder,
        .head = repository.head,
        .paths = paths,
        .path_count = path ? 1 : 0,
        .base = slice_from_string(base)};
    struct bundle_builder *builder = bundle_builder_open(&rules, &limits);
    *result = (struct bundle_result){0};
    bundle_builder_make(builder, &request, result);
    bundle_builder_close(builder);
    assert_int_equal(result->status, status);
    char *text = memory_copy(text_slice(&result->detail).data, result->detail.length);
    text_free(&result->detail);
    if (status != 200)
        return text;
    free(text);
    const char *bytes =
        mmap(NULL, result->body.json_bytes, PROT_READ, MAP_SHARED, result->body.descriptor, 0);
    assert_ptr_not_equal(bytes, MAP_FAILED);
    text = memory_copy(bytes, result->body.json_bytes);
    munmap((void *)(uintptr_t)bytes, result->body.json_bytes);
    close(result->body.descriptor);
    return text;
}

static void assert_body(const char *base, const char *path, const char *expected)
{
    struct bundle_result result;
    char hashed[4096];
    snprintf(hashed, sizeof hashed, expected, repository.head);
    char *body = make_at(base, path, 1000000, 200, &result);
    assert_string_equal(body, hashed);
    free(body);
}

static void test_full(void **state)
{
    (void)state;
    COMMIT({"b.rego", "package b.c\n", 0, 0}, {"a/a.rego", "x\npackage a\n", 0, 0},
        {"a/data.json", "{\"k\": 1}", 0, 0}, {"skip/s.rego", "package s", 0, 0}, {"README", "r", 0, 0},
        {"a/other.json", "{}", 0, 0});
    assert_body("", NULL,
        "{\"manifest\":[\"b.rego\",\"a/a.rego\",\"a/data.json\"],\"hash\":\"%s\",\"old_hash\":null,"
        "\"data_modules\":[{\"path\":\"a\",\"data\":\"{\\\"k\\\": 1}\"}],"
        "\"policy_modules\":[{\"path\":\"b.rego\",\"package_name\":\"b.c\",\"rego\":\"package b.c\\n\"},"
        "{\"path\":\"a/a.rego\",\"package_name\":\"a\",\"rego\":\"x\\npackage "
        "a\\n\"}],\"deleted_files\":null}");
    assert_body("", "a/",
        "{\"manifest\":[\"a/a.rego\",\"a/data.json\"],\"hash\":\"%s\",\"old_hash\":null,"
        "\"data_modules\":[{\"path\":\"a\",\"data\":\"{\\\"k\\\": 1}\"}],"
        "\"policy_modules\":[{\"path\":\"a/a.rego\",\"package_name\":\"a\",\"rego\":\"x\\npackage a\\n\"}],"
        "\"deleted_files\":null}");
    struct bundle_result result;
    char *detail = make_at("", "nowhere", 1000000, 404, &result);
    assert_string_equal(detail, "requested path nowhere was not found in the policy repo!");
    free(detail);
}

static void test_difference(void **state)
{
    char old[41], expected[1024];
    struct bundle_result result;
    (void)state;
    COMMIT({"a.rego", "package a\n", 0, 0},
        {"gone.rego", "package gone\nbut long enough to be no rename\n", 0, 0}, {"d/data.json", "{}", 0, 0},
        {"same.rego", "package same\n", 0, 0});
    memcpy(old, repository.head, sizeof old);
    COMMIT({"a.rego", "package a2\n", 0, 0}, {"new.rego", "package new\n", 0, 0},
        {"same.rego", "package same\n", 0, 0});
    snprintf(expected, sizeof expected,
        "{\"manifest\":[\"new.rego\",\"a.rego\"],\"hash\":\"%s\",\"old_hash\":\"%s\",\"data_modules\":[],"
        "\"policy_modules\":[{\"path\":\"new.rego\",\"package_name\":\"new\",\"rego\":\"package new\\n\"},"
        "{\"path\":\"a.rego\",\"package_name\":\"a2\",\"rego\":\"package a2\\n\"}],"
        "\"deleted_files\":{\"data_modules\":[\"d\"],\"policy_modules\":[\"gone.rego\"]}}",
        repository.head, old);
    char *body = make_at(old, NULL, 1000000, 200, &result);
    assert_string_equal(body, expected);
    assert_true(result.diff);
    free(body);
    /* Another spelling of the base: what to ask with. */
    free(make_at("HEAD~1", NULL, 1000000, BUNDLE_OTHER_BASE, &result));
    assert_string_equal(result.base, old);
    free(make_at("0123", NULL, 1000000, BUNDLE_OTHER_BASE, &result));
    assert_string_equal(result.base, "");
}

static void test_revisions(void **state)
{
    char hash[41], first[41], brief[11];
    (void)state;
    COMMIT({"a.rego", "one", 0, 0});
    memcpy(first, repository.head, sizeof first);
    COMMIT({"a.rego", "two", 0, 0});
    assert_true(bundle_revision_find(repository.git, slice_from_string(first), hash));
    assert_string_equal(hash, first);
    snprintf(brief, sizeof brief, "%.10s", first);
    assert_true(bundle_revision_find(repository.git, slice_from_string(brief), hash));
    assert_string_equal(hash, first);
    assert_true(bundle_revision_find(repository.git, SLICE_LITERAL("master~1"), hash));
    assert_string_equal(hash, first);
    /* Searches, other objects, nothing at all. */
    git_oid file;
    char file_hash[41];
    assert_int_equal(git_blob_create_from_buffer(&file, repository.git, "one", 3), 0);
    git_oid_tostr(file_hash, sizeof file_hash, &file);
    const char *const refused[] = {
        "", ":/m", "HEAD^{/m}", "HEAD@{1}", "a b", file_hash, "HEAD:a.rego", "nothing"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_false(bundle_revision_find(repository.git, slice_from_string(refused[i]), hash));
        assert_string_equal(hash, "");
    }
}

static void test_manifest_order(void **state)
{
    (void)state;
    COMMIT({"a.rego", "", 0, 0}, {"b.rego", "", 0, 0}, {"c/x.rego", "", 0, 0}, {"c/y.rego", "", 0, 0},
        {"c/.manifest", "y.rego\n../a.rego\n", 0, 0},
        {".manifest", "c\nb.rego\nb.rego\n/a.rego\nmissing\n", 0, 0});
    struct bundle_result result;
    char *body = make_at("", NULL, 1000000, 200, &result);
    assert_non_null(strstr(body, "{\"manifest\":[\"c/y.rego\",\"b.rego\",\"a.rego\",\"c/x.rego\"]"));
    free(body);
}

/* OPA's own manifest in a policy repository is no mistake. */
static void test_opa_manifest(void **state)
{
    struct bundle_result result;
    (void)state;
    COMMIT({"a.rego", "", 0, 0}, {".manifest", "{\n  \"revision\": \"1\",\n  \"roots\": [\"a\"]\n}\n", 0, 0});
    harness_log_begin();
    char *body = make_at("", NULL, 1000000, 200, &result);
    const char *log = harness_log_end();
    assert_null(strstr(log, "WARNING"));
    assert_non_null(strstr(log, "The manifest in '.' is OPA's own"));
    free(body);
    /* What only begins like it is a list of paths with mistakes. */
    COMMIT({"a.rego", "", 0, 0}, {".manifest", "{\n  \"revision\": \"1\",\n", 0, 0});
    harness_log_begin();
    free(make_at("", NULL, 1000000, 200, &result));
    assert_non_null(strstr(harness_log_end(), "Path '{' of the manifest in '.' does not exist"));
}

static void test_empty_by_filters(void **state)
{
    static char *without_dots[] = {"rego"};
    static const struct config_list wrong = {without_dots, 1};
    struct bundle_result result;
    (void)state;
    COMMIT({"a.rego", "", 0, 0}, {"b/b.rego", "", 0, 0}, {"README", "", 0, 0});
    harness_log_begin();
    free(make_at("", NULL, 1000000, 200, &result));
    assert_null(strstr(harness_log_end(), "is empty"));
    rules.extensions = &wrong;
    harness_log_begin();
    free(make_at("", NULL, 1000000, 200, &result));
    const char *log = harness_log_end();
    rules.extensions = &extensions;
    assert_non_null(strstr(log, "WARNING"));
    assert_non_null(
        strstr(log, "is empty: 0 of the repository's 3 files are in it. OPAL_FILTER_FILE_EXTENSIONS=rego, "
                    "OPAL_POLICY_REPO_POLICY_EXTENSIONS=.rego and OPAL_BUNDLE_IGNORE=skip/**"));
}

static void test_limits_and_damage(void **state)
{
    struct bundle_result result;
    (void)state;
    COMMIT({"a.rego", "package a\n", 0, 0}, {"b.rego", "package b\n", 0, 0});
    harness_log_begin();
    char *detail = make_at("", NULL, 150, 500, &result);
    assert_string_equal(detail, "policy bundle is larger than 150 bytes");
    free(detail);
    memset(repository.head, '0', 40);
    detail = make_at("", NULL, 1000000, 500, &result);
    (void)harness_log_end();
    assert_string_equal(detail, "the policy bundle could not be made");
    free(detail);
    git_oid_tostr(repository.head, sizeof repository.head, &repository.head_oid);
}

static void test_not_utf8(void **state)
{
    struct bundle_result result;
    (void)state;
    COMMIT({"caf\xe9.rego", "package \xff\n", 0, 0});
    harness_log_begin();
    char *body = make_at("", NULL, 1000000, 200, &result);
    const char *log = harness_log_end();
    assert_int_equal(result.repaired, 1);
    assert_non_null(strstr(body,
        "{\"path\":\"caf\xef\xbf\xbd.rego\",\"package_name\":\"\",\"rego\":\"package \xef\xbf\xbd\\n\"}"));
    assert_non_null(strstr(log, "caf\\xe9.rego at "));
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {/* first: the lines about manifests are limited */
        cmocka_unit_test(test_opa_manifest), cmocka_unit_test(test_full), cmocka_unit_test(test_difference),
        cmocka_unit_test(test_revisions), cmocka_unit_test(test_manifest_order),
        cmocka_unit_test(test_empty_by_filters), cmocka_unit_test(test_limits_and_damage),
        cmocka_unit_test(test_not_utf8)};
    return cmocka_run_group_tests_name(
        "server/policy/bundle/bundle_build, bundle_write, bundle_revision, bundle_manifest", tests,
        open_repository, close_repository);
}
