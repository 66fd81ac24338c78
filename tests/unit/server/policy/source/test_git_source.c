/*
 * The life of a git source, with the real git behind a wrapper that notes what it is asked. The remote is a
 * path: it is cloned and fetched through the same checks as over a network.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "shm/common/memory.h"
#include "server/policy/source/policy_source.h"
#include "tests/unit/server/policy/bundle/bundle_harness.h"
#include "tests/unit/server/policy/source/source_harness.h"

static struct source_harness harness;
static struct harness_repository remote;
static struct policy_source *source;
static char *path_before;
static char noted[128];

#define END \
    { \
        NULL, NULL, 0, 0 \
    }

static void make_wrapper(void)
{
    char folder[96], path[128], text[512];
    snprintf(folder, sizeof folder, "%s/bin", harness.folder);
    snprintf(path, sizeof path, "%s/git", folder);
    snprintf(noted, sizeof noted, "%s/noted", harness.folder);
    assert_int_equal(mkdir(folder, 0755), 0);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    /* What comes behind -c and -C is of no interest. */
    fprintf(file,
        "#!/bin/sh\nPATH='%s'\nfor word in \"$@\"; do case $word in clone|fetch|count-objects|ls-remote|gc) "
        "echo $word >>%s;; "
        "esac; done\nexec git \"$@\"\n",
        path_before, noted);
    fclose(file);
    assert_int_equal(chmod(path, 0755), 0);
    snprintf(text, sizeof text, "%s:%s", folder, path_before);
    setenv("PATH", text, 1);
}

/* How often git was asked for that. */
static unsigned asked(const char *command)
{
    char line[64];
    unsigned count = 0;
    FILE *file = fopen(noted, "r");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        count += strcmp(line, command) == 0;
    }
    if (file)
        fclose(file);
    return count;
}

static void commit(const char *content)
{
    harness_repository_commit(&remote, (const struct harness_file[]){{"a/x.rego", content, 0, 0}, END});
}

static int begin(void **state)
{
    (void)state;
    path_before = memory_copy_string(getenv("PATH"));
    harness_log_begin();
    harness_repository_open(&remote);
    source_harness_open(&harness, 1 << 20);
    harness.config.policy_repo_url = remote.folder;
    make_wrapper();
    commit("one");
    return 0;
}

static int end(void **state)
{
    (void)state;
    policy_source_close(source);
    source = NULL;
    source_harness_close(&harness);
    harness_repository_close(&remote);
    setenv("PATH", path_before, 1);
    free(path_before);
    (void)harness_log_end();
    return 0;
}

/* Runs until that commit is served; at most ten seconds. */
static bool serves(const char *hash)
{
    for (unsigned i = 0; i < 200 && strcmp(harness.policy.head.hash, hash) != 0; i++)
        source_harness_run_for(&harness, 50);
    return strcmp(harness.policy.head.hash, hash) == 0;
}

static void run_until_asked(const char *command, unsigned count)
{
    for (unsigned i = 0; i < 200 && asked(command) < count; i++)
        source_harness_run_for(&harness, 50);
    assert_int_equal(asked(command), count);
    source_harness_run_for(&harness, 300);
}

static void test_clone_and_changes(void **state)
{
    char old[41], expected[200];
    (void)state;
    source = policy_source_open(&harness.policy);
    assert_true(serves(remote.head));
    source_harness_take_events(&harness);
    assert_int_equal(harness.event_count, 0); /* the first commit is no change */
    for (unsigned i = 0; i < 3; i++) {
        memcpy(old, remote.head, sizeof old);
        commit(i % 2 ? "odd" : "even");
        policy_source_check(source);
        assert_true(serves(remote.head));
        source_harness_run_for(&harness, 300);
        source_harness_take_events(&harness);
        assert_int_equal(harness.event_count, i + 1);
        snprintf(expected, sizeof expected, "{\"old_policy_hash\": \"%s\", \"new_policy_hash\": \"%s\"", old,
            remote.head);
        assert_non_null(strstr(harness.events[i], expected));
        assert_string_equal(
            source_harness_reference(harness.policy.repository, "refs/heads/master"), remote.head);
    }
    assert_int_equal(asked("clone"), 1);
    assert_int_equal(asked("fetch"), 3);
    assert_int_equal(asked("count-objects"), 0); /* there is no limit */
}

/* With a limit, the clone is measured before a fetch whenever the last one brought something. */
static void test_measured_again_and_again(void **state)
{
    (void)state;
    harness.config.policy_repo_max_bytes = 100u << 20;
    source = policy_source_open(&harness.policy);
    assert_true(serves(remote.head));
    for (unsigned i = 1; i <= 3; i++) {
        commit(i % 2 ? "odd" : "even");
        policy_source_check(source);
        assert_true(serves(remote.head));
        run_until_asked("count-objects", i);
    }
    /* Nothing new: it has been measured since the last change, then it is not again. */
    policy_source_check(source);
    run_until_asked("fetch", 4);
    assert_int_equal(asked("count-objects"), 4);
    policy_source_check(source);
    run_until_asked("fetch", 5);
    assert_int_equal(asked("count-objects"), 4);
}

/* However many checks come during a look, one more look follows. */
static void test_checks_during_a_look(void **state)
{
    (void)state;
    source = policy_source_open(&harness.policy);
    for (unsigned i = 0; i < 5; i++)
        policy_source_check(source);
    assert_true(serves(remote.head));
    run_until_asked("fetch", 1);
    for (unsigned i = 0; i < 5; i++)
        policy_source_check(source);
    run_until_asked("fetch", 3);
}

static void test_polling(void **state)
{
    (void)state;
    harness.config.policy_repo_polling_interval = 1;
    source = policy_source_open(&harness.policy);
    assert_true(serves(remote.head));
    commit("two");
    assert_true(serves(remote.head));
    assert_false(policy_source_failed(source));
}

/* A failed fetch is tried again without another check; the commit that was served still is. */
static void test_a_remote_that_comes_back(void **state)
{
    char aside[96];
    (void)state;
    source = policy_source_open(&harness.policy);
    assert_true(serves(remote.head));
    snprintf(aside, sizeof aside, "%s.aside", remote.folder);
    char old[41];
    memcpy(old, remote.head, sizeof old);
    commit("two");
    assert_int_equal(rename(remote.folder, aside), 0);
    policy_source_check(source);
    for (unsigned i = 0; i < 200 && counter_read(harness.master, 1, COUNTER_POLICY_CHECKS_FAILED) == 0; i++)
        source_harness_run_for(&harness, 50);
    assert_true(counter_read(harness.master, 1, COUNTER_POLICY_CHECKS_FAILED) > 0);
    assert_string_equal(harness.policy.head.hash, old);
    assert_int_equal(rename(aside, remote.folder), 0);
    assert_true(serves(remote.head));
}

static void test_the_clone_is_found_again(void **state)
{
    char old[41];
    (void)state;
    source = policy_source_open(&harness.policy);
    assert_true(serves(remote.head));
    source_harness_run_for(&harness, 300);
    policy_source_close(source);
    memcpy(old, remote.head, sizeof old);
    commit("two");
    harness.policy.head.hash[0] = '\0';
    source = policy_source_open(&harness.policy);
    /* The old commit is served at once, the change since then is published. */
    assert_true(serves(remote.head));
    source_harness_run_for(&harness, 300);
    assert_int_equal(asked("clone"), 1);
    source_harness_take_events(&harness);
    assert_int_equal(harness.event_count, 1);
    assert_non_null(strstr(harness.events[0], old));
}

static void test_another_branch_only(void **state)
{
    (void)state;
    harness.config.policy_repo_main_branch = "main";
    source = policy_source_open(&harness.policy);
    run_until_asked("ls-remote", 1);
    const char *log = harness_log_end();
    harness_log_begin();
    assert_non_null(strstr(log,
        "the repository has no branch 'main'; OPAL_POLICY_REPO_MAIN_BRANCH names the branch, and the "
        "repository's default branch is 'master'"));
    assert_string_equal(harness.policy.head.hash, "");
}

/* A clone that stays too large is given up when its time is over, and the process is to end. */
static void test_too_large(void **state)
{
    static char noise[300000];
    unsigned seed = 7;
    (void)state;
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (char)(rand_r(&seed) >> 8);
    harness_repository_commit(
        &remote, (const struct harness_file[]){{"a/big.rego", noise, sizeof noise, 0}, END});
    harness.config.policy_repo_max_bytes = 100000;
    harness.config.policy_repo_clone_timeout = 1;
    source = policy_source_open(&harness.policy);
    for (unsigned i = 0; i < 300 && !policy_source_failed(source); i++)
        source_harness_run_for(&harness, 50);
    assert_true(policy_source_failed(source));
    assert_true(counter_read(harness.master, 1, COUNTER_POLICY_REPO_TOO_LARGE) >= 2);
    assert_int_equal(harness.heads, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {TEST(test_clone_and_changes), TEST(test_measured_again_and_again),
        TEST(test_checks_during_a_look), TEST(test_polling), TEST(test_a_remote_that_comes_back),
        TEST(test_the_clone_is_found_again), TEST(test_another_branch_only), TEST(test_too_large)};
    return cmocka_run_group_tests_name("server/policy/source/git_source", tests, NULL, NULL);
}
