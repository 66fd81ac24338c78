#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include "broadcast/postgres/postgres_uri.h"

static struct postgres_uri parse(const char *text)
{
    struct postgres_uri uri;
    struct error err = {0};
    if (postgres_uri_parse(text, 30000, &uri, &err) < 0)
        fail_msg("%s: %s", text, err.text);
    return uri;
}

static void expect(const struct postgres_uri *uri, const char *keyword, const char *wanted)
{
    const char *value = postgres_uri_value(uri, keyword);
    if (!wanted) {
        assert_null(value);
        return;
    }
    if (!value)
        fail_msg("%s is missing", keyword);
    assert_string_equal(value, wanted);
}

static void reads_one_host(void **state)
{
    struct postgres_uri uri =
        parse("postgres://u%40x:p%2Fw@db.example:5433/name?sslmode=verify-full&sslrootcert=/ca.pem");
    (void)state;
    assert_int_equal(uri.host_count, 1);
    assert_string_equal(uri.hosts[0].name, "db.example");
    assert_null(uri.hosts[0].address);
    assert_int_equal(uri.hosts[0].port, 5433);
    expect(&uri, "user", "u@x");
    expect(&uri, "password", "p/w");
    expect(&uri, "dbname", "name");
    expect(&uri, "sslmode", "verify-full");
    expect(&uri, "sslrootcert", "/ca.pem");
    expect(&uri, "keepalives", "1");
    expect(&uri, "keepalives_idle", "30");
    expect(&uri, "keepalives_interval", "10");
    expect(&uri, "keepalives_count", "3");
    expect(&uri, "tcp_user_timeout", "30000");
    expect(&uri, "gssencmode", "disable");
    expect(&uri, "host", NULL);
    expect(&uri, "port", NULL);
    assert_int_equal(uri.connect_timeout_ns, UINT64_C(10000000000));
    postgres_uri_free(&uri);
    uri = parse(
        "POSTGRESQL://h?keepalives_idle=5&tcp_user_timeout=1000&connect_timeout=3&application_name=mine");
    expect(&uri, "keepalives_idle", "5");
    expect(&uri, "tcp_user_timeout", "1000");
    expect(&uri, "application_name", "mine");
    assert_int_equal(uri.hosts[0].port, 5432);
    assert_int_equal(uri.connect_timeout_ns, UINT64_C(3000000000));
    postgres_uri_free(&uri);
}

static void reads_several_hosts(void **state)
{
    struct postgres_uri uri = parse("postgresql://a:1,b,[::1]:3/n?target_session_attrs=read-write");
    (void)state;
    assert_int_equal(uri.host_count, 3);
    assert_string_equal(uri.hosts[0].name, "a");
    assert_int_equal(uri.hosts[0].port, 1);
    assert_string_equal(uri.hosts[1].name, "b");
    assert_int_equal(uri.hosts[1].port, 5432);
    assert_string_equal(uri.hosts[2].name, "::1");
    assert_int_equal(uri.hosts[2].port, 3);
    expect(&uri, "target_session_attrs", "read-write");
    postgres_uri_free(&uri);
    uri = parse("postgresql:///n?host=a,b&hostaddr=10.0.0.1,10.0.0.2&port=7");
    assert_int_equal(uri.host_count, 2);
    assert_string_equal(uri.hosts[1].name, "b");
    assert_string_equal(uri.hosts[1].address, "10.0.0.2");
    assert_int_equal(uri.hosts[1].port, 7);
    postgres_uri_free(&uri);
}

static void no_host_is_the_socket(void **state)
{
    (void)state;
    unsetenv("PGHOST");
    unsetenv("PGPORT");
    struct postgres_uri uri = parse("postgresql:///n");
    assert_int_equal(uri.host_count, 1);
    assert_string_equal(uri.hosts[0].name, "");
    postgres_uri_free(&uri);
    uri = parse("postgresql://%2Frun%2Fpg:9/n");
    assert_string_equal(uri.hosts[0].name, "/run/pg");
    postgres_uri_free(&uri);
    setenv("PGHOST", "from-env", 1);
    uri = parse("postgresql:///n"); /* resolved by us, not inside libpq */
    assert_string_equal(uri.hosts[0].name, "from-env");
    postgres_uri_free(&uri);
    unsetenv("PGHOST");
}

static void what_asyncpg_takes(void **state)
{
    struct postgres_uri uri =
        parse("postgres://h/?database=d&ssl=require&min_size=3&statement_timeout=5000&search_path=a%20b%5Cc"
              "&options=-c%20geqo%3Doff");
    (void)state;
    expect(&uri, "dbname", "d");
    expect(&uri, "sslmode", "require");
    expect(&uri, "options", "-c statement_timeout=5000 -c search_path=a\\ b\\\\c -c geqo=off");
    postgres_uri_free(&uri);
    uri = parse("postgres://h?ssl=true");
    expect(&uri, "sslmode", "require");
    postgres_uri_free(&uri);
}

static void refuses_without_telling_secrets(void **state)
{
    static const char *const wrong[] = {"postgres:/h", "mysql://h", "postgres://u:hunter2@h:0",
        "postgres://u:hunter2@h:x/n", "postgres://u:hunter2@h:99999", "postgres://u:hunter2@h?hunter2",
        "postgres://u:hunter2@h?a%20b=1", "postgres://u:hunter2@h?service=hunter2",
        "postgres://u:hunter2@[::1/n", "postgres://u:hunter2%zz@h/", "postgres://u:hunter2@a,b?port=1,2,3",
        "postgres://u:hunter2@a,b?hostaddr=1.1.1.1",
        "postgres://u:hunter2@a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q"};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct postgres_uri uri;
        struct error err = {0};
        if (postgres_uri_parse(wrong[i], 0, &uri, &err) == 0)
            fail_msg("%s was taken", wrong[i]);
        assert_true(err.text[0]);
        assert_null(strstr(err.text, "hunter2"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads_one_host),
        cmocka_unit_test(reads_several_hosts), cmocka_unit_test(no_host_is_the_socket),
        cmocka_unit_test(what_asyncpg_takes), cmocka_unit_test(refuses_without_telling_secrets)};
    return cmocka_run_group_tests_name("broadcast/postgres_uri", tests, NULL, NULL);
}
