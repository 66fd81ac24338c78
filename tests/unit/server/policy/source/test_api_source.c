/* A server of bundles as the source, with a fetcher of the test's own: this program, started as opald starts
 * its own. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "server/policy/source/api_fetch.h"
#include "server/policy/source/policy_source.h"
#include "tests/unit/server/policy/bundle/bundle_harness.h"
#include "tests/unit/server/policy/source/source_harness.h"

/* The fetcher's answers are lines of a file that this variable names; each run takes the line of its number.
 * */
#define ANSWERS "OPALD_TEST_ANSWERS"

/* ---- the fetcher: an answer is "fail REASON", "unchanged", or "new VERSION FILE-CONTENT" ---- */

static void fetch_new(const char *version, const char *content)
{
    struct harness_repository repository = {0};
    git_libgit2_init();
    git_libgit2_opts(GIT_OPT_SET_OWNER_VALIDATION, 0);
    git_repository_init_options options;
    git_repository_init_options_init(&options, GIT_REPOSITORY_INIT_OPTIONS_VERSION);
    options.flags = GIT_REPOSITORY_INIT_MKPATH;
    options.initial_head = "master";
    const char *folder = getenv(API_FETCH_REPOSITORY);
    if (git_repository_open(&repository.git, folder) < 0)
        git_repository_init_ext(&repository.git, folder, &options);
    if (git_reference_name_to_id(&repository.head_oid, repository.git, "refs/heads/master") == 0)
        git_oid_tostr(repository.head, sizeof repository.head, &repository.head_oid);
    harness_repository_commit(
        &repository, (const struct harness_file[]){{"a.rego", content, 0, 0}, {NULL, NULL, 0, 0}});
    printf("new\n%s\n%s\n", version, repository.head);
}

static int fetcher(void)
{
    char line[256], number[32], *word, *rest = line;
    unsigned runs = 0;
    FILE *answers = fopen(getenv(ANSWERS), "r+");
    if (!answers || !fgets(number, sizeof number, answers))
        return 9;
    runs = (unsigned)strtoul(number, NULL, 10);
    for (unsigned i = 0; i <= runs; i++)
        if (!fgets(line, sizeof line, answers))
            return 9;
    rewind(answers);
    fprintf(answers, "%03u", runs + 1);
    fclose(answers);
    line[strcspn(line, "\n")] = '\0';
    word = strsep(&rest, " ");
    if (strcmp(word, "unchanged") == 0) {
        printf("unchanged\n%s\n\n", getenv(API_FETCH_VERSION));
        return 0;
    }
    if (strcmp(word, "fail") == 0) {
        fprintf(stderr, "opald: %s\n", rest);
        return 1;
    }
    const char *version = strsep(&rest, " ");
    fetch_new(version, rest);
    return 0;
}

/* ---- the tests ---- */

static struct source_harness harness;
static struct policy_source *source;
static char answers[128];

static void begin(const char *lines)
{
    harness_log_begin();
    source_harness_open(&harness, 1 << 20);
    harness.config.policy_source_type = "API";
    harness.config.policy_bundle_url = "http://user:secret@bundles.example";
    snprintf(answers, sizeof answers, "%s/answers", harness.folder);
    FILE *file = fopen(answers, "w");
    assert_non_null(file);
    fprintf(file, "000\n%s", lines);
    fclose(file);
    setenv(ANSWERS, answers, 1);
    source = policy_source_open(&harness.policy);
}

static const char *end(void)
{
    policy_source_close(source);
    source_harness_close(&harness);
    return harness_log_end();
}

static void run_until_heads(unsigned heads)
{
    for (unsigned i = 0; i < 200 && harness.heads < heads; i++)
        source_harness_run_for(&harness, 50);
    assert_int_equal(harness.heads, heads);
    source_harness_run_for(&harness, 300);
}

static void test_new_unchanged_and_new(void **state)
{
    char first[41], expected[200];
    (void)state;
    begin("new etag:1 one\nunchanged\nnew etag:2 two\n");
    run_until_heads(1);
    memcpy(first, harness.policy.head.hash, sizeof first);
    policy_source_check(source);
    source_harness_run_for(&harness, 500);
    source_harness_take_events(&harness);
    assert_int_equal(harness.event_count, 0);
    policy_source_check(source);
    run_until_heads(2);
    source_harness_take_events(&harness);
    assert_int_equal(harness.event_count, 1);
    snprintf(expected, sizeof expected, "{\"old_policy_hash\": \"%s\", \"new_policy_hash\": \"%s\"", first,
        harness.policy.head.hash);
    assert_non_null(strstr(harness.events[0], expected));
    const char *log = end();
    assert_non_null(strstr(log, "old version hash was 'None', new version hash is '1'"));
    assert_non_null(strstr(log, "No new version: current hash is: 1"));
    assert_non_null(strstr(log, "old version hash was '1', new version hash is '2'"));
    assert_non_null(strstr(log, "Fetching changes from remote: 'http://bundles.example"));
    assert_null(strstr(log, "secret"));
}

/* What was served is served on, and the reason is logged. */
static void test_an_update_that_fails(void **state)
{
    (void)state;
    begin("new etag:1 one\nfail the bundle is damaged\n");
    run_until_heads(1);
    policy_source_check(source);
    source_harness_run_for(&harness, 500);
    assert_int_equal(counter_read(harness.master, 1, COUNTER_POLICY_CHECKS_FAILED), 1);
    assert_int_equal(harness.heads, 1);
    const char *log = end();
    assert_non_null(strstr(log, "Failed to update policy from remote API bundle server: opald: the bundle is "
                                "damaged; trying again in 5 s"));
}

static void test_the_first_one_fails(void **state)
{
    (void)state;
    begin("fail requested url not found\n");
    source_harness_run_for(&harness, 500);
    assert_int_equal(harness.heads, 0);
    const char *log = end();
    assert_non_null(strstr(
        log, "Failed to load initial policy from remote API bundle server: opald: requested url not found"));
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--as-bundle-fetcher") == 0)
        return fetcher();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_new_unchanged_and_new),
        cmocka_unit_test(test_an_update_that_fails), cmocka_unit_test(test_the_first_one_fails)};
    return cmocka_run_group_tests_name("server/policy/source/api_source", tests, NULL, NULL);
}
