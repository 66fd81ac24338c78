/*
 * The file's inside (PROTOCOL.key), numbers big endian, a string is its length (4 bytes) and its bytes:
 *   "openssh-key-v1\0"  string cipher  string kdf  string kdf options  u32 keys (1)
 *   string public key  string private part
 * and the private part, in clear when cipher and kdf are "none":
 *   u32 check  u32 the same check  string type  the type's numbers  string comment  padding 1 2 3 ...
 */
#include "worker/jose/ssh_key.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <string.h>

#define ED25519_BYTES 32
#define LABEL         "OPENSSH PRIVATE KEY"

struct reader {
    const unsigned char *at;
    size_t left;
    bool broken;
};

static uint32_t read_number(struct reader *reader)
{
    if (reader->left < 4) {
        reader->broken = true;
        return 0;
    }
    const unsigned char *at = reader->at;
    reader->at += 4;
    reader->left -= 4;
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static struct slice read_string(struct reader *reader)
{
    uint32_t length = read_number(reader);
    struct slice string = {(const char *)reader->at, length};
    if (reader->broken || length > reader->left) {
        reader->broken = true;
        return SLICE_LITERAL("");
    }
    reader->at += length;
    reader->left -= length;
    return string;
}

/* NULL for a negative or broken one. */
static BIGNUM *read_bignum(struct reader *reader)
{
    struct slice string = read_string(reader);
    if (reader->broken || !string.length || (unsigned char)string.data[0] & 0x80 || string.length > 4096)
        return NULL;
    return BN_bin2bn((const unsigned char *)string.data, (int)string.length, NULL);
}

static struct reader reader_of(struct slice bytes)
{
    return (struct reader){(const unsigned char *)bytes.data, bytes.length, false};
}

/* Standard base64, as long as it goes; what no digit is ends it or is passed over (line ends). */
static bool decode_base64(struct slice text, struct text *out)
{
    EVP_ENCODE_CTX *context = EVP_ENCODE_CTX_new();
    int made = 0, rest = 0;
    unsigned char *to = (unsigned char *)text_reserve(out, text.length + 4);
    EVP_DecodeInit(context);
    bool good =
        text.length && text.length < INT32_MAX / 2 &&
        EVP_DecodeUpdate(context, to, &made, (const unsigned char *)text.data, (int)text.length) >= 0 &&
        EVP_DecodeFinal(context, to + made, &rest) == 1;
    if (good)
        out->length += (size_t)(made + rest);
    EVP_ENCODE_CTX_free(context);
    ERR_clear_error();
    return good;
}

/* ---- from numbers to a key ---- */

static EVP_PKEY *key_from_parameters(const char *type, OSSL_PARAM_BLD *build, int selection)
{
    OSSL_PARAM *parameters = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    EVP_PKEY *key = NULL;
    if (parameters && context && EVP_PKEY_fromdata_init(context) > 0 &&
        EVP_PKEY_fromdata(context, &key, selection, parameters) <= 0)
        key = NULL;
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(parameters);
    return key;
}

static const char *curve_of(struct slice type)
{
    if (slice_equals_string(type, "ecdsa-sha2-nistp256"))
        return "prime256v1";
    if (slice_equals_string(type, "ecdsa-sha2-nistp384"))
        return "secp384r1";
    return slice_equals_string(type, "ecdsa-sha2-nistp521") ? "secp521r1" : NULL;
}

static EVP_PKEY *rsa_public(struct reader *reader)
{
    BIGNUM *e = read_bignum(reader), *n = read_bignum(reader);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = NULL;
    if (e && n && OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e))
        key = key_from_parameters("RSA", build, EVP_PKEY_PUBLIC_KEY);
    OSSL_PARAM_BLD_free(build);
    BN_free(e);
    BN_free(n);
    return key;
}

static EVP_PKEY *rsa_private(struct reader *reader)
{
    static const char *const names[] = {OSSL_PKEY_PARAM_RSA_N, OSSL_PKEY_PARAM_RSA_E, OSSL_PKEY_PARAM_RSA_D,
        OSSL_PKEY_PARAM_RSA_COEFFICIENT1, OSSL_PKEY_PARAM_RSA_FACTOR1, OSSL_PKEY_PARAM_RSA_FACTOR2,
        OSSL_PKEY_PARAM_RSA_EXPONENT1, OSSL_PKEY_PARAM_RSA_EXPONENT2};
    enum { N, E, D, COEFFICIENT, P, Q, DP, DQ, COUNT };
    BIGNUM *numbers[COUNT] = {0};
    BN_CTX *context = BN_CTX_new();
    BIGNUM *less = BN_new();
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    bool good = true;
    for (size_t i = N; i <= Q; i++)
        good = (numbers[i] = read_bignum(reader)) && good;
    numbers[DP] = BN_new();
    numbers[DQ] = BN_new();
    good = good && BN_sub(less, numbers[P], BN_value_one()) &&
           BN_mod(numbers[DP], numbers[D], less, context) && BN_sub(less, numbers[Q], BN_value_one()) &&
           BN_mod(numbers[DQ], numbers[D], less, context);
    for (size_t i = N; i < COUNT; i++)
        good = good && OSSL_PARAM_BLD_push_BN(build, names[i], numbers[i]);
    EVP_PKEY *key = good ? key_from_parameters("RSA", build, EVP_PKEY_KEYPAIR) : NULL;
    OSSL_PARAM_BLD_free(build);
    for (size_t i = N; i < COUNT; i++)
        BN_clear_free(numbers[i]);
    BN_clear_free(less);
    BN_CTX_free(context);
    return key;
}

static EVP_PKEY *ecdsa(const char *curve, struct reader *reader, bool private)
{
    read_string(reader); /* the curve's name once more */
    struct slice point = read_string(reader);
    BIGNUM *secret = private ? read_bignum(reader) : NULL;
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = NULL;
    if (!reader->broken && (secret || !private) &&
        OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, curve, 0) &&
        OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point.data, point.length) &&
        (!private || OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_PRIV_KEY, secret)))
        key = key_from_parameters("EC", build, private ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY);
    OSSL_PARAM_BLD_free(build);
    BN_clear_free(secret);
    return key;
}

static EVP_PKEY *ed25519(struct reader *reader, bool private)
{
    struct slice public = read_string(reader);
    struct slice secret = private ? read_string(reader) : SLICE_LITERAL("");
    if (reader->broken || public.length != ED25519_BYTES)
        return NULL;
    if (!private)
        return EVP_PKEY_new_raw_public_key(
            EVP_PKEY_ED25519, NULL, (const unsigned char *)public.data, public.length);
    if (secret.length != 2 * ED25519_BYTES) /* the seed, then the public key again */
        return NULL;
    return EVP_PKEY_new_raw_private_key(
        EVP_PKEY_ED25519, NULL, (const unsigned char *)secret.data, ED25519_BYTES);
}

/* The type's numbers behind its name. */
static EVP_PKEY *read_key(struct slice type, struct reader *reader, bool private, struct error *err)
{
    EVP_PKEY *key = NULL;
    if (slice_equals_string(type, "ssh-rsa"))
        key = private ? rsa_private(reader) : rsa_public(reader);
    else if (curve_of(type))
        key = ecdsa(curve_of(type), reader, private);
    else if (slice_equals_string(type, "ssh-ed25519"))
        key = ed25519(reader, private);
    else
        error_set(err, EINVAL,
            "an OpenSSH key of a type that can't be used (only ssh-rsa, ssh-ed25519, "
            "ecdsa-sha2-nistp256, -nistp384, -nistp521)");
    ERR_clear_error();
    if (!key && err && !err->code)
        error_set(err, EINVAL, "a damaged OpenSSH key");
    return key;
}

/* ---- public ---- */

static struct slice next_word(struct slice *line)
{
    size_t length = 0;
    while (line->length && (line->data[0] == ' ' || line->data[0] == '\t')) {
        line->data++;
        line->length--;
    }
    while (length < line->length && !strchr(" \t\r\n", line->data[length]))
        length++;
    struct slice word = {line->data, length};
    line->data += length;
    line->length -= length;
    return word;
}

EVP_PKEY *ssh_public_key_parse(struct slice line, struct error *err)
{
    struct slice type = next_word(&line), encoded = next_word(&line);
    struct text blob = {0};
    if (!encoded.length || !decode_base64(encoded, &blob)) {
        text_free(&blob);
        error_set(err, EINVAL, "not an OpenSSH public key (one line: type, base64, comment)");
        return NULL;
    }
    struct reader reader = reader_of(text_slice(&blob));
    struct slice inner = read_string(&reader);
    EVP_PKEY *key = NULL;
    if (reader.broken || !slice_equals(inner, type))
        error_set(err, EINVAL, "a damaged OpenSSH public key");
    else
        key = read_key(type, &reader, false, err);
    if (key && reader.left) {
        EVP_PKEY_free(key);
        key = NULL;
        error_set(err, EINVAL, "a damaged OpenSSH public key: something follows it");
    }
    text_free(&blob);
    return key;
}

/* ---- private ---- */

static EVP_PKEY *read_private_part(struct slice part, struct error *err)
{
    struct reader reader = reader_of(part);
    uint32_t check = read_number(&reader);
    if (read_number(&reader) != check || reader.broken) {
        error_set(err, EINVAL, "a damaged OpenSSH private key");
        return NULL;
    }
    struct slice type = read_string(&reader);
    return read_key(type, &reader, true, err);
}

static EVP_PKEY *read_container(struct slice bytes, const char *passphrase, struct error *err)
{
    static const char magic[] = "openssh-key-v1"; /* with its NUL */
    struct reader reader = reader_of(bytes);
    if (bytes.length < sizeof magic || memcmp(bytes.data, magic, sizeof magic) != 0) {
        error_set(err, EINVAL, "a damaged OpenSSH private key");
        return NULL;
    }
    reader.at += sizeof magic;
    reader.left -= sizeof magic;
    struct slice cipher = read_string(&reader), derivation = read_string(&reader);
    read_string(&reader); /* options */
    uint32_t count = read_number(&reader);
    read_string(&reader); /* the public key: the private part has all of it */
    struct slice part = read_string(&reader);
    if (reader.broken)
        error_set(err, EINVAL, "a damaged OpenSSH private key");
    else if (!slice_equals_string(cipher, "none") || !slice_equals_string(derivation, "none"))
        error_set(err, EINVAL,
            "an encrypted OpenSSH private key, which can't be read (neither can the reference, "
            "without a module of its own choice); 'ssh-keygen -p' takes the passphrase off, or "
            "use an encrypted pem");
    else if (passphrase)
        error_set(err, EINVAL, "the key is not encrypted, but a passphrase is set");
    else if (count != 1)
        error_set(err, EINVAL, "a file with %u keys; must be one", count);
    else
        return read_private_part(part, err);
    return NULL;
}

EVP_PKEY *ssh_private_key_parse(struct slice text, const char *passphrase, struct error *err)
{
    static const char begin[] = "-----BEGIN " LABEL "-----", end[] = "-----END " LABEL "-----";
    const char *from = text.length ? memmem(text.data, text.length, begin, sizeof begin - 1) : NULL;
    const char *to = NULL;
    if (from) {
        from += sizeof begin - 1;
        to = memmem(from, (size_t)(text.data + text.length - from), end, sizeof end - 1);
    }
    struct text blob = {0};
    EVP_PKEY *key = NULL;
    if (!to)
        error_set(err, EINVAL, "not an OpenSSH private key (there is no '%s' ... '%s')", begin, end);
    else if (!decode_base64((struct slice){from, (size_t)(to - from)}, &blob))
        error_set(err, EINVAL, "a damaged OpenSSH private key: not base64");
    else
        key = read_container(text_slice(&blob), passphrase, err);
    if (blob.data)
        OPENSSL_cleanse(blob.data, blob.capacity);
    text_free(&blob);
    return key;
}
