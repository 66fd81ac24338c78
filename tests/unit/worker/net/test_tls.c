/* What OpenSSL holds of a record that the socket refused counts as memory, until it is out or the connection
 * is given up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "worker/net/tls.h"

static void append_pem(struct text *out, BIO *memory)
{
    char *data;
    long length = BIO_get_mem_data(memory, &data);
    text_append_slice(out, (struct slice){data, (size_t)length});
    BIO_free(memory);
}

static void make_material(struct tls_material *material)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    BIO *memory = BIO_new(BIO_s_mem());
    assert_non_null(key);
    X509_set_version(certificate, 2);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    PEM_write_bio_X509(memory, certificate);
    append_pem(&material->certificate, memory);
    memory = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(memory, key, NULL, NULL, 0, NULL, NULL);
    append_pem(&material->key, memory);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

struct pair {
    int sockets[2];
    uint64_t ledger;
    struct config config;
    struct tls_server *server;
    struct tls *tls;
    SSL_CTX *context;
    SSL *client;
};

static void pair_open(struct pair *pair)
{
    struct tls_material material = {0};
    struct error err = {0};
    const char *why = "";
    memset(pair, 0, sizeof *pair);
    pair->ledger = 1000; /* others' */
    pair->config.tls_min_version = "1.2";
    make_material(&material);
    pair->server = tls_server_open(&pair->config, &material, &pair->ledger, &err);
    if (!pair->server)
        fail_msg("%s", err.text);
    tls_material_free(&material);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair->sockets), 0);
    pair->context = SSL_CTX_new(TLS_client_method());
    pair->client = SSL_new(pair->context);
    SSL_set_fd(pair->client, pair->sockets[1]);
    pair->tls = tls_open(pair->server, pair->sockets[0]);
    for (int i = 0; i < 10 && !tls_is_open(pair->tls); i++) {
        SSL_connect(pair->client);
        assert_int_not_equal(tls_handshake(pair->tls, &why), TLS_FAILED);
    }
    assert_true(tls_is_open(pair->tls));
}

/* Until the socket refuses; returns the bytes that count as sent. */
static size_t fill(struct pair *pair)
{
    static char bytes[TLS_RECORD_MAX];
    struct iovec vector = {bytes, sizeof bytes};
    uint64_t calls = 0;
    size_t total = 0;
    while (!tls_is_holding(pair->tls)) {
        assert_int_equal(pair->ledger, 1000);
        ssize_t sent = tls_send(pair->tls, &vector, 1, &calls);
        assert_true(sent > 0);
        total += (size_t)sent;
    }
    assert_int_equal(tls_send(pair->tls, &vector, 1, &calls), -1);
    assert_int_equal(errno, EAGAIN);
    assert_true(tls_held_bytes(pair->tls) >= TLS_RECORD_MAX);
    assert_int_equal(pair->ledger, 1000 + tls_held_bytes(pair->tls));
    return total;
}

static void pair_close(struct pair *pair)
{
    tls_free(pair->tls);
    assert_int_equal(pair->ledger, 1000);
    tls_server_close(pair->server);
    SSL_free(pair->client);
    SSL_CTX_free(pair->context);
    close(pair->sockets[0]);
    close(pair->sockets[1]);
}

static void test_what_is_held_counts_until_it_is_out(void **state)
{
    static char bytes[TLS_RECORD_MAX];
    struct pair pair;
    (void)state;
    pair_open(&pair);
    size_t sent = fill(&pair), got = 0;
    for (int i = 0; i < 100000 && got < sent; i++) {
        int length = SSL_read(pair.client, bytes, sizeof bytes);
        got += length > 0 ? (size_t)length : 0;
        assert_int_not_equal(tls_push(pair.tls), TLS_FAILED);
    }
    assert_int_equal(got, sent);
    assert_int_equal(tls_held_bytes(pair.tls), 0);
    assert_int_equal(pair.ledger, 1000);
    pair_close(&pair);
}

static void test_who_is_given_up_holds_nothing(void **state)
{
    struct pair pair;
    (void)state;
    pair_open(&pair);
    fill(&pair);
    tls_forget_held(pair.tls);
    assert_int_equal(pair.ledger, 1000);
    assert_int_equal(tls_push(pair.tls), TLS_FAILED); /* half a record is out */
    pair_close(&pair);
    pair_open(&pair);
    fill(&pair);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_held_counts_until_it_is_out),
        cmocka_unit_test(test_who_is_given_up_holds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
