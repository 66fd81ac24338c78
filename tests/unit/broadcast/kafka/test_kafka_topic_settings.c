/* A topic's settings, and what the log says of those that can't work. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "broadcast/kafka/kafka_topic_settings.h"

static void test_checks(void **state)
{
    static const struct {
        const char *name;
        const char *value;
        const char *said;
    } cases[] = {
        {"cleanup.policy", "delete", NULL},
        {"cleanup.policy", "compact", "--add-config cleanup.policy=delete"},
        {"cleanup.policy", "compact,delete", "--entity-name events --add-config cleanup.policy=delete"},
        {"retention.ms", "-1", NULL},
        {"retention.ms", "60000", NULL},
        {"retention.ms", "1000", "less than a minute"},
        {"max.message.bytes", "1000012", NULL},
        {"flush.ms", "1", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kafka_topic_settings settings = {.known = true, .retention_ms = 86400000};
        struct text said = {0};
        kafka_topic_settings_take(&settings, cases[i].name, cases[i].value);
        kafka_topic_settings_check(&settings, "events", "h:9092", &said);
        if (cases[i].said ? !said.length || !strstr(said.data, cases[i].said) : said.length > 0)
            fail_msg("%s=%s: %s", cases[i].name, cases[i].value, said.length ? said.data : "nothing");
        text_free(&said);
    }
}

static void test_remembers_compaction(void **state)
{
    struct kafka_topic_settings settings = {.known = true};
    (void)state;
    kafka_topic_settings_take(&settings, "cleanup.policy", "compact");
    kafka_topic_settings_take(&settings, "cleanup.policy", "delete");
    kafka_topic_settings_take(&settings, "max.message.bytes", "5000");
    assert_false(settings.compacted);
    assert_true(settings.was_compacted);
    assert_int_equal(settings.message_max, 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checks), cmocka_unit_test(test_remembers_compaction)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
