/* GET /data/config and the option behind it. */
#include "tests/unit/worker/api/api_harness.h"

#include "worker/api/data_sources.h"

static void expect_get(const char *sources, const char *headers, const char *reply)
{
    struct api_test test;
    struct data_sources *loaded = NULL;
    struct error err = {0};
    struct text request = {0};
    api_test_open(&test);
    test.http.config.data_config_sources = sources;
    text_append_format(&request, "GET /data/config HTTP/1.1\r\nhost: x\r\n%s\r\n", headers);
    http_test_exchange(&test.http, request.data, reply); /* read at the request */
    assert_int_equal(data_sources_load(&test.http.config, &loaded, &err), 0);
    test.api.data_sources = loaded;
    http_test_exchange(&test.http, request.data, reply); /* loaded before */
    data_sources_free(loaded);
    text_free(&request);
    api_test_close(&test);
}

static void test_bodies(void **state)
{
    (void)state;
    expect_get(NULL, "",
        JSON_REPLY("200 OK", "174",
            "{\"entries\":[{\"url\":\"http://localhost:7002/"
            "policy-data\",\"config\":null,\"topics\":[\"policy_data\"],"
            "\"dst_path\":\"\",\"save_method\":\"PUT\",\"data\":null,\"periodic_update_interval\":null}]}"));
    expect_get("{\"config\":{}}", "", JSON_REPLY("200 OK", "14", "{\"entries\":[]}"));
    /* compact and UTF-8, topics as they are, numbers with every digit */
    expect_get(
        "{\"config\":{\"entries\":[{\"url\":\"\\u00e9\",\"topics\":[\"a/b\"],\"periodic_update_interval\":5,"
        "\"config\":{\"a\": [1.0, \"\\u00e9\"]},\"data\":[{\"op\":\"x\",\"path\":\"\"}]}]},"
        "\"external_source_url\":null}",
        "",
        JSON_REPLY("200 OK", "189",
            "{\"entries\":[{\"url\":\"\xc3\xa9\",\"config\":{\"a\":[1.0,\"\xc3\xa9\"]},\"topics\":[\"a/"
            "b\"],\"dst_path\":"
            "\"\",\"save_method\":\"PUT\",\"data\":[{\"op\":\"x\",\"path\":\"\",\"value\":null,\"from\":null}"
            "],"
            "\"periodic_update_interval\":5.0}]}"));
}

static void test_redirects(void **state)
{
    (void)state;
    expect_get("{\"external_source_url\":\"http://x\"}", "authorization: bearer T.k-_~+/=\r\n",
        REDIRECT("http://x?token=T.k-_~%2B%2F%3D"));
    expect_get("{\"external_source_url\":\"https://x/y?a=b&token=1&q=a%20b+c&e=&token=2#f\"}",
        "Authorization: Bearer t\r\n", REDIRECT("https://x/y?a=b&token=t&q=a+b+c#f"));
    expect_get("{\"external_source_url\":\"http://x/\\u00e9?a=b\"}", "", REDIRECT("http://x/%C3%A9?a=b"));
    expect_get(
        "{\"external_source_url\":\"http://x/\"}", "authorization: basic t\r\n", REDIRECT("http://x/"));
}

static void test_wrong_options(void **state)
{
    static const char *const wrong[][2] = {
        {"", "OPAL_DATA_CONFIG_SOURCES is no JSON: Expecting value (character 0)"},
        {"{}", "exactly one of these fields: config, external_source_url"},
        {"[]", "exactly one of these fields"},
        {"{\"config\":null}", "exactly one of these fields"},
        {"{\"config\":{},\"external_source_url\":\"http://x\"}", "exactly one of these fields"},
        {"{\"config\":{\"entries\":[{}]}}",
            "\"loc\":[\"config\",\"entries\",0,\"url\"],\"msg\":\"field required\""},
        {"{\"config\":5}", "\"loc\":[\"config\"],\"msg\":\"value is not a valid dict\""},
        {"{\"config\":{\"entries\":[{\"url\":\"u\",\"periodic_update_interval\":\"x\"}]}}",
            "value is not a valid float"},
        {"{\"external_source_url\":\"x\"}", "must be an http or https URL"},
        {"{\"external_source_url\":\"ftp://x\"}", "must be an http or https URL"},
        {"{\"external_source_url\":\"http:///a\"}", "must be an http or https URL"},
        {"{\"external_source_url\":\"http://\"}", "must be an http or https URL"},
        {"{\"external_source_url\":\"http://x/\\r\\nSet-Cookie: a\"}", "must be an http or https URL"},
        {"{\"external_source_url\":\"http://x/\\u0000\"}", "must be an http or https URL"},
        {"{\"external_source_url\":5}", "must be an http or https URL"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct config config = {.data_config_sources = wrong[i][0]};
        struct data_sources *loaded = (void *)&config;
        struct error err = {0};
        assert_int_equal(data_sources_load(&config, &loaded, &err), -1);
        assert_null(loaded);
        if (!strstr(err.text, wrong[i][1]) || strchr(err.text, '\n'))
            fail_msg("%s -> %s", wrong[i][0], err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_redirects),
        cmocka_unit_test(test_wrong_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
