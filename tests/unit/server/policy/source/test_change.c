/* From one commit to the next: the head first, then the event, then the branch; and what if a step can't be
 * taken. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "server/policy/source/change.h"
#include "tests/unit/server/policy/bundle/bundle_harness.h"
#include "tests/unit/server/policy/source/source_harness.h"

#define BRANCH "refs/heads/master"

static struct source_harness harness;
static struct harness_repository repository;
static char first[41], second[41];
static bool done, done_ok;

static void on_done(void *context, bool ok)
{
    assert_ptr_equal(context, &harness);
    assert_false(done);
    done = true;
    done_ok = ok;
}

#define END \
    { \
        NULL, NULL, 0, 0 \
    }

static void set_branch(const char *hash)
{
    git_oid oid;
    git_reference *reference = NULL;
    assert_int_equal(git_oid_fromstr(&oid, hash), 0);
    assert_int_equal(git_reference_create(&reference, repository.git, BRANCH, &oid, 1, NULL), 0);
    git_reference_free(reference);
}

static void begin(size_t queue_max)
{
    done = done_ok = false;
    harness_repository_open(&repository);
    source_harness_open(&harness, queue_max);
    harness_repository_commit(
        &repository, (const struct harness_file[]){{"a/x.rego", "one", 0, 0}, {"b/y.rego", "y", 0, 0}, END});
    memcpy(first, repository.head, sizeof first);
    harness_repository_commit(
        &repository, (const struct harness_file[]){{"a/x.rego", "two", 0, 0}, {"b/y.rego", "y", 0, 0}, END});
    memcpy(second, repository.head, sizeof second);
    set_branch(first);
}

static void end(void)
{
    source_harness_close(&harness);
    harness_repository_close(&repository);
}

static struct change *start(const char *old_hash, const char *new_hash)
{
    return change_start(&harness.policy, repository.folder, old_hash, new_hash, "master", on_done, &harness);
}

/* Nothing is published and the branch is where it was, when the workers hear of the head. */
static void on_head(struct source_harness *at)
{
    source_harness_take_events(at);
    assert_int_equal(at->event_count, 0);
    assert_string_equal(at->policy.head.hash, second);
    assert_string_equal(source_harness_reference(repository.folder, BRANCH), first);
    assert_false(done);
}

static void test_order(void **state)
{
    char expected[256];
    (void)state;
    begin(1 << 20);
    harness.on_head = on_head;
    start(first, second);
    assert_true(source_harness_run(&harness, &done));
    assert_true(done_ok);
    assert_int_equal(harness.heads, 1);
    assert_string_equal(harness.policy.repository, repository.folder);
    assert_string_equal(source_harness_reference(repository.folder, BRANCH), second);
    source_harness_take_events(&harness);
    assert_int_equal(harness.event_count, 1);
    snprintf(expected, sizeof expected,
        "{\"old_policy_hash\": \"%s\", \"new_policy_hash\": \"%s\", \"changed_directories\": [\".\", \"a\"]}",
        first, second);
    assert_string_equal(harness.events[0], expected);
    assert_int_equal(counter_read(harness.master, 1, COUNTER_POLICY_CHANGES), 1);
    end();
}

/* No room on the way to the master: the branch waits for the event, and the event for the room. */
static void test_no_room(void **state)
{
    const struct slice topic = SLICE_LITERAL("x");
    char *filler = calloc(1, 4001);
    (void)state;
    begin(5000);
    memset(filler, '1', 4000);
    /* Large ones, then small ones into what room is left. */
    for (size_t length = 4000; length > 0; length = length > 1 ? 1 : 0) {
        const struct publish_request request = {.topics = &topic, .topic_count = 1, .data = {filler, length}};
        while (publisher_publish(harness.policy.publisher, &request, NULL) == PUBLISH_ORDERED)
            continue;
    }
    free(filler);
    start(first, second);
    source_harness_run_for(&harness, 1000);
    assert_int_equal(harness.heads, 1);
    assert_false(done);
    assert_string_equal(source_harness_reference(repository.folder, BRANCH), first);
    /* Now the master takes what is there. */
    struct uplink_record record;
    bool corrupt = false;
    for (unsigned i = 0; i < 200 && !done; i++) {
        while (uplink_next(harness.uplink, &record, &corrupt))
            uplink_release(harness.uplink);
        publisher_flush(harness.policy.publisher);
        source_harness_run_for(&harness, 20);
    }
    assert_true(done && done_ok);
    assert_string_equal(source_harness_reference(repository.folder, BRANCH), second);
    assert_int_equal(counter_read(harness.master, 1, COUNTER_POLICY_CHANGES), 1);
    end();
}

/* The old commit is gone: everything counts as changed. */
static void test_without_the_old_commit(void **state)
{
    (void)state;
    begin(1 << 20);
    harness_log_begin();
    start("0123456789012345678901234567890123456789", second);
    bool ended = source_harness_run(&harness, &done);
    assert_non_null(strstr(harness_log_end(), "all directories count as changed"));
    assert_true(ended && done_ok);
    source_harness_take_events(&harness);
    assert_int_equal(harness.event_count, 1);
    assert_non_null(strstr(harness.events[0], "\"changed_directories\": [\".\", \"a\", \"b\"]}"));
    end();
}

/* The new commit is gone too: nothing is served or published, and the branch stays. */
static void test_damaged(void **state)
{
    (void)state;
    begin(1 << 20);
    harness_log_begin();
    start(first, "0123456789012345678901234567890123456789");
    bool ended = source_harness_run(&harness, &done);
    (void)harness_log_end();
    assert_true(ended && !done_ok);
    assert_int_equal(harness.heads, 0);
    source_harness_take_events(&harness);
    assert_int_equal(harness.event_count, 0);
    assert_string_equal(source_harness_reference(repository.folder, BRANCH), first);
    end();
}

/* Only what is not tracked changed: served, and no event. */
static void test_no_tracked_file(void **state)
{
    (void)state;
    begin(1 << 20);
    set_branch(second);
    harness_repository_commit(&repository, (const struct harness_file[]){{"README", "r", 0, 0},
                                               {"a/x.rego", "two", 0, 0}, {"b/y.rego", "y", 0, 0}, END});
    harness_log_begin();
    start(second, repository.head);
    bool ended = source_harness_run(&harness, &done);
    assert_non_null(strstr(harness_log_end(), "no tracked files were affected"));
    assert_true(ended && done_ok);
    source_harness_take_events(&harness);
    assert_int_equal(harness.event_count, 0);
    assert_string_equal(source_harness_reference(repository.folder, BRANCH), repository.head);
    end();
}

/* More directories than fit into one event: each is in exactly one of several. */
static void test_several_events(void **state)
{
    static char paths[301][64];
    static struct harness_file files[301];
    unsigned found = 0;
    (void)state;
    begin(1 << 20);
    for (size_t i = 0; i < 300; i++) {
        snprintf(paths[i], sizeof paths[i], "directory-with-a-long-name-%03zu/a.rego", i);
        files[i] = (struct harness_file){.path = paths[i], .content = "a"};
    }
    files[300] = (struct harness_file){0};
    set_branch(second);
    harness_repository_commit(&repository, files);
    start(second, repository.head);
    assert_true(source_harness_run(&harness, &done));
    assert_true(done_ok);
    source_harness_take_events(&harness);
    assert_in_range(harness.event_count, 2, 5);
    for (size_t i = 0; i < 300; i++) {
        char name[64];
        snprintf(name, sizeof name, "\"directory-with-a-long-name-%03zu\"", i);
        for (size_t event = 0; event < harness.event_count; event++)
            found += strstr(harness.events[event], name) != NULL;
    }
    assert_int_equal(found, 300);
    assert_int_equal(counter_read(harness.master, 1, COUNTER_POLICY_CHANGES), harness.event_count);
    end();
}

static void test_abandoned(void **state)
{
    (void)state;
    begin(1 << 20);
    change_abandon(start(first, second));
    source_harness_run_for(&harness, 300);
    assert_false(done);
    assert_int_equal(harness.heads, 0);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order), cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_without_the_old_commit), cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_no_tracked_file), cmocka_unit_test(test_several_events),
        cmocka_unit_test(test_abandoned)};
    return cmocka_run_group_tests_name("server/policy/source/change", tests, NULL, NULL);
}
