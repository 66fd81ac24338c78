#include "worker/net/tls_store.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define HALF_BYTES (2 * 1024 * 1024)
#define HALF_START 4096

struct store_head {
    uint64_t certificate_length;
    uint64_t key_length;
};

static off_t half_offset(uint64_t half)
{
    return HALF_START + (off_t)(half & 1) * HALF_BYTES;
}

static int write_all(int store, const void *bytes, size_t length, off_t at)
{
    while (length > 0) {
        ssize_t written = pwrite(store, bytes, length, at);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return -1;
        bytes = (const char *)bytes + written;
        length -= (size_t)written;
        at += written;
    }
    return 0;
}

int tls_store_open(struct error *err)
{
    uint64_t active = 1;
    int store = memfd_create("opald-tls", MFD_CLOEXEC);
    if (store < 0)
        return error_set_errno(err, errno, "no memory for the certificate");
    if (write_all(store, &active, sizeof active, 0) < 0) {
        close(store);
        return error_set_errno(err, errno, "no memory for the certificate");
    }
    return store;
}

int tls_store_write(int store, const struct tls_material *material, struct error *err)
{
    uint64_t active = 0;
    const struct store_head head = {material->certificate.length, material->key.length};
    if (sizeof head + material->certificate.length + material->key.length > HALF_BYTES)
        return error_set(err, EFBIG, "certificate and key are too large");
    if (pread(store, &active, sizeof active, 0) != (ssize_t)sizeof active)
        return error_set_errno(err, errno, "cannot read the certificate's memory");
    active = 1 - (active & 1);
    off_t at = half_offset(active);
    if (write_all(store, &head, sizeof head, at) < 0 ||
        write_all(store, material->certificate.data, material->certificate.length, at + (off_t)sizeof head) <
            0 ||
        write_all(store, material->key.data, material->key.length,
            at + (off_t)(sizeof head + material->certificate.length)) < 0 ||
        write_all(store, &active, sizeof active, 0) < 0)
        return error_set_errno(err, errno, "cannot write the certificate's memory");
    return 0;
}

static int read_part(int store, struct text *out, size_t length, off_t at)
{
    if (length > HALF_BYTES || pread(store, text_reserve(out, length), length, at) != (ssize_t)length)
        return -1;
    out->length += length;
    return 0;
}

int tls_store_read(int store, struct tls_material *material, struct error *err)
{
    uint64_t active = 0;
    struct store_head head = {0};
    *material = (struct tls_material){0};
    if (pread(store, &active, sizeof active, 0) != (ssize_t)sizeof active ||
        pread(store, &head, sizeof head, half_offset(active)) != (ssize_t)sizeof head ||
        read_part(store, &material->certificate, head.certificate_length,
            half_offset(active) + (off_t)sizeof head) < 0 ||
        read_part(store, &material->key, head.key_length,
            half_offset(active) + (off_t)(sizeof head + head.certificate_length)) < 0) {
        tls_material_free(material);
        return error_set(err, EIO, "the certificate's memory is not readable");
    }
    return 0;
}
