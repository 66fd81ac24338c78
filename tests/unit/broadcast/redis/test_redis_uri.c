#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include "broadcast/redis/redis_uri.h"

static void check(
    const char *text, bool tls, const char *host, int port, const char *user, const char *password)
{
    struct redis_uri uri;
    struct error err = {0};
    if (redis_uri_parse(text, &uri, &err) < 0)
        fail_msg("%s: %s", text, err.text);
    assert_int_equal(uri.tls, tls);
    assert_string_equal(uri.host, host);
    assert_int_equal(uri.port, port);
    if (user)
        assert_string_equal(uri.user, user);
    else
        assert_null(uri.user);
    if (password)
        assert_string_equal(uri.password, password);
    else
        assert_null(uri.password);
    redis_uri_free(&uri);
}

static void reads_what_redis_py_reads(void **state)
{
    (void)state;
    check("redis://", false, "localhost", 6379, NULL, NULL);
    check("redis://h", false, "h", 6379, NULL, NULL);
    check("REDISS://h:1/", true, "h", 1, NULL, NULL);
    check("redis://h:65535/15", false, "h", 65535, NULL, NULL);
    check("redis://:secret@h", false, "h", 6379, NULL, "secret");
    check("redis://u:secret@h/2", false, "h", 6379, "u", "secret");
    check("redis://u@h", false, "h", 6379, "u", NULL);
    check("redis://u:@h", false, "h", 6379, "u", NULL);
    check("redis://a%40b:p%3A%2f%2F%25%23@h", false, "h", 6379, "a@b", "p://%#");
    check("redis://u:p@ss@h", false, "h", 6379, "u", "p@ss");
    check("redis://u:p:q@h", false, "h", 6379, "u", "p:q");
    check("redis://[::1]:7000/1", false, "::1", 7000, NULL, NULL);
    check("redis://[fe80::1]", false, "fe80::1", 6379, NULL, NULL);
    check("redis://h?db=3", false, "h", 6379, NULL, NULL);
    check("redis://h/1?db=3&socket_timeout=5", false, "h", 6379, NULL, NULL);
    check("redis://h?username=x&password=%79", false, "h", 6379, "x", "y");
    check("redis://h/4/#fragment", false, "h", 6379, NULL, NULL);
    check("redis://100%", false, "100%", 6379, NULL, NULL);
}

static void reads_tls_options(void **state)
{
    struct redis_uri uri;
    struct error err = {0};
    (void)state;
    assert_int_equal(redis_uri_parse("rediss://h", &uri, &err), 0);
    assert_true(uri.verify && uri.verify_host);
    assert_null(uri.ca_file);
    redis_uri_free(&uri);
    assert_int_equal(
        redis_uri_parse("rediss://h?ssl_ca_certs=/a%20b/ca.pem&ssl_cert_reqs=none&ssl_check_hostname=False"
                        "&ssl_certfile=/c&ssl_keyfile=/k&ssl_password=w&ssl_ca_path=/d",
            &uri, &err),
        0);
    assert_string_equal(uri.ca_file, "/a b/ca.pem");
    assert_string_equal(uri.ca_path, "/d");
    assert_string_equal(uri.certificate_file, "/c");
    assert_string_equal(uri.key_file, "/k");
    assert_string_equal(uri.key_password, "w");
    assert_false(uri.verify || uri.verify_host);
    redis_uri_free(&uri);
}

static void refuses_without_telling_secrets(void **state)
{
    static const char *const wrong[] = {"redis:/h", "http://h", "redis://:hunter2@h:0",
        "redis://:hunter2@h:65536", "redis://:hunter2@h:x", "redis://:hunter2@h/x", "redis://:hunter2@h/-1",
        "redis://:hunter2@[::1", "redis://:hunter2@[::1]x", "redis://:hunter2@h?nonsense=hunter2",
        "redis://:hunter2@h?db=hunter2", "redis://:hunter2@h?ssl_cert_reqs=hunter2",
        "redis://:hunter2@h?ssl_check_hostname=hunter2", "redis://:hunter2%00@h", "redis://:hunter2@h%00",
        "redis://:hunter2@a:1,b:2", "redis://:hunter2@h?a%00=1"};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct redis_uri uri;
        struct error err = {0};
        if (redis_uri_parse(wrong[i], &uri, &err) == 0)
            fail_msg("%s was taken", wrong[i]);
        assert_true(err.text[0]);
        assert_null(strstr(err.text, "hunter2"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads_what_redis_py_reads),
        cmocka_unit_test(reads_tls_options), cmocka_unit_test(refuses_without_telling_secrets)};
    return cmocka_run_group_tests_name("broadcast/redis_uri", tests, NULL, NULL);
}
