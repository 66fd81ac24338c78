/* PEM text in a setting of librdkafka: one line in the configuration, several for librdkafka. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <openssl/pem.h>
#include <string.h>
#include "broadcast/kafka/kafka_extra.h"
#include "shm/common/text.h"

/* "ssl.ca.pem=" and a certificate made here, with `line_end` for its line ends. */
static void append_setting(struct text *out, const char *line_end)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    BIO *bio = BIO_new(BIO_s_mem());
    char *bytes = NULL;
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    assert_int_equal(PEM_write_bio_X509(bio, certificate), 1);
    long length = BIO_get_mem_data(bio, &bytes);
    text_append_string(out, "ssl.ca.pem=");
    for (long i = 0; i < length; i++) {
        if (bytes[i] == '\n')
            text_append_string(out, line_end);
        else
            text_append_char(out, bytes[i]);
    }
    BIO_free(bio);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void test_pem(void **state)
{
    static const char *const line_ends[] = {"\\n", " ", "_"};
    (void)state;
    for (size_t i = 0; i < sizeof line_ends / sizeof *line_ends; i++) {
        struct error err = {0};
        struct text settings = {0};
        char reason[256] = "";
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        append_setting(&settings, line_ends[i]);
        text_append_string(&settings, "\nsecurity.protocol=ssl\n");
        if (kafka_extra_apply(conf, KAFKA_EXTRA_PRODUCER, settings.data, &err) < 0)
            fail_msg("%s", err.text);
        rd_kafka_t *handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof reason);
        if (!handle)
            fail_msg("%s", reason);
        rd_kafka_destroy(handle);
        text_free(&settings);
    }
}

static void test_cut_pem(void **state)
{
    struct error err = {0};
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    (void)state;
    assert_int_equal(kafka_extra_apply(conf, KAFKA_EXTRA_PRODUCER,
                         "ssl.key.pem=-----BEGIN PRIVATE KEY-----\\nAAAA\n", &err),
        -1);
    assert_non_null(
        strstr(err.text, "ssl.key.pem (value not shown): its last line, -----END PRIVATE KEY-----"));
    assert_null(strstr(err.text, "AAAA"));
    rd_kafka_conf_destroy(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pem), cmocka_unit_test(test_cut_pem)};
    return cmocka_run_group_tests_name("broadcast/kafka_extra", tests, NULL, NULL);
}
