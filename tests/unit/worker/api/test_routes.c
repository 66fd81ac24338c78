/* The server's own routes: what each answers without a policy process, keys or statistics. */
#include "tests/unit/worker/api/api_harness.h"

#include "shm/common/clock.h"

static void test_routes(void **state)
{
    struct api_test test;
    (void)state;
    api_test_open(&test);
    http_test_exchange(&test.http, "GET / HTTP/1.1\r\nhost: x\r\n\r\n", OK_REPLY);
    http_test_exchange(&test.http, "GET /healthcheck HTTP/1.1\r\nhost: x\r\n\r\n", OK_REPLY);
    http_test_exchange(&test.http, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", OK_REPLY);
    http_test_exchange(
        &test.http, "GET /loadlimit HTTP/1.1\r\nhost: x\r\n\r\n", JSON_REPLY("200 OK", "4", "null"));
    http_test_exchange(&test.http, "GET /policy HTTP/1.1\r\nhost: x\r\n\r\n",
        JSON_REPLY("503 Service Unavailable", "38", "{\"detail\":\"policy repo was not found\"}"));
    http_test_exchange(
        &test.http, "GET /policy-data HTTP/1.1\r\nhost: x\r\n\r\n", JSON_REPLY("200 OK", "2", "{}"));
    http_test_exchange(&test.http, "GET /.well-known/jwks.json HTTP/1.1\r\nhost: x\r\n\r\n",
        JSON_REPLY("200 OK", "2", "{}"));
    http_test_exchange(&test.http, "GET /stats HTTP/1.1\r\nhost: x\r\n\r\n",
        JSON_REPLY("501 Not Implemented", "137",
            "{\"detail\":{\"error\":\"This OPAL server does not have statistics turned on. To turn on, set "
            "this config var: OPAL_STATISTICS_ENABLED=true\"}}"));
    http_test_exchange(&test.http, "PUT /data/config HTTP/1.1\r\nhost: x\r\n\r\n",
        "HTTP/1.1 405 Method Not Allowed\r\nserver: uvicorn\r\nallow: GET\r\ncontent-length: 31\r\n"
        "content-type: application/json\r\n\r\n{\"detail\":\"Method Not Allowed\"}");
    api_test_close(&test);
}

static void test_readiness(void **state)
{
    struct api_test test;
    (void)state;
    api_test_open(&test);
    http_test_exchange(&test.http, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n", OK_REPLY);
    backbone_state_write(test.http.services.segment, BACKBONE_CONNECTING);
    http_test_exchange(&test.http, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n",
        JSON_REPLY("503 Service Unavailable", "45", "{\"status\":\"error\",\"broadcaster\":\"connecting\"}"));
    backbone_state_write(test.http.services.segment, BACKBONE_GAP);
    http_test_exchange(&test.http, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n",
        JSON_REPLY(
            "503 Service Unavailable", "47", "{\"status\":\"error\",\"broadcaster\":\"disconnected\"}"));
    http_test_exchange(&test.http, "GET /healthcheck HTTP/1.1\r\nhost: x\r\n\r\n", OK_REPLY);
    /* ... and a backend that knows why */
    struct backbone_health health = {.trouble = BACKBONE_TOPIC_COMPACTED};
    backbone_health_write(test.http.services.segment, &health);
    http_test_exchange(&test.http, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n",
        JSON_REPLY("503 Service Unavailable", "81",
            "{\"status\":\"error\",\"broadcaster\":\"disconnected\",\"reason\":\"the topic is compacted\"}"));
    health.trouble = BACKBONE_NO_TROUBLE;
    backbone_health_write(test.http.services.segment, &health);
    backbone_state_write(test.http.services.segment, BACKBONE_UP);
    http_test_exchange(&test.http, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n", OK_REPLY);

    /* the master has not run for long */
    uint64_t now = clock_monotonic_ns();
    test.http.config.master_hang_seconds = 5;
    master_heartbeat_write(test.http.services.segment, now - 4 * CLOCK_SECOND);
    http_test_exchange(&test.http, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n", OK_REPLY);
    master_heartbeat_write(test.http.services.segment, now - 6 * CLOCK_SECOND);
    http_test_exchange(&test.http, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n",
        JSON_REPLY("503 Service Unavailable", "44", "{\"status\":\"error\",\"master\":\"not responding\"}"));
    http_test_exchange(&test.http, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", OK_REPLY);
    master_heartbeat_write(test.http.services.segment, now + CLOCK_SECOND); /* it runs meanwhile */
    http_test_exchange(&test.http, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n", OK_REPLY);
    master_heartbeat_write(test.http.services.segment, 0);
    api_test_close(&test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_readiness),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
