/* check-config and files: each that can't be used is named, with its option. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "shm/common/text.h"
#include "server/command/check_files.h"

static char folder[] = "/tmp/opald-test-files-XXXXXX";
static char certificate[64], junk[64];
static struct text reported;

static void on_problem(void *context, const char *line)
{
    assert_ptr_equal(context, &reported);
    text_append_format(&reported, "%s\n", line);
}

static int setup(void **state)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *made = X509_new();
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(certificate, sizeof certificate, "%s/certificate.pem", folder);
    snprintf(junk, sizeof junk, "%s/junk", folder);
    X509_gmtime_adj(X509_getm_notBefore(made), 0);
    X509_gmtime_adj(X509_getm_notAfter(made), 3600);
    X509_set_pubkey(made, key);
    assert_true(X509_sign(made, key, EVP_sha256()) > 0);
    FILE *file = fopen(certificate, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_X509(file, made), 1);
    fclose(file);
    file = fopen(junk, "w");
    assert_non_null(file);
    fputs("junk\n", file);
    fclose(file);
    X509_free(made);
    EVP_PKEY_free(key);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(certificate);
    unlink(junk);
    rmdir(folder);
    text_free(&reported);
    return 0;
}

/* `expected`: the lines, with %s for what stands behind them. */
static void assert_reports(const struct config *config, size_t problems, const char *expected)
{
    text_clear(&reported);
    assert_int_equal(check_files(config, on_problem, &reported), problems);
    assert_string_equal(text_slice(&reported).data, expected);
}

static void test_kafka(void **state)
{
    char expected[512], settings[256];
    struct config config = {.policy_source_type = "GIT", .broadcast = {.uri = "kafka://host:9092"}};
    (void)state;
    setenv("KAFKA_SSL_CAFILE", certificate, 1);
    setenv("KAFKA_SSL_KEYFILE", junk, 1);
    setenv("KAFKA_SSL_CAPATH", folder, 1);
    assert_reports(&config, 0, "");
    setenv("KAFKA_SSL_CAFILE", "/nowhere/ca.pem", 1);
    setenv("KAFKA_SSL_CERTFILE", junk, 1);
    setenv("KAFKA_SSL_CAPATH", junk, 1);
    setenv("KAFKA_SSL_KEYFILE", folder, 1);
    snprintf(expected, sizeof expected,
        "KAFKA_SSL_CAFILE='/nowhere/ca.pem': No such file or directory\n"
        "KAFKA_SSL_CAPATH='%s': is no folder\n"
        "KAFKA_SSL_CERTFILE='%s': holds no certificate in PEM format\n"
        "KAFKA_SSL_KEYFILE='%s': is a folder, a file is wanted\n",
        junk, junk, folder);
    assert_reports(&config, 4, expected);
    /* Of another backbone they mean nothing. */
    config.broadcast.uri = "redis://host";
    assert_reports(&config, 0, "");
    const char *const names[] = {
        "KAFKA_SSL_CAFILE", "KAFKA_SSL_CERTFILE", "KAFKA_SSL_CAPATH", "KAFKA_SSL_KEYFILE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    config.broadcast.uri = "kafka://host:9092";
    snprintf(
        settings, sizeof settings, "ssl.ca.location=%s\nssl.key.location=/nowhere\nlinger.ms=5\n", folder);
    config.broadcast.kafka_config = settings;
    assert_reports(&config, 1, "OPAL_KAFKA_CONFIG: ssl.key.location='/nowhere': No such file or directory\n");
    config.broadcast.kafka_config = "ssl.ca.location=probe\n";
    assert_reports(&config, 0, "");
}

static void test_redis_and_postgres(void **state)
{
    char uri[256];
    struct config config = {.policy_source_type = "GIT", .broadcast = {.uri = uri}};
    (void)state;
    snprintf(uri, sizeof uri, "rediss://user:secret@host?ssl_ca_certs=%s", certificate);
    assert_reports(&config, 0, "");
    snprintf(uri, sizeof uri, "rediss://user:secret@host?ssl_ca_certs=/nowhere");
    assert_reports(&config, 1, "OPAL_BROADCAST_URI: ssl_ca_certs='/nowhere': No such file or directory\n");
    snprintf(uri, sizeof uri,
        "postgres://user:secret@host/d?sslmode=verify-full&sslrootcert=%s&sslkey=/nowhere", certificate);
    assert_reports(&config, 1, "OPAL_BROADCAST_URI: sslkey='/nowhere': No such file or directory\n");
    snprintf(uri, sizeof uri, "postgres://host/d?sslrootcert=system");
    assert_reports(&config, 0, "");
}

static void test_folders(void **state)
{
    char below[128], expected[256];
    struct config config = {.policy_source_type = "GIT",
        .repo_watcher_enabled = true,
        .policy_repo_url = "https://host/r",
        .policy_repo_clone_path = below};
    (void)state;
    snprintf(below, sizeof below, "%s/new/and/deeper", folder);
    assert_reports(&config, 0, "");
    snprintf(below, sizeof below, "%s/deeper", junk);
    snprintf(expected, sizeof expected, "OPAL_POLICY_REPO_CLONE_PATH='%s/deeper': Not a directory\n", junk);
    assert_reports(&config, 1, expected);
    config.auth_jwks_static_dir = junk;
    snprintf(expected, sizeof expected,
        "OPAL_POLICY_REPO_CLONE_PATH='%s/deeper': Not a directory\n"
        "OPAL_AUTH_JWKS_STATIC_DIR='%s': is a file, not a folder\n",
        junk, junk);
    assert_reports(&config, 2, expected);
    config.repo_watcher_enabled = false;
    config.auth_jwks_static_dir = "relative/folder";
    assert_reports(&config, 0, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kafka),
        cmocka_unit_test(test_redis_and_postgres), cmocka_unit_test(test_folders)};
    return cmocka_run_group_tests_name("server/command/check_files", tests, setup, teardown);
}
