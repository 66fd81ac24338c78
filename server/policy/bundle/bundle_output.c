#include "server/policy/bundle/bundle_output.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "shm/common/memory.h"

/* The largest, with gzip's head. */
#define GZIP_WINDOW (15 + 16)
#define GZIP_MEMORY 9
#define GZIP_CHUNK  65536
/* A large body is not worth a second of compression. */
#define GZIP_FAST_ABOVE (1024 * 1024)

struct bundle_output {
    int descriptor;
    size_t bytes_max;
    uint64_t written;
    EVP_MD_CTX *hash;
    z_stream gzip;
    bool gzip_fast;
    struct text compressed;
    /* Code 0: none yet. */
    struct error failure;
};

struct bundle_output *bundle_output_open(size_t bytes_max, struct error *err)
{
    struct bundle_output *output = memory_allocate(sizeof *output);
    output->bytes_max = bytes_max;
    output->hash = EVP_MD_CTX_new();
    output->descriptor = memfd_create("opald-bundle", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (output->descriptor < 0 || !output->hash || EVP_DigestInit_ex(output->hash, EVP_sha256(), NULL) != 1 ||
        deflateInit2(&output->gzip, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_WINDOW, GZIP_MEMORY,
            Z_DEFAULT_STRATEGY) != Z_OK) {
        error_set_errno(err, errno, "cannot make a bundle");
        bundle_output_abandon(output);
        return NULL;
    }
    return output;
}

void bundle_output_abandon(struct bundle_output *output)
{
    if (output->descriptor >= 0)
        close(output->descriptor);
    EVP_MD_CTX_free(output->hash);
    deflateEnd(&output->gzip);
    text_free(&output->compressed);
    free(output);
}

static int write_all(struct bundle_output *output, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t written = write(output->descriptor, bytes, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return error_set_errno(&output->failure, errno, "cannot write a bundle");
        bytes += written;
        length -= (size_t)written;
    }
    return 0;
}

/* Runs deflate on the stream's input. */
static void compress_input(struct bundle_output *output, int flush)
{
    int result;
    do {
        output->gzip.next_out = (Bytef *)text_reserve(&output->compressed, GZIP_CHUNK);
        output->gzip.avail_out = GZIP_CHUNK;
        result = deflate(&output->gzip, flush);
        output->compressed.length += GZIP_CHUNK - output->gzip.avail_out;
    } while (
        result == Z_OK && (output->gzip.avail_in > 0 || output->gzip.avail_out == 0 || flush == Z_FINISH));
}

static void compress_bytes(struct bundle_output *output, const char *bytes, size_t length)
{
    if (output->written > GZIP_FAST_ABOVE && !output->gzip_fast) {
        output->gzip.next_out = (Bytef *)text_reserve(&output->compressed, GZIP_CHUNK);
        output->gzip.avail_out = GZIP_CHUNK;
        /* it may flush what is inside; without room for that, the next piece tries again */
        output->gzip_fast = deflateParams(&output->gzip, Z_BEST_SPEED, Z_DEFAULT_STRATEGY) == Z_OK;
        output->compressed.length += GZIP_CHUNK - output->gzip.avail_out;
    }
    while (length > 0) {
        uInt piece = length > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uInt)length;
        output->gzip.next_in = (Bytef *)(uintptr_t)bytes;
        output->gzip.avail_in = piece;
        compress_input(output, Z_NO_FLUSH);
        bytes += piece;
        length -= piece;
    }
}

int bundle_output_take(struct bundle_output *output, struct text *text)
{
    if (output->failure.code == 0 && text->length > 0) {
        output->written += text->length;
        if (output->written > output->bytes_max)
            error_set(&output->failure, E2BIG, "policy bundle is larger than %zu bytes", output->bytes_max);
        else if (write_all(output, text->data, text->length) == 0) {
            EVP_DigestUpdate(output->hash, text->data, text->length);
            compress_bytes(output, text->data, text->length);
        }
    }
    text_clear(text);
    return output->failure.code ? -1 : 0;
}

static void tag_make(struct bundle_output *output, char *tag)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    EVP_DigestFinal_ex(output->hash, digest, NULL);
    for (size_t i = 0; i < BUNDLE_TAG_LENGTH / 2; i++) {
        tag[2 * i] = digits[digest[i] >> 4];
        tag[2 * i + 1] = digits[digest[i] & 15];
    }
    tag[BUNDLE_TAG_LENGTH] = '\0';
}

int bundle_output_finish(struct bundle_output *output, struct bundle_body *body, struct error *err)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
    memset(body, 0, sizeof *body);
    body->descriptor = -1;
    if (output->failure.code == 0) {
        output->gzip.avail_in = 0;
        compress_input(output, Z_FINISH);
        body->json_bytes = output->written;
        if (output->compressed.length < output->written) {
            body->gzip_bytes = output->compressed.length;
            write_all(output, output->compressed.data, output->compressed.length);
        }
    }
    if (output->failure.code == 0 && fcntl(output->descriptor, F_ADD_SEALS, seals) < 0)
        error_set_errno(&output->failure, errno, "cannot seal a bundle");
    int result = output->failure.code ? error_set(err, output->failure.code, "%s", output->failure.text) : 0;
    if (result == 0) {
        tag_make(output, body->tag);
        body->descriptor = output->descriptor;
        output->descriptor = -1;
    }
    bundle_output_abandon(output);
    return result;
}
