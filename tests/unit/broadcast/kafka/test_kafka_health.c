/* Signs of life and the trouble that they show. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "broadcast/kafka/kafka_health.h"

#define NOW          (1000 * CLOCK_SECOND)
#define AGO(seconds) (NOW - (seconds)*CLOCK_SECOND)

static void test_signs(void **state)
{
    static const struct {
        struct kafka_signs signs;
        enum backbone_trouble trouble;
    } cases[] = {
        {{.connected = true, .was_settled = true}, BACKBONE_NO_TROUBLE},
        {{.connected = false}, BACKBONE_DISCONNECTED},
        {{.connected = false, .topic_missing = true}, BACKBONE_NO_TOPIC},
        {{.connected = true, .unsettled_ns = AGO(0)}, BACKBONE_POSITION_UNKNOWN},
        {{.connected = true, .was_settled = true, .unsettled_ns = AGO(1)}, BACKBONE_NO_TROUBLE},
        {{.connected = true, .was_settled = true, .unsettled_ns = AGO(3)}, BACKBONE_POSITION_UNKNOWN},
        {{.connected = true, .silent_for_ns = 9 * CLOCK_SECOND}, BACKBONE_NO_TROUBLE},
        {{.connected = true, .silent_for_ns = 11 * CLOCK_SECOND}, BACKBONE_SILENT},
        {{.connected = true, .oldest_ns = AGO(9)}, BACKBONE_NO_TROUBLE},
        {{.connected = true, .oldest_ns = AGO(11)}, BACKBONE_NOT_ACKNOWLEDGED},
        {{.connected = true, .oldest_ns = AGO(11), .throttled_ns = AGO(30)}, BACKBONE_NOT_ACKNOWLEDGED},
        {{.connected = true, .oldest_ns = AGO(11), .throttled_ns = AGO(5)}, BACKBONE_THROTTLED},
        {{.connected = true, .oldest_ns = AGO(2), .throttled_ns = AGO(1)}, BACKBONE_NO_TROUBLE},
        {{.connected = true, .write_refused = true}, BACKBONE_WRITE_REFUSED},
        {{.connected = true, .read_refused = true, .write_refused = true}, BACKBONE_READ_REFUSED},
        {{.connected = true, .topic_compacted = true}, BACKBONE_TOPIC_COMPACTED},
        {{.connected = false, .topic_compacted = true}, BACKBONE_DISCONNECTED},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (kafka_health_judge(&cases[i].signs, NOW) != cases[i].trouble)
            fail_msg("case %zu: '%s'", i, backbone_trouble_text(kafka_health_judge(&cases[i].signs, NOW)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_signs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
