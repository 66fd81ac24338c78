/* The topic index against a simple list of pairs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/unit/shm/common/random_seed.h"
#include "worker/topics/subscriptions.h"

static unsigned count_of(struct subscriptions *index, const char *name, const void *owner)
{
    struct topic *topic = subscriptions_find(index, slice_from_string(name));
    uint32_t count = 0;
    unsigned mine = 0;
    if (!topic)
        return 0;
    const struct subscription *at = topic_subscriptions(topic, &count);
    for (uint32_t i = 0; i < count; i++, at = at->next) {
        mine += at->owner == owner;
        assert_ptr_equal(at->next->previous, at);
        assert_ptr_equal(at->topic, topic);
    }
    assert_true(slice_equals_string(topic_name(topic), name));
    return mine;
}

static uint64_t ledger;

static void test_basics(void **state)
{
    (void)state;
    struct subscriptions *index = subscriptions_open(&ledger);
    struct subscription_set a = {0}, b = {0};
    struct subscription *first = subscriptions_add(index, &a, &a, SLICE_LITERAL("t"));
    struct subscription *second = subscriptions_add(index, &a, &a, SLICE_LITERAL("t"));
    subscriptions_add(index, &a, &a, SLICE_LITERAL(""));
    subscriptions_add(index, &b, &b, SLICE_LITERAL("t"));
    assert_memory_not_equal(first->id.bytes, second->id.bytes, IDENTITY_BYTES);
    assert_int_equal(count_of(index, "t", &a), 2);
    assert_int_equal(count_of(index, "t", &b), 1);
    assert_int_equal(count_of(index, "", &a), 1);
    assert_null(subscriptions_find(index, SLICE_LITERAL("T")));
    assert_int_equal(subscriptions_topic_count(index), 2);
    assert_int_equal(subscriptions_count(index), 4);

    assert_int_equal(subscriptions_remove(index, &b, SLICE_LITERAL("nope")), 0);
    assert_int_equal(subscriptions_remove(index, &a, SLICE_LITERAL("t")), 2);
    assert_int_equal(count_of(index, "t", &b), 1);
    assert_int_equal(a.count, 1);
    subscriptions_remove_all(index, &a);
    subscriptions_remove_all(index, &b);
    assert_int_equal(ledger, 0);
    assert_int_equal(subscriptions_topic_count(index), 0);
    assert_int_equal(subscriptions_count(index), 0);
    subscriptions_close(index);
}

/* What topics hold counts once, and is shared out among those who hold them. */
static void test_held(void **state)
{
    (void)state;
    struct subscriptions *index = subscriptions_open(&ledger);
    struct subscription_set a = {0}, b = {0};
    assert_int_equal(subscription_set_held(&a), 0);
    subscriptions_add(index, &a, &a, SLICE_LITERAL("common"));
    uint64_t one = ledger;
    assert_in_range(one, strlen("common") + strlen("\"common\""), 200);
    assert_int_equal(subscription_set_held(&a), one);
    subscriptions_add(index, &b, &b, SLICE_LITERAL("common"));
    assert_int_equal(ledger, one);
    assert_int_equal(subscription_set_held(&a), one / 2);
    subscriptions_add(index, &b, &b, SLICE_LITERAL("\xc3\xa9\xc3\xa9")); /* 4 bytes, 14 in JSON */
    assert_int_equal(ledger, one + one - 14 + 18);
    subscriptions_remove(index, &a, SLICE_LITERAL("common"));
    assert_int_equal(subscription_set_held(&a), 0);
    assert_int_equal(subscription_set_held(&b), ledger);
    subscriptions_remove_all(index, &b);
    assert_int_equal(ledger, 0);
    subscriptions_close(index);
}

static void test_order_and_turn(void **state)
{
    (void)state;
    struct subscriptions *index = subscriptions_open(&ledger);
    struct subscription_set sets[4] = {0};
    for (int i = 0; i < 4; i++)
        subscriptions_add(index, &sets[i], &sets[i], SLICE_LITERAL("t"));
    struct topic *topic = subscriptions_find(index, SLICE_LITERAL("t"));
    for (int round = 0; round < 9; round++) {
        uint32_t count;
        const struct subscription *at = topic_subscriptions(topic, &count);
        assert_int_equal(count, 4);
        for (int i = 0; i < 4; i++, at = at->next)
            assert_ptr_equal(at->owner, &sets[(round + i) % 4]);
        topic_turn(topic);
    }
    for (int i = 0; i < 4; i++)
        subscriptions_remove_all(index, &sets[i]);
    subscriptions_close(index);
}

static void test_json_name(void **state)
{
    (void)state;
    struct subscriptions *index = subscriptions_open(&ledger);
    struct subscription_set set = {0};
    const struct subscription *one = subscriptions_add(index, &set, &set, SLICE_LITERAL("a\xc3\xa9\"/"));
    assert_true(slice_equals_string(topic_json(one->topic), "\"a\\u00e9\\\"/\""));
    subscriptions_remove_all(index, &set);
    subscriptions_close(index);
}

#define OWNERS 40
#define TOPICS 300

static void test_random(void **state)
{
    (void)state;
    struct subscriptions *index = subscriptions_open(&ledger);
    static struct subscription_set sets[OWNERS];
    static unsigned model[OWNERS][TOPICS];
    srandom(random_seed(3));
    for (int step = 0; step < 40000; step++) {
        unsigned owner = (unsigned)random() % OWNERS, topic = (unsigned)random() % TOPICS;
        char name[32];
        int length = snprintf(name, sizeof(name), "topic/%u/%*s", topic, (int)(topic % 17), "");
        struct slice slice = {name, (size_t)length};
        switch (random() % 8) {
        case 0:
            assert_int_equal(subscriptions_remove(index, &sets[owner], slice), model[owner][topic]);
            model[owner][topic] = 0;
            break;
        case 1:
            if (random() % 50 == 0) {
                subscriptions_remove_all(index, &sets[owner]);
                memset(model[owner], 0, sizeof(model[owner]));
            }
            break;
        default:
            subscriptions_add(index, &sets[owner], &sets[owner], slice);
            model[owner][topic]++;
        }
        if (step % 100 == 0)
            assert_int_equal(count_of(index, name, &sets[owner]), model[owner][topic]);
    }
    size_t total = 0;
    for (unsigned owner = 0; owner < OWNERS; owner++) {
        for (unsigned topic = 0; topic < TOPICS; topic++)
            total += model[owner][topic];
    }
    assert_int_equal(subscriptions_count(index), total);
    for (unsigned owner = 0; owner < OWNERS; owner++)
        subscriptions_remove_all(index, &sets[owner]);
    assert_int_equal(subscriptions_topic_count(index), 0);
    subscriptions_close(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_basics),
        cmocka_unit_test(test_held),
        cmocka_unit_test(test_order_and_turn),
        cmocka_unit_test(test_json_name),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests_name("subscriptions", tests, NULL, NULL);
}
