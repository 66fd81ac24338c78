#include "server/policy/source/api_download.h"

#include <curl/curl.h>
#include <errno.h>
#include <openssl/evp.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "shm/common/object.h"

#define TRANSFER_MAGIC    UINT32_C(0x7472666e)
#define ETAG_MAX          1024
#define REDIRECTS_MAX     10L
#define SHA256_OF_NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define TYPE_ETAG         "etag:"
#define TYPE_SHA256       "sha256:"

struct transfer {
    uint32_t magic;
    int file;
    uint64_t bytes;
    uint64_t bytes_max;
    bool too_much;
    int write_error;
    EVP_MD_CTX *digest;
    struct text etag;
};

/* A byte on the error output is progress for the policy process (job.h). */
static void show_progress(void)
{
    (void)!write(STDERR_FILENO, "\r", 1);
}

static size_t on_body(char *bytes, size_t size, size_t count, void *context)
{
    struct transfer *transfer = object_cast(struct transfer, TRANSFER_MAGIC, context);
    size_t length = size * count;
    transfer->bytes += length;
    if (transfer->bytes > transfer->bytes_max) {
        transfer->too_much = true;
        return 0;
    }
    EVP_DigestUpdate(transfer->digest, bytes, length);
    for (size_t done = 0; done < length;) {
        ssize_t written = write(transfer->file, bytes + done, length - done);
        if (written < 0 && errno != EINTR) {
            transfer->write_error = errno;
            return 0;
        }
        done += written > 0 ? (size_t)written : 0;
    }
    show_progress();
    return length;
}

static size_t on_header(char *bytes, size_t size, size_t count, void *context)
{
    struct transfer *transfer = object_cast(struct transfer, TRANSFER_MAGIC, context);
    size_t length = size * count;
    show_progress();
    if (length > 5 && strncasecmp(bytes, "HTTP/", 5) == 0)
        text_clear(&transfer->etag); /* of an answer that led here */
    if (length <= 5 || strncasecmp(bytes, "etag:", 5) != 0)
        return length;
    size_t start = 5;
    size_t end = length;
    while (start < end && strchr(" \t", bytes[start]))
        start++;
    while (end > start && strchr(" \t\r\n", bytes[end - 1]))
        end--;
    text_clear(&transfer->etag);
    if (end - start <= ETAG_MAX)
        text_append(&transfer->etag, bytes + start, end - start);
    return length;
}

static struct curl_slist *add_header(struct curl_slist *headers, const char *name, const char *value)
{
    struct text line = {0};
    text_append_format(&line, "%s: %s", name, value);
    headers = curl_slist_append(headers, line.data);
    text_free(&line);
    return headers;
}

/* The reference's headers, and its ways to sign. */
static struct curl_slist *set_request(
    CURL *curl, const struct config *config, const char *known, const char *url, struct text *scratch)
{
    struct curl_slist *headers = add_header(NULL, "content-type", "application/gzip");
    const char *token = config->policy_bundle_server_token;
    bool s3 = strcmp(config->policy_bundle_server_type, "AWS-S3") == 0;
    if (!s3 && token) {
        text_append_format(scratch, "Bearer %s", token);
        headers = add_header(headers, "Authorization", scratch->data);
    } else if (s3 && token && config->policy_bundle_server_token_id) {
        text_append_format(scratch, "aws:amz:%s:s3", config->policy_bundle_server_aws_region);
        curl_easy_setopt(curl, CURLOPT_AWS_SIGV4, scratch->data);
        headers = add_header(
            headers, "x-amz-content-sha256", SHA256_OF_NOTHING); /* S3 wants it; libcurl signs it */
        curl_easy_setopt(curl, CURLOPT_USERNAME, config->policy_bundle_server_token_id);
        curl_easy_setopt(curl, CURLOPT_PASSWORD, token);
    }
    if (strncmp(known, TYPE_ETAG, strlen(TYPE_ETAG)) == 0) {
        headers = add_header(headers, "ETag", known + strlen(TYPE_ETAG));
        headers = add_header(headers, "If-None-Match", known + strlen(TYPE_ETAG));
    }
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, REDIRECTS_MAX);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "opald/" OPALD_VERSION);
    return headers;
}

static void append_digest(struct text *out, EVP_MD_CTX *digest)
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    EVP_DigestFinal_ex(digest, bytes, &length);
    for (unsigned int i = 0; i < length; i++)
        text_append_format(out, "%02x", bytes[i]);
}

static int judge(struct api_download *download, struct transfer *transfer, CURLcode code, long status,
    const char *known, const char *problem, struct error *err)
{
    if (transfer->too_much)
        return error_set(err, E2BIG, "the bundle has more than %llu bytes (OPAL_POLICY_BUNDLE_MAX_BYTES)",
            (unsigned long long)transfer->bytes_max);
    if (transfer->write_error)
        return error_set_errno(err, transfer->write_error, "cannot keep the bundle");
    if (code != CURLE_OK)
        return error_set(
            err, EIO, "server connection error: %s", problem[0] ? problem : curl_easy_strerror(code));
    if (status == 304) {
        download->unchanged = true;
        text_append_string(&download->version, known);
        return 0;
    }
    if (status == 404)
        return error_set(err, ENOENT, "requested url not found");
    if (status != 200)
        return error_set(err, EIO, "the bundle server answered with status %ld", status);
    if (transfer->etag.length) {
        text_append_string(&download->version, TYPE_ETAG);
        text_append_slice(&download->version, text_slice(&transfer->etag));
    } else {
        text_append_string(&download->version, TYPE_SHA256);
        append_digest(&download->version, transfer->digest);
    }
    download->unchanged = slice_equals_string(text_slice(&download->version), known);
    return 0;
}

int api_download_run(struct api_download *download, const struct config *config, const char *known, int file,
    struct error *err)
{
    struct transfer transfer = {.magic = TRANSFER_MAGIC,
        .file = file,
        .bytes_max = config->policy_bundle_max_bytes,
        .digest = EVP_MD_CTX_new()};
    char problem[CURL_ERROR_SIZE] = "";
    struct text url = {0};
    struct text scratch = {0};
    long status = 0;
    CURL *curl = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? curl_easy_init() : NULL;
    if (!curl || !transfer.digest || !EVP_DigestInit_ex(transfer.digest, EVP_sha256(), NULL))
        return error_set(err, ENOMEM, "libcurl or the digest can't be had");
    text_append_format(&url, "%s/bundle.tar.gz", config->policy_bundle_url);
    struct curl_slist *headers = set_request(curl, config, known, url.data, &scratch);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, problem);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    int result = judge(download, &transfer, code, status, known, problem, err);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    curl_global_cleanup();
    EVP_MD_CTX_free(transfer.digest);
    text_free(&transfer.etag);
    text_free(&url);
    text_free(&scratch);
    return result;
}

void api_download_free(struct api_download *download)
{
    text_free(&download->version);
}
