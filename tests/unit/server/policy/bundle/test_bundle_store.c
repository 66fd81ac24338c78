/* The store with real builders (forked, not executed) on a small repository made here, and with builders that
 * misbehave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "shm/common/memory.h"
#include "server/policy/bundle/bundle_child.h"
#include "server/policy/bundle/bundle_key.h"
#include "server/policy/bundle/bundle_store.h"
#include "server/policy/bundle/bundle_wire.h"

static char folder[] = "/tmp/opald-bundle-store-XXXXXX";
static char first[41], second[41], third[41];
static struct event_base *base;
static struct bundle_store *store;
static unsigned started, counts[BUNDLE_COUNT_BUILDERS_DIED + 1];
static struct {
    unsigned count;
    unsigned status;
    uint64_t id;
    char detail[256];
    char tag[BUNDLE_TAG_LENGTH + 1];
    char *body;
    uint64_t bytes;
    bool no_base;
    uint64_t ids[16]; /* in the order of the answers; the first ones */
    unsigned statuses[16];
} last;

/* ---- builders ---- */

static char *extension_items[] = {(char *)(uintptr_t) ".rego", (char *)(uintptr_t) ".json"};
static const struct config_list extensions = {extension_items, 2};
static const struct config_list policies = {extension_items, 1};
static const struct config_list none = {0};

static int start_good(int socket, struct error *err)
{
    const struct bundle_rules rules = {
        .extensions = &extensions, .policy_extensions = &policies, .ignore = &none};
    const struct bundle_limits limits = {.bytes = 4000, .files = 100, .path_bytes = 100};
    (void)err;
    started++;
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 3; i < 100; i++)
            if (i != socket)
                close(i);
        bundle_child_serve(socket, &rules, &limits);
        _exit(0);
    }
    return (int)pid;
}

/* Reads its request, then does nothing (`hang`), or dies. */
static int start_bad(int socket, bool hang)
{
    started++;
    pid_t pid = fork();
    if (pid == 0) {
        struct text buffer = {0};
        int descriptor;
        if (bundle_wire_receive(socket, &buffer, &descriptor) > 0 && hang)
            pause();
        _exit(1);
    }
    return (int)pid;
}

static int start_hanging(int socket, struct error *err)
{
    (void)err;
    return start_bad(socket, true);
}

static int start_dying(int socket, struct error *err)
{
    (void)err;
    return start_bad(socket, false);
}

static int start_dying_once(int socket, struct error *err)
{
    return started == 0 ? start_bad(socket, false) : start_good(socket, err);
}

static int start_never(int socket, struct error *err)
{
    (void)socket;
    started++;
    return error_set(err, -1, "no builder today");
}

/* ---- answers ---- */

static void answered(void *context, struct bundle_asker asker, const struct bundle_answer *answer)
{
    (void)context;
    if (last.count < sizeof last.ids / sizeof *last.ids) {
        last.ids[last.count] = asker.id;
        last.statuses[last.count] = answer->status;
    }
    last.count++;
    last.status = answer->status;
    last.id = asker.id;
    last.no_base = answer->no_base;
    snprintf(last.detail, sizeof last.detail, "%.*s", (int)answer->detail.length, answer->detail.data);
    free(last.body);
    last.body = NULL;
    if (answer->status != 200)
        return;
    void *bytes = mmap(NULL, answer->json_bytes, PROT_READ, MAP_SHARED, answer->descriptor, 0);
    assert_ptr_not_equal(bytes, MAP_FAILED);
    last.body = memory_copy(bytes, answer->json_bytes);
    munmap(bytes, answer->json_bytes);
    snprintf(last.tag, sizeof last.tag, "%s", answer->tag);
    last.bytes = answer->json_bytes + answer->gzip_bytes;
    /* sealed: nobody who has the descriptor can change it */
    assert_int_equal(ftruncate(answer->descriptor, 0), -1);
    assert_int_equal(write(answer->descriptor, "x", 1), -1);
}

static void count(void *context, enum bundle_count what, uint64_t amount)
{
    (void)context;
    counts[what] += (unsigned)amount;
}

static void open_store(
    int (*start)(int, struct error *), uint64_t cache_bytes, size_t waiting_max, double seconds)
{
    memset(counts, 0, sizeof counts);
    free(last.body);
    memset(&last, 0, sizeof last);
    started = 0;
    base = event_base_new();
    store = bundle_store_open(&(struct bundle_store_settings){.base = base,
        .cache_bytes = cache_bytes,
        .waiting_max = waiting_max,
        .build_seconds = seconds,
        .start = start,
        .answered = answered,
        .count = count});
}

static void close_store(void)
{
    bundle_store_close(store);
    event_base_free(base);
    pid_t ended = 0;
    for (unsigned i = 0; ended >= 0 && i < 10000; i++) { /* a builder ends when its socket does */
        ended = waitpid(-1, NULL, WNOHANG);
        if (ended == 0)
            usleep(1000);
    }
    assert_int_equal(ended, -1);
}

static void ask(const char *path, const char *base_hash, uint64_t id)
{
    struct slice paths[] = {slice_from_string(path)};
    bundle_store_ask(store, paths, path ? 1 : 0, slice_from_string(base_hash ? base_hash : ""),
        (struct bundle_asker){.peer = 7, .id = id});
}

/* Runs the loop until so many answers are there. */
static void wait_for(unsigned answers)
{
    for (unsigned i = 0; last.count < answers && i < 10000; i++) {
        event_base_loop(base, EVLOOP_NONBLOCK | EVLOOP_ONCE); /* one round: not the next answer as well */
        usleep(1000);
    }
    assert_int_equal(last.count, answers);
}

/* ---- tests ---- */

static void test_no_repository(void **state)
{
    (void)state;
    open_store(start_good, 1 << 20, 10, 30);
    ask(".", NULL, 1);
    assert_int_equal(last.status, 503);
    assert_string_equal(last.detail, "policy repo was not found");
    bundle_store_set_head(store, folder, first);
    bundle_store_set_head(store, NULL, NULL);
    ask(".", NULL, 2);
    assert_int_equal(last.status, 503);
    assert_int_equal(started, 0);
    close_store();
}

static void test_built_once(void **state)
{
    (void)state;
    open_store(start_good, 1 << 20, 10, 30);
    bundle_store_set_head(store, folder, second);
    for (uint64_t i = 0; i < 1000; i++)
        ask(i % 2 ? "/" : "./.", NULL, i);
    assert_int_equal(last.count, 0);
    wait_for(1000);
    assert_int_equal(last.id, 999);
    ask(NULL, NULL, 1000); /* kept: at once */
    assert_int_equal(last.count, 1001);
    assert_int_equal(last.status, 200);
    assert_non_null(strstr(last.body, "\"hash\":\""));
    assert_non_null(strstr(last.body, second));
    assert_int_equal(counts[BUNDLE_COUNT_BUILT], 1);
    assert_int_equal(counts[BUNDLE_COUNT_SHARED], 1000);
    assert_int_equal(started, 1);
    close_store();
}

static void test_spellings_of_a_base(void **state)
{
    char upper[41], brief[9];
    (void)state;
    open_store(start_good, 1 << 20, 10, 30);
    bundle_store_set_head(store, folder, second);
    for (int i = 0; i < 41; i++)
        upper[i] = (char)(first[i] >= 'a' ? first[i] - 32 : first[i]);
    snprintf(brief, sizeof brief, "%.8s", first);
    ask(".", first, 1);
    ask(".", "HEAD~2", 2);
    ask(".", upper, 3);
    ask(".", brief, 4);
    wait_for(4);
    assert_int_equal(counts[BUNDLE_COUNT_BUILT], 1);
    assert_non_null(strstr(last.body, "\"old_hash\":\""));
    ask(".", "deadbeef", 5);
    ask(".", "0123456789012345678901234567890123456789", 6);
    ask(".", ":/second", 7);
    ask(".", "HEAD@{0}", 8);
    ask(".", "HEAD^{/second}", 9);
    ask(".", "../../etc/passwd", 10);
    ask(".", NULL, 11);
    wait_for(11);
    assert_int_equal(counts[BUNDLE_COUNT_BUILT], 2); /* the full one */
    assert_non_null(strstr(last.body, "\"old_hash\":null"));
    assert_int_equal(counts[BUNDLE_COUNT_FAILED], 0);
    close_store();
}

static void ask_as(uint64_t client, const char *path, const char *base_hash, uint64_t id)
{
    struct slice paths[] = {slice_from_string(path)};
    bundle_store_ask(store, paths, 1, slice_from_string(base_hash),
        (struct bundle_asker){.peer = 7, .id = id, .client = client});
}

/* A client that asks for many bundles waits for itself; what everybody needs comes first. */
static void test_turns(void **state)
{
    static const uint64_t order[] = {1, 7, 6, 8, 2, 3, 4, 5};
    (void)state;
    open_store(start_good, 1 << 20, 10, 30);
    bundle_store_set_head(store, folder, second);
    ask_as(1, "n1", "", 1); /* it is being built */
    ask_as(1, "n2", "", 2);
    ask_as(1, "n3", "", 3);
    ask_as(1, "n4", "junk", 4);
    ask_as(1, "n5", "", 5);
    ask_as(2, "a", "", 6);
    ask_as(3, ".", "", 7);
    ask_as(3, "b", "", 8);
    wait_for(8);
    assert_memory_equal(last.ids, order, sizeof order);
    close_store();
}

/* In a full queue, the client that waits for most makes room for one that waits for less. */
static void test_room_for_others(void **state)
{
    static const uint64_t order[] = {3, 4, 2, 7, 1, 5, 6};
    static const unsigned statuses[] = {503, 503, 503, 503, 404, 404, 404};
    (void)state;
    open_store(start_good, 1 << 20, 3, 30);
    bundle_store_set_head(store, folder, second);
    ask_as(1, "n1", "", 1);
    ask_as(1, "n2", "", 2);
    ask_as(1, "n3", "", 3);
    ask_as(2, "m1", "", 5); /* instead of n3 */
    ask_as(1, "n4", "", 4); /* has no more right to the room than n2 */
    ask_as(3, "o1", "", 6); /* instead of n2 */
    ask_as(2, "m2", "", 7);
    assert_int_equal(last.count, 4);
    wait_for(7);
    assert_memory_equal(last.ids, order, sizeof order);
    assert_memory_equal(last.statuses, statuses, sizeof statuses);
    assert_int_equal(counts[BUNDLE_COUNT_REFUSED], 4);
    close_store();
}

/* Bases that are no commits share one bundle, and the answer says so. */
static void test_unknown_bases(void **state)
{
    (void)state;
    open_store(start_good, 1 << 20, 200, 30);
    bundle_store_set_head(store, folder, second);
    for (uint64_t i = 0; i < 150; i++) {
        char junk[41];
        snprintf(junk, sizeof junk, "%040" PRIx64, i);
        ask(".", junk, i);
    }
    wait_for(150);
    assert_true(last.status == 200 && last.no_base);
    assert_int_equal(counts[BUNDLE_COUNT_BUILT], 1);
    ask(".", NULL, 150);
    assert_true(last.count == 151 && !last.no_base);
    ask(".", first, 151);
    wait_for(152);
    assert_false(last.no_base);
    close_store();
}

/* What every client asks for at its start stays, however many others are built. */
static void test_everything_stays(void **state)
{
    (void)state;
    open_store(start_good, 1 << 20, 10, 30);
    bundle_store_set_head(store, folder, second);
    ask(".", NULL, 1);
    wait_for(1);
    uint64_t room = last.bytes;
    close_store();
    open_store(start_good, room + room / 2, 10, 30);
    bundle_store_set_head(store, folder, second);
    ask(NULL, NULL, 1);
    ask("a", NULL, 2);
    ask(".", first, 3);
    ask("b", NULL, 4);
    wait_for(4);
    ask(".", NULL, 5);
    assert_int_equal(last.count, 5); /* at once */
    close_store();
}

static void test_missing_paths(void **state)
{
    struct slice nul = SLICE_LITERAL("a\0b");
    (void)state;
    open_store(start_good, 1 << 20, 10, 30);
    bundle_store_set_head(store, folder, second);
    ask("nowhere/", NULL, 1);
    wait_for(1);
    assert_int_equal(last.status, 404);
    assert_string_equal(last.detail, "requested path nowhere was not found in the policy repo!");
    ask("//a", NULL, 2); /* only one slash is taken off */
    wait_for(2);
    assert_int_equal(last.status, 404);
    assert_string_equal(last.detail, "requested path /a was not found in the policy repo!");
    bundle_store_ask(store, &nul, 1, SLICE_LITERAL(""), (struct bundle_asker){.peer = 7, .id = 3});
    wait_for(3);
    assert_int_equal(last.status, 404);
    ask("/a", NULL, 4);
    wait_for(4);
    assert_int_equal(last.status, 200);
    assert_int_equal(counts[BUNDLE_COUNT_FAILED], 0);
    close_store();
}

static void test_new_head(void **state)
{
    (void)state;
    open_store(start_good, 1 << 20, 10, 30);
    bundle_store_set_head(store, folder, first);
    ask(".", NULL, 1);
    bundle_store_set_head(store, folder, second); /* while it is being built */
    ask(".", NULL, 2);
    wait_for(1);
    assert_int_equal(last.id, 1);
    assert_non_null(strstr(last.body, first));
    wait_for(2);
    assert_non_null(strstr(last.body, second));
    ask(".", NULL, 3);
    assert_int_equal(last.count, 3);
    bundle_store_set_head(store, folder, second); /* the same: what is kept stays */
    ask(".", NULL, 4);
    assert_int_equal(last.count, 4);
    bundle_store_set_head(store, folder, first);
    ask(".", NULL, 5);
    assert_int_equal(last.count, 4);
    wait_for(5);
    assert_int_equal(counts[BUNDLE_COUNT_BUILT], 3);
    close_store();
}

static void test_least_recently_used(void **state)
{
    (void)state;
    open_store(start_good, 1 << 20, 10, 30);
    bundle_store_set_head(store, folder, second);
    ask(".", NULL, 1);
    wait_for(1);
    uint64_t room = last.bytes;
    ask(".", first, 2);
    wait_for(2);
    room += last.bytes;
    close_store();
    open_store(start_good, room, 10, 30); /* for these two */
    bundle_store_set_head(store, folder, second);
    ask(".", NULL, 1);
    ask("a", NULL, 2);
    wait_for(2);
    ask(".", NULL, 3);
    assert_int_equal(last.count, 3);
    ask(".", first, 4);
    wait_for(4);
    assert_int_equal(counts[BUNDLE_COUNT_DROPPED], 1);
    ask(".", NULL, 5);
    assert_int_equal(last.count, 5); /* still there */
    ask("a", NULL, 6);
    assert_int_equal(last.count, 5); /* it was this one */
    wait_for(6);
    close_store();
    open_store(start_good, 0, 10, 30); /* nothing is kept */
    bundle_store_set_head(store, folder, second);
    ask(".", NULL, 1);
    wait_for(1);
    assert_int_equal(last.status, 200);
    ask(".", NULL, 2);
    wait_for(2);
    assert_int_equal(counts[BUNDLE_COUNT_BUILT], 2);
    close_store();
}

static void test_queue_full(void **state)
{
    char path[20];
    (void)state;
    open_store(start_hanging, 1 << 20, 3, 0.2);
    bundle_store_set_head(store, folder, second);
    for (unsigned i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "p%u", i);
        ask(path, NULL, i);
    }
    assert_int_equal(last.count, 1);
    assert_int_equal(last.id, 3);
    assert_int_equal(last.status, 503);
    wait_for(4); /* the others when their time is over, and the hanging builder was killed */
    assert_int_equal(last.status, 503);
    assert_int_equal(counts[BUNDLE_COUNT_REFUSED], 4);
    assert_in_range(started, 1, 3); /* the others were asked for a moment later, and may have begun */
    close_store();
}

static void test_builder_dies(void **state)
{
    (void)state;
    open_store(start_dying, 1 << 20, 10, 30);
    bundle_store_set_head(store, folder, second);
    ask(".", NULL, 1);
    wait_for(1);
    assert_int_equal(last.status, 500);
    assert_int_equal(started, 2);
    assert_int_equal(counts[BUNDLE_COUNT_BUILDERS_DIED], 2);
    close_store();
    open_store(start_dying_once, 1 << 20, 10, 30);
    bundle_store_set_head(store, folder, second);
    ask(".", NULL, 1);
    wait_for(1);
    assert_int_equal(last.status, 200);
    close_store();
    open_store(start_never, 1 << 20, 10, 30);
    bundle_store_set_head(store, folder, second);
    ask(".", NULL, 1);
    assert_int_equal(last.status, 503);
    close_store();
}

static void test_failures(void **state)
{
    (void)state;
    open_store(start_good, 1 << 20, 10, 30);
    bundle_store_set_head(store, "/nowhere", second);
    ask(".", NULL, 1);
    wait_for(1);
    assert_int_equal(last.status, 500);
    assert_string_equal(last.detail, "the policy bundle could not be made");
    bundle_store_set_head(store, folder, "0123456789012345678901234567890123456789");
    ask(".", NULL, 2);
    wait_for(2);
    assert_int_equal(last.status, 500);
    bundle_store_set_head(store, folder, third);
    ask("big", NULL, 3); /* more than the limit */
    wait_for(3);
    assert_int_equal(last.status, 500);
    assert_string_equal(last.detail, "policy bundle is larger than 4000 bytes");
    ask("a", NULL, 4); /* the builder goes on */
    wait_for(4);
    assert_int_equal(last.status, 200);
    assert_int_equal(counts[BUNDLE_COUNT_FAILED], 3);
    assert_int_equal(started, 1);
    close_store();
}

static void test_keys(void **state)
{
    const struct slice one[] = {SLICE_LITERAL("b/"), SLICE_LITERAL("/a"), SLICE_LITERAL("b")};
    const struct slice two[] = {SLICE_LITERAL("a"), SLICE_LITERAL("./b")};
    struct bundle_key a = {0}, b = {0}, c = {0};
    (void)state;
    bundle_key_make(&a, one, 3, SLICE_LITERAL("x"));
    bundle_key_make(&b, two, 2, SLICE_LITERAL("x"));
    assert_true(slice_equals(text_slice(&a.bytes), text_slice(&b.bytes)));
    assert_int_equal(a.hash, b.hash);
    assert_int_equal(a.path_count, 2);
    assert_true(slice_equals_string(a.paths[1], "b"));
    bundle_key_with_base(&a, SLICE_LITERAL("yy"), &c);
    assert_true(slice_equals_string(c.base, "yy"));
    assert_true(slice_equals_string(c.paths[1], "b"));
    assert_false(slice_equals(text_slice(&a.bytes), text_slice(&c.bytes)));
    bundle_key_free(&a);
    bundle_key_free(&b);
    bundle_key_free(&c);
}

/* ---- the repository ---- */

static void commit_of(const char *revision, char *hash)
{
    char command[200];
    snprintf(command, sizeof command, "git -C %s rev-parse %s", folder, revision);
    FILE *output = popen(command, "r");
    assert_non_null(output);
    assert_int_equal(fscanf(output, "%40s", hash), 1);
    pclose(output);
}

static int make_repository(void **state)
{
    char command[1200];
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(command, sizeof command,
        "cd %s && git init -q -b master . && git config user.email t@t && git config user.name t && mkdir a "
        "big &&"
        "echo 'package a' >a/a.rego && echo '{}' >data.json && git add . && git commit -qm first &&"
        "echo 'package b' >b.rego && git add . && git commit -qm second && head -c 5000 /dev/zero "
        ">big/big.rego &&"
        "git add . && git commit -qm third",
        folder);
    if (system(command) != 0)
        return -1;
    commit_of("HEAD~2", first);
    commit_of("HEAD~1", second);
    commit_of("HEAD", third);
    return 0;
}

static int remove_repository(void **state)
{
    char command[100];
    (void)state;
    free(last.body);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_no_repository),
        cmocka_unit_test(test_built_once),
        cmocka_unit_test(test_spellings_of_a_base),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_room_for_others),
        cmocka_unit_test(test_unknown_bases),
        cmocka_unit_test(test_everything_stays),
        cmocka_unit_test(test_missing_paths),
        cmocka_unit_test(test_new_head),
        cmocka_unit_test(test_least_recently_used),
        cmocka_unit_test(test_queue_full),
        cmocka_unit_test(test_builder_dies),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, make_repository, remove_repository);
}
