#include "worker/net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include "shm/common/memory.h"
#include "worker/net/tls_context.h"

#define TLS_MAGIC          0x071575e1u
#define TLS_READ_ALLOWANCE ((size_t)128 * 1024)
#define TLS_BUFFER_BYTES \
    (TLS_RECORD_MAX + 512) /* OpenSSL's for one record, whose length does not matter; freed when it is out */

struct tls_server {
    const struct config *config;
    SSL_CTX *context;
    uint64_t *ledger;
    /* frames of one record are put together here */
    uint8_t scratch[TLS_RECORD_MAX];
};

struct tls {
    uint32_t magic;
    bool open;
    bool wants_write;
    /* OpenSSL's state is not usable any more */
    bool broken;
    /* what is pending is the beginning of a record */
    bool dry;
    /* the peer said goodbye */
    bool ended;
    uint16_t held;
    /* what a record carries: the client may have asked for less than TLS_RECORD_MAX */
    uint16_t record_max;
    /* bytes that this call may still take from the socket */
    size_t allowance;
    SSL *ssl;
    struct tls_server *server;
};

/* ---- server ---- */

struct tls_server *tls_server_open(
    const struct config *config, const struct tls_material *material, uint64_t *ledger, struct error *err)
{
    SSL_CTX *context = tls_context_make(config, material, err);
    if (!context)
        return NULL;
    struct tls_server *server = memory_allocate(sizeof *server);
    server->config = config;
    server->ledger = ledger;
    server->context = context;
    return server;
}

int tls_server_reload(struct tls_server *server, const struct tls_material *material, struct error *err)
{
    SSL_CTX *context = tls_context_make(server->config, material, err);
    if (!context)
        return -1;
    SSL_CTX_free(server->context); /* open connections hold a reference of their own */
    server->context = context;
    return 0;
}

void tls_server_close(struct tls_server *server)
{
    if (!server)
        return;
    SSL_CTX_free(server->context);
    free(server);
}

/* ---- connection ---- */

/* OpenSSL reads on until there is data, so a client that sends nothing but KeyUpdates (or, in TLS 1.2, wishes
 * to renegotiate) as fast as they are handled would keep the worker in one call for ever. What it may read in
 * a call is limited; the socket stays readable. */
static long read_within_allowance(
    // NOLINTNEXTLINE(readability-non-const-parameter): the type is OpenSSL's, BIO_callback_fn_ex
    BIO *bio, int operation, const char *bytes, size_t size, int i, long l, int result, size_t *processed)
{
    struct tls *tls = object_cast(struct tls, TLS_MAGIC, BIO_get_callback_arg(bio));
    (void)bytes;
    (void)size;
    (void)i;
    (void)l;
    if (operation == BIO_CB_READ && tls->allowance == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    if (operation == (BIO_CB_READ | BIO_CB_RETURN) && result > 0)
        tls->allowance -= *processed < tls->allowance ? *processed : tls->allowance;
    return result;
}

struct tls *tls_open(struct tls_server *server, int fd)
{
    struct tls *tls = memory_allocate(sizeof *tls);
    tls->magic = TLS_MAGIC;
    tls->server = server;
    tls->ssl = SSL_new(server->context);
    if (!tls->ssl || SSL_set_fd(tls->ssl, fd) != 1)
        abort(); /* only out of memory */
    SSL_set_accept_state(tls->ssl);
    tls->allowance = TLS_READ_ALLOWANCE;
    BIO_set_callback_arg(SSL_get_rbio(tls->ssl), (char *)tls);
    BIO_set_callback_ex(SSL_get_rbio(tls->ssl), read_within_allowance);
    return tls;
}

static void set_held(struct tls *tls, size_t length)
{
    *tls->server->ledger -= tls_held_bytes(tls);
    tls->held = (uint16_t)length;
    *tls->server->ledger += tls_held_bytes(tls);
}

size_t tls_held_bytes(const struct tls *tls)
{
    return tls->held > 0 ? TLS_BUFFER_BYTES : 0;
}

void tls_forget_held(struct tls *tls)
{
    tls->broken = tls->broken || tls->held > 0; /* half a record may be out: nothing can follow it */
    set_held(tls, 0);
}

void tls_free(struct tls *tls)
{
    if (!tls)
        return;
    if (tls->magic != TLS_MAGIC)
        abort();
    tls_forget_held(tls);
    SSL_free(tls->ssl); /* its callbacks still look at the magic number */
    tls->magic = 0;
    free(tls);
}

bool tls_is_open(const struct tls *tls)
{
    return tls->open;
}

bool tls_wants_write(const struct tls *tls)
{
    return tls->wants_write || tls->held > 0;
}

/* Of the oldest error in OpenSSL's queue, which is the cause. */
static const char *failure_reason(void)
{
    unsigned long code = ERR_peek_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    if (ERR_GET_LIB(code) == ERR_LIB_SSL &&
        (ERR_GET_REASON(code) == SSL_R_HTTP_REQUEST || ERR_GET_REASON(code) == SSL_R_HTTPS_PROXY_REQUEST))
        return "plain HTTP on the TLS port";
    return reason ? reason : "the connection ended";
}

enum tls_result tls_handshake(struct tls *tls, const char **why)
{
    ERR_clear_error();
    tls->wants_write = false;
    tls->allowance = TLS_READ_ALLOWANCE;
    int done = SSL_do_handshake(tls->ssl);
    if (done == 1) {
        tls->open = true;
        uint8_t asked = SSL_SESSION_get_max_fragment_length(SSL_get0_session(tls->ssl));
        tls->record_max =
            asked != TLSEXT_max_fragment_length_DISABLED ? (uint16_t)(256u << asked) : TLS_RECORD_MAX;
        return TLS_DONE;
    }
    int error = SSL_get_error(tls->ssl, done);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        tls->wants_write = error == SSL_ERROR_WANT_WRITE;
        return TLS_AGAIN;
    }
    *why = failure_reason();
    tls->broken = true;
    ERR_clear_error();
    return TLS_FAILED;
}

/* What SSL_read or SSL_write could not do, as an errno. */
static int tls_error(struct tls *tls, int result)
{
    int error = SSL_get_error(tls->ssl, result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return EAGAIN;
    if (error == SSL_ERROR_ZERO_RETURN)
        return 0;
    int saved = errno;
    tls->broken = true;
    ERR_clear_error();
    return error == SSL_ERROR_SYSCALL && saved ? saved : EPROTO;
}

ssize_t tls_receive(struct tls *tls, void *buffer, size_t size)
{
    size_t total = 0;
    if (tls->ended)
        return 0;
    if (tls->broken) {
        errno = EPROTO;
        return -1;
    }
    tls->allowance = TLS_READ_ALLOWANCE;
    do {
        ERR_clear_error();
        errno = 0;
        size_t length = 0;
        int result = SSL_read_ex(tls->ssl, (char *)buffer + total, size - total, &length);
        if (result != 1) {
            int error = tls_error(tls, result);
            tls->dry = error == EAGAIN;
            tls->ended = error == 0;
            if (total > 0) /* the next call meets the same, see tls_has_input */
                return (ssize_t)total;
            errno = error;
            return error ? -1 : 0;
        }
        tls->dry = false;
        total += length;
    } while (total < size && SSL_has_pending(tls->ssl));
    return (ssize_t)total;
}

bool tls_has_input(const struct tls *tls)
{
    return tls->open && (tls->ended || tls->broken || (!tls->dry && SSL_has_pending(tls->ssl)));
}

enum tls_result tls_push(struct tls *tls)
{
    size_t written = 0;
    if (tls->broken)
        return TLS_FAILED;
    if (tls->held == 0)
        return TLS_DONE;
    ERR_clear_error();
    errno = 0;
    /* OpenSSL has the record; it looks at the length that it is offered again, not at the bytes. */
    int result = SSL_write_ex(tls->ssl, tls->server->scratch, tls->held, &written);
    if (result == 1) {
        set_held(tls, 0);
        return TLS_DONE;
    }
    return tls_error(tls, result) == EAGAIN ? TLS_AGAIN : TLS_FAILED;
}

/* Up to a record's worth from place `*at` of piece `*index`; returns its first byte. */
static const uint8_t *gather(const struct tls *tls, const struct iovec *vector, size_t count, size_t *index,
    size_t *at, size_t *length)
{
    struct tls_server *server = tls->server;
    size_t used = 0, most = tls->record_max;
    while (*index < count && *at == vector[*index].iov_len) {
        ++*index;
        *at = 0;
    }
    /* what fills a record by itself needs no copy */
    if (*index < count && vector[*index].iov_len - *at >= most) {
        const uint8_t *start = (const uint8_t *)vector[*index].iov_base + *at;
        *at += *length = most;
        return start;
    }
    while (*index < count && used < most) {
        size_t part = vector[*index].iov_len - *at;
        if (part > most - used)
            part = most - used;
        memcpy(server->scratch + used, (const char *)vector[*index].iov_base + *at, part);
        used += part;
        *at += part;
        if (*at == vector[*index].iov_len) {
            ++*index;
            *at = 0;
        }
    }
    *length = used;
    return server->scratch;
}

ssize_t tls_send(struct tls *tls, const struct iovec *vector, size_t count, uint64_t *calls)
{
    size_t index = 0, at = 0, total = 0, length = 0;
    enum tls_result pushed = tls_push(tls);
    if (pushed != TLS_DONE) {
        errno = pushed == TLS_AGAIN ? EAGAIN : EPIPE;
        return -1;
    }
    for (;;) {
        const uint8_t *record = gather(tls, vector, count, &index, &at, &length);
        if (length == 0)
            return (ssize_t)total;
        size_t written = 0;
        ERR_clear_error();
        errno = 0;
        ++*calls;
        int result = SSL_write_ex(tls->ssl, record, length, &written);
        if (result == 1) {
            if (written != length) { /* never: a record is one call's worth. What follows would not fit */
                tls->broken = true;
                errno = EPROTO;
                return -1;
            }
            total += length;
            continue;
        }
        int error = tls_error(tls, result);
        /* The answer to a client's KeyUpdate goes first. When it is that which the socket refuses, OpenSSL
         * has nothing of the record. */
        if (error == EAGAIN && SSL_in_init(tls->ssl)) {
            errno = EAGAIN;
            return total > 0 ? (ssize_t)total : -1;
        }
        if (error == EAGAIN) {
            set_held(tls, length);
            return (ssize_t)(total + length);
        }
        errno = error ? error : EPIPE;
        return -1;
    }
}

bool tls_is_holding(const struct tls *tls)
{
    return tls->held > 0;
}

void tls_end(struct tls *tls)
{
    if (!tls->open || tls->broken || tls->held > 0)
        return;
    ERR_clear_error();
    SSL_shutdown(tls->ssl);
    ERR_clear_error();
}
