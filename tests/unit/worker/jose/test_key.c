/* Keys as environment variables deliver them: every spelling of the line ends gives the same key. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <openssl/pem.h>
#include <string.h>
#include "worker/jose/key.h"

static void append_pem(struct text *out, EVP_PKEY *key, bool private)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *bytes = NULL;
    assert_int_equal(private ? PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL)
                             : PEM_write_bio_PUBKEY(bio, key),
        1);
    long length = BIO_get_mem_data(bio, &bytes);
    text_append(out, bytes, (size_t)length);
    BIO_free(bio);
}

static void append_mangled(struct text *out, const struct text *pem, const char *line_end)
{
    for (size_t i = 0; i < pem->length; i++) {
        if (pem->data[i] == '\n')
            text_append_string(out, line_end);
        else
            text_append_char(out, pem->data[i]);
    }
}

static void test_line_ends(void **state)
{
    static const char *const line_ends[] = {"\n", "\r\n", "\\n", "\\r\\n", "_", " "};
    EVP_PKEY *key = EVP_EC_gen("P-256");
    (void)state;
    for (int private = 0; private < 2; private ++) {
        struct text pem = {0};
        append_pem(&pem, key, private);
        for (size_t i = 0; i < sizeof line_ends / sizeof *line_ends; i++) {
            struct text value = {0};
            struct error err = {0};
            append_mangled(&value, &pem, line_ends[i]);
            EVP_PKEY *loaded = private ? jose_load_private_key(value.data, JOSE_PEM, NULL, &err)
                                       : jose_load_public_key(value.data, JOSE_PEM, &err);
            if (!loaded)
                fail_msg("%s: %s", value.data, err.text);
            assert_int_equal(EVP_PKEY_eq(loaded, key), 1);
            EVP_PKEY_free(loaded);
            text_free(&value);
        }
        text_free(&pem);
    }
    EVP_PKEY_free(key);
}

/* Made for this test. */
#define SSH_PUBLIC "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEjMI9U27NSYcGwR+xuWLdlapbriEmfAaY+pPPdOBubN"

static void test_one_line(void **state)
{
    static const char *const values[] = {SSH_PUBLIC, SSH_PUBLIC "\n", SSH_PUBLIC "\\n", SSH_PUBLIC "\\r\\n",
        SSH_PUBLIC "\r\n", SSH_PUBLIC " me@home\\n"};
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct error err = {0};
        EVP_PKEY *key = jose_load_public_key(values[i], JOSE_SSH, &err);
        if (!key)
            fail_msg("%s: %s", values[i], err.text);
        EVP_PKEY_free(key);
    }
}

static void test_named_exactly(void **state)
{
    struct error err = {0};
    (void)state;
    assert_null(jose_load_private_key("-----BEGIN PRIVATE KEY-----\\nAAAA", JOSE_PEM, NULL, &err));
    assert_non_null(strstr(err.text, "-----END PRIVATE KEY-----, is missing"));
    assert_null(jose_load_public_key("-----BEGIN PUBLIC KEY-----", JOSE_PEM, &err));
    assert_non_null(strstr(err.text, "only its first line has arrived"));
    assert_null(
        jose_load_public_key("-----BEGIN PUBLIC KEY-----\\nAAAA\\n-----END PUBLIC KEY-----", JOSE_SSH, &err));
    assert_string_equal(err.text, "the key is PEM: its format must be set to pem");
    assert_null(jose_load_private_key(
        "-----BEGIN OPENSSH PRIVATE KEY-----\\nAAAA\\n-----END OPENSSH PRIVATE KEY-----", JOSE_PEM, NULL,
        &err));
    assert_non_null(strstr(err.text, "format ssh"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_line_ends), cmocka_unit_test(test_one_line),
        cmocka_unit_test(test_named_exactly)};
    return cmocka_run_group_tests_name("worker/jose/key", tests, NULL, NULL);
}
