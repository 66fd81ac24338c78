/* TLS of a connection against a client of OpenSSL's own that does what ordinary clients never do. */
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
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "worker/tls.h"

static struct tls_server *server;
static struct config config = {.tls_min_version = "1.2"};

struct peer {
    struct tls *tls;
    SSL *client;
    int near;
    int far;
};

static struct text pem_of(BIO *bio)
{
    char *data;
    struct text text = {0};
    long length = BIO_get_mem_data(bio, &data);
    text_append(&text, data, (size_t)length);
    BIO_free(bio);
    return text;
}

static int open_server(void **state)
{
    (void)state;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_set_pubkey(certificate, key);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_sign(certificate, key, EVP_sha256());
    BIO *certificate_pem = BIO_new(BIO_s_mem()), *key_pem = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(certificate_pem, certificate);
    PEM_write_bio_PrivateKey(key_pem, key, NULL, NULL, 0, NULL, NULL);
    struct tls_material material = {pem_of(certificate_pem), pem_of(key_pem)};
    struct error err;
    server = tls_server_open(&config, &material, &err);
    tls_material_free(&material);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return server ? 0 : -1;
}

static int close_server(void **state)
{
    (void)state;
    tls_server_close(server);
    return 0;
}

/* A connection whose handshake is done; `fragment` is TLSEXT_max_fragment_length_... */
static void peer_open(struct peer *peer, int version, uint8_t fragment)
{
    int pair[2], size = 1 << 20;
    const char *why = "";
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    peer->near = pair[0];
    peer->far = pair[1];
    peer->tls = tls_open(server, peer->near);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(context, version);
    peer->client = SSL_new(context);
    SSL_CTX_free(context);
    SSL_set_tlsext_max_fragment_length(peer->client, fragment);
    SSL_set_fd(peer->client, peer->far);
    SSL_set_connect_state(peer->client);
    int client = 0;
    for (int i = 0; i < 20 && !(client == 1 && tls_is_open(peer->tls)); i++) {
        client = SSL_do_handshake(peer->client);
        if (!tls_is_open(peer->tls))
            assert_int_not_equal(tls_handshake(peer->tls, &why), TLS_FAILED);
    }
    assert_int_equal(client, 1);
    assert_true(tls_is_open(peer->tls));
}

static void peer_close(struct peer *peer)
{
    tls_free(peer->tls);
    SSL_free(peer->client);
    close(peer->near);
    close(peer->far);
}

static ssize_t send_bytes(struct peer *peer, const void *bytes, size_t length)
{
    uint64_t calls = 0;
    struct iovec vector = {(void *)(uintptr_t)bytes, length};
    return tls_send(peer->tls, &vector, 1, &calls);
}

/* The client reads all there is: each byte must be `letter`. */
static size_t read_only(struct peer *peer, char letter)
{
    char buffer[4096];
    size_t total = 0, length;
    while (SSL_read_ex(peer->client, buffer, sizeof(buffer), &length)) {
        for (size_t i = 0; i < length; i++)
            assert_int_equal(buffer[i], letter);
        total += length;
    }
    assert_int_equal(SSL_get_error(peer->client, 0), SSL_ERROR_WANT_READ);
    return total;
}

/* A client that does not read but asks for new keys all the time: the answer is what its full socket refuses, and OpenSSL has not
 * even looked at the bytes behind. It gets its own bytes later, and not what was sent to another client meanwhile. */
static void test_full_socket_and_key_update(void **state)
{
    (void)state;
    struct peer mute, other;
    char own[100], secret[100], nothing[100];
    size_t sent = 0;
    memset(own, 'o', sizeof(own));
    memset(secret, 's', sizeof(secret));
    peer_open(&mute, TLS1_3_VERSION, TLSEXT_max_fragment_length_DISABLED);
    peer_open(&other, TLS1_3_VERSION, TLSEXT_max_fragment_length_DISABLED);
    for (;;) {
        assert_int_equal(SSL_key_update(mute.client, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(mute.client), 1);
        assert_int_equal(tls_receive(mute.tls, nothing, sizeof(nothing)), -1);
        assert_int_equal(errno, EAGAIN);
        ssize_t result = send_bytes(&mute, own, sizeof(own));
        if (result < 0) {
            assert_int_equal(errno, EAGAIN);
            break;
        }
        sent += (size_t)result;
        if (tls_is_holding(mute.tls))
            break;
        assert_true(sent < 10000000);
    }
    assert_true(sent > 0);
    assert_int_equal(send_bytes(&other, secret, sizeof(secret)), sizeof(secret));
    size_t got = read_only(&mute, 'o');
    assert_int_equal(tls_push(mute.tls), TLS_DONE);
    got += read_only(&mute, 'o');
    assert_int_equal(got, sent);
    assert_int_equal(send_bytes(&mute, own, sizeof(own)), sizeof(own));
    assert_int_equal(read_only(&mute, 'o'), sizeof(own));
    peer_close(&mute);
    peer_close(&other);
}

/* Records as small as the client asked for: nothing is left out between them, whether the socket takes them or not. */
static void test_short_records(void **state)
{
    (void)state;
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    static char bytes[2000000];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)(i * 31 >> 3);
    for (size_t v = 0; v < 2; v++) {
        struct peer peer;
        char buffer[4096];
        size_t sent = 0, got = 0, length;
        peer_open(&peer, versions[v], TLSEXT_max_fragment_length_512);
        while (got < sizeof(bytes)) {
            if (sent < sizeof(bytes)) {
                ssize_t result = send_bytes(&peer, bytes + sent, sizeof(bytes) - sent);
                assert_true(result > 0 || errno == EAGAIN);
                sent += result > 0 ? (size_t)result : 0;
            } else {
                tls_push(peer.tls);
            }
            size_t before = got;
            while (SSL_read_ex(peer.client, buffer, sizeof(buffer), &length)) {
                assert_true(got + length <= sizeof(bytes));
                assert_memory_equal(buffer, bytes + got, length);
                got += length;
            }
            assert_true(got > before);
        }
        peer_close(&peer);
    }
}

/* Nothing but KeyUpdates: one call takes a part of them only, the loop goes on with others, and the rest is taken later. */
static void test_flood_of_key_updates(void **state)
{
    (void)state;
    struct peer peer;
    char nothing[100], *flood;
    peer_open(&peer, TLS1_3_VERSION, TLSEXT_max_fragment_length_DISABLED);
    BIO *out = BIO_new(BIO_s_mem());
    SSL_set0_wbio(peer.client, out);
    for (int i = 0; i < 12000; i++) {
        assert_int_equal(SSL_key_update(peer.client, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(peer.client), 1);
    }
    SSL_write(peer.client, "x", 1);
    long length = BIO_get_mem_data(out, &flood);
    assert_true(length > 250000);
    ssize_t written = write(peer.far, flood, (size_t)length);
    assert_true(written > 250000);
    int left = 0;
    assert_int_equal(tls_receive(peer.tls, nothing, sizeof(nothing)), -1);
    assert_int_equal(errno, EAGAIN);
    ioctl(peer.near, FIONREAD, &left);
    assert_true(left > 0);
    ssize_t result = -1;
    for (int i = 0; i < 20 && result < 0; i++) {
        result = tls_receive(peer.tls, nothing, sizeof(nothing));
        if (written < length) {
            ssize_t more = write(peer.far, flood + written, (size_t)(length - written));
            written += more > 0 ? more : 0;
        }
    }
    assert_int_equal(result, 1);
    peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_socket_and_key_update),
        cmocka_unit_test(test_short_records),
        cmocka_unit_test(test_flood_of_key_updates),
    };
    return cmocka_run_group_tests(tests, open_server, close_server);
}
