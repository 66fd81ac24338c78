/* The files of a commit: their order, limits, what is left out, and reading one. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include "server/policy/bundle/bundle_blob.h"
#include "server/policy/bundle/bundle_tree.h"
#include "tests/unit/server/policy/bundle/bundle_harness.h"

static struct harness_repository repository;

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

static int read_tree(struct bundle_tree *tree, size_t nodes, size_t path_bytes, struct error *err)
{
    const struct bundle_tree_limits limits = {.nodes = nodes, .path_bytes = path_bytes};
    return bundle_tree_read(tree, repository.git, &repository.head_oid, &limits, err);
}

static void test_order(void **state)
{
    static const char *const expected[] = {".", "a-b", "z", "a", "a/y", "a/x", "a/x/1", "b", "b/link"};
    struct bundle_tree tree = {0};
    struct error err = {0};
    (void)state;
    harness_repository_commit(
        &repository, (const struct harness_file[]){{"a/y", "y", 0, 0}, {"a/x/1", "1", 0, 0}, {"z", "z", 0, 0},
                         {"a-b", "ab", 0, 0}, {"b/link", "../z", 0, GIT_FILEMODE_LINK}, {NULL, NULL, 0, 0}});
    assert_int_equal(read_tree(&tree, 100, 100, &err), 0);
    assert_int_equal(tree.count, sizeof expected / sizeof *expected);
    for (size_t i = 0; i < tree.count; i++)
        assert_string_equal(tree.nodes[i].path.data, expected[i]);
    assert_int_equal(bundle_tree_file_count(&tree), 5);
    assert_true(bundle_tree_find(&tree, SLICE_LITERAL("a/x"))->directory);
    assert_false(bundle_tree_find(&tree, SLICE_LITERAL("a/x/1"))->directory);
    assert_null(bundle_tree_find(&tree, SLICE_LITERAL("a/x/2")));
    assert_null(bundle_tree_find(&tree, SLICE_LITERAL("")));
    bundle_tree_free(&tree);
}

static void test_limits(void **state)
{
    struct bundle_tree tree = {0};
    struct error err = {0};
    (void)state;
    harness_repository_commit(
        &repository, (const struct harness_file[]){{"a/bb", "", 0, 0}, {"c", "", 0, 0}, {NULL, NULL, 0, 0}});
    assert_int_equal(read_tree(&tree, 4, 4, &err), 0);
    bundle_tree_free(&tree);
    assert_int_equal(read_tree(&tree, 3, 4, &err), -1);
    assert_int_equal(err.code, E2BIG);
    assert_int_equal(tree.count, 0);
    assert_int_equal(read_tree(&tree, 4, 3, &err), -1);
    assert_int_equal(err.code, E2BIG);
}

static void test_no_commit(void **state)
{
    const struct bundle_tree_limits limits = {.nodes = 10, .path_bytes = 10};
    struct bundle_tree tree = {0};
    struct error err = {0};
    git_oid none = {{0}};
    (void)state;
    assert_int_equal(bundle_tree_read(&tree, repository.git, &none, &limits, &err), -1);
    assert_int_equal(err.code, EIO);
}

static void test_blob(void **state)
{
    struct bundle_tree tree = {0};
    struct error err = {0};
    git_blob *blob = NULL;
    (void)state;
    harness_repository_commit(
        &repository, (const struct harness_file[]){{"f", "12345", 0, 0}, {NULL, NULL, 0, 0}});
    assert_int_equal(read_tree(&tree, 10, 10, &err), 0);
    const git_oid *oid = &bundle_tree_find(&tree, SLICE_LITERAL("f"))->oid;
    assert_int_equal(bundle_blob_open(&blob, repository.git, oid, 5, &err), 0);
    assert_int_equal(git_blob_rawsize(blob), 5);
    git_blob_free(blob);
    assert_int_equal(bundle_blob_open(&blob, repository.git, oid, 4, &err), -1);
    assert_int_equal(err.code, E2BIG);
    git_oid none = {{0}};
    assert_int_equal(bundle_blob_open(&blob, repository.git, &none, 4, &err), -1);
    assert_int_equal(err.code, EIO);
    bundle_tree_free(&tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_no_commit), cmocka_unit_test(test_blob)};
    return cmocka_run_group_tests_name(
        "server/policy/bundle/bundle_tree, bundle_blob", tests, open_repository, close_repository);
}
