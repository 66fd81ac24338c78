#include "server/command/http_call.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/log_redact.h"
#include "shm/common/memory.h"

#define REQUEST_TIMEOUT_SECONDS 60L
/* An answer that is longer is no answer of this API. */
#define REPLY_MAX_BYTES ((size_t)64 << 20)

/* ---- the URL ---- */

static bool url_has(CURLU *url, CURLUPart part)
{
    char *value = NULL;
    bool has = curl_url_get(url, part, &value, 0) == CURLUE_OK && value && *value;
    curl_free(value);
    return has;
}

static bool url_is_web(CURLU *url)
{
    char *scheme = NULL;
    bool web = curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK && scheme &&
               (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
    curl_free(scheme);
    return web;
}

/* NULL after a line on standard error. */
static CURLU *parse_url(const char *address)
{
    CURLU *url = curl_url();
    const char *wrong = NULL;
    if (!url || curl_url_set(url, CURLUPART_URL, address, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK ||
        !url_is_web(url) || !url_has(url, CURLUPART_HOST))
        wrong = "must be a URL like http://host:7002";
    else if (url_has(url, CURLUPART_USER) || url_has(url, CURLUPART_PASSWORD))
        wrong = "a user name in the URL is not supported, use TOKEN";
    if (!wrong)
        return url;
    struct text shown = {0};
    log_redact(&shown, slice_from_string(address));
    fprintf(stderr, "opald: --server-url: %s: %s\n", shown.data ? shown.data : "", wrong);
    text_free(&shown);
    curl_url_cleanup(url);
    return NULL;
}

bool http_call_check(const char *url)
{
    CURLU *parsed = parse_url(url);
    curl_url_cleanup(parsed);
    return parsed != NULL;
}

/* ---- the request ---- */

static size_t on_reply(char *bytes, size_t one, size_t length, void *context)
{
    struct text *reply = context;
    (void)one;
    if (reply->length + length > REPLY_MAX_BYTES)
        return 0;
    text_append(reply, bytes, length);
    return length;
}

/* What went wrong, in our words, and behind it in libcurl's, which name the host. */
static void describe(CURLcode code, const char *problem, struct http_result *result)
{
    const char *kind = "the request failed";
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        kind = "there is no such host";
        break;
    case CURLE_COULDNT_CONNECT:
        kind = "cannot connect";
        break;
    case CURLE_OPERATION_TIMEDOUT:
        kind = "no answer in time";
        break;
    case CURLE_PEER_FAILED_VERIFICATION:
        kind = "its certificate is not good";
        break;
    case CURLE_SSL_CONNECT_ERROR:
        kind = "no TLS with it";
        break;
    case CURLE_GOT_NOTHING:
        kind = "the connection was closed before an answer came";
        break;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
        kind = "the answer is not HTTP";
        break;
    case CURLE_WRITE_ERROR:
        kind = "the answer is too long";
        break;
    default:
        break;
    }
    snprintf(result->failure, sizeof result->failure, "%s: %s", kind,
        *problem ? problem : curl_easy_strerror(code));
}

/* The system's certificates, unless these variables name others: as OpenSSL's own programs do. */
static void set_trust(CURL *curl)
{
    const char *file = getenv("SSL_CERT_FILE");
    const char *folder = getenv("SSL_CERT_DIR");
    if (file && *file)
        curl_easy_setopt(curl, CURLOPT_CAINFO, file);
    if (folder && *folder)
        curl_easy_setopt(curl, CURLOPT_CAPATH, folder);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
}

static struct curl_slist *make_headers(const char *token)
{
    struct text line = {0};
    struct curl_slist *headers = curl_slist_append(NULL, "content-type: application/json");
    /* otherwise a large body waits a second for the server's '100 Continue' */
    headers = curl_slist_append(headers, "Expect:");
    if (token) {
        text_append_format(&line, "Authorization: bearer %s", token);
        headers = curl_slist_append(headers, line.data);
    }
    text_free(&line);
    return headers;
}

static void perform(CURL *curl, CURLU *url, const char *token, struct slice body, struct http_result *result)
{
    char problem[CURL_ERROR_SIZE] = "";
    struct text reply = {0};
    long status = 0;
    struct curl_slist *headers = make_headers(token);
    curl_easy_setopt(curl, CURLOPT_CURLU, url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.data);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.length);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, REQUEST_TIMEOUT_SECONDS);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "opald/" OPALD_VERSION);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_reply);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &reply);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, problem);
    set_trust(curl);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (code != CURLE_OK) {
        describe(code, problem, result);
    } else {
        result->status = (int)status;
        result->body = memory_copy_string(reply.data ? reply.data : "");
    }
    curl_slist_free_all(headers);
    text_free(&reply);
}

int http_call_post(const char *url, const char *token, struct slice body, struct http_result *result)
{
    CURLU *parsed = parse_url(url);
    if (!parsed)
        return -1;
    CURL *curl = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? curl_easy_init() : NULL;
    if (!curl)
        snprintf(result->failure, sizeof result->failure, "out of resources");
    else if (token && token[strcspn(token, "\r\n")])
        snprintf(result->failure, sizeof result->failure, "TOKEN must not contain line breaks");
    else
        perform(curl, parsed, token, body, result);
    curl_easy_cleanup(curl);
    curl_url_cleanup(parsed);
    curl_global_cleanup();
    return 0;
}

void http_result_free(struct http_result *result)
{
    free(result->body);
    *result = (struct http_result){0};
}
