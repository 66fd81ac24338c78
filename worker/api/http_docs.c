/*
 * GET /openapi.json, /docs and /redoc. The description is worker/api/openapi.json, the page
 * worker/api/docs.html: both are in the program, so that neither needs a file at run time nor anything from
 * outside (the reference's pages load their scripts from a public network).
 */
#include "worker/api/http_docs.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"
#include "worker/api/api_services.h"

#define HTML "text/html; charset=utf-8"
/* The page's own script and style stand in it; nothing else may be loaded or run. */
#define PAGE_POLICY \
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src " \
    "'self'"

#define EMBED(symbol, path) \
    __asm__(".pushsection .rodata\n.global " #symbol "\n.global " #symbol "_end\n" #symbol \
            ":\n.incbin \"" path "\"\n" #symbol "_end:\n.byte 0\n.popsection\n"); \
    extern const char symbol[], symbol##_end[]

EMBED(http_docs_openapi, "worker/api/openapi.json");
EMBED(http_docs_page, "worker/api/docs.html");

static struct slice embedded(const char *begin, const char *end)
{
    return (struct slice){begin, (size_t)((uintptr_t)end - (uintptr_t)begin)};
}

struct http_docs {
    /* without white space, with the configured routes */
    struct text openapi;
    char openapi_etag[40];
    char page_etag[40];
};

static void etag_make(struct slice of, char out[40])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    if (EVP_Digest(of.data, of.length, digest, NULL, EVP_sha256(), NULL) != 1)
        abort(); /* only out of memory */
    char *at = out;
    *at++ = '"';
    for (size_t i = 0; i < 16; i++) {
        *at++ = "0123456789abcdef"[digest[i] >> 4];
        *at++ = "0123456789abcdef"[digest[i] & 15];
    }
    *at++ = '"';
    *at = '\0';
}

static void append_without_spaces(struct text *out, struct slice json)
{
    const char *at = json.data, *end = json.data + json.length;
    bool in_string = false;
    for (; at < end; at++) {
        if (!in_string && (*at == ' ' || *at == '\n'))
            continue;
        if (*at == '"')
            in_string = !in_string;
        text_append_char(out, *at);
        if (*at == '\\' && in_string && at + 1 < end)
            text_append_char(out, *++at);
    }
}

/* "/data/config" -> "_data_config", as the reference makes its operation ids */
static void append_identifier(struct text *out, const char *path)
{
    for (; *path; path++) {
        bool word = (*path >= 'a' && *path <= 'z') || (*path >= 'A' && *path <= 'Z') ||
                    (*path >= '0' && *path <= '9');
        text_append_char(out, word ? *path : '_');
    }
}

static void replace_all(struct text *text, struct slice what, struct slice with)
{
    struct text out = {0};
    const char *at = text->data, *end = at + text->length, *found;
    while ((found = memmem(at, (size_t)(end - at), what.data, what.length))) {
        text_append(&out, at, (size_t)(found - at));
        text_append_slice(&out, with);
        at = found + what.length;
    }
    text_append(&out, at, (size_t)(end - at));
    text_free(text);
    *text = out;
}

/* The description of a route that the configuration has moved. */
static void move_route(struct text *openapi, const char *from, const char *to)
{
    struct text old = {0}, new = {0};
    if (strcmp(from, to) == 0)
        return;
    text_append_format(&old, "\"%s\":{", from);
    text_append_json_utf8(&new, slice_from_string(to));
    text_append_string(&new, ":{");
    replace_all(openapi, text_slice(&old), text_slice(&new));
    static const char *const methods[] = {"_get\"", "_post\""};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        text_clear(&old);
        text_clear(&new);
        append_identifier(&old, from);
        append_identifier(&new, to);
        text_append_string(&old, methods[i]);
        text_append_string(&new, methods[i]);
        replace_all(openapi, text_slice(&old), text_slice(&new));
    }
    text_free(&old);
    text_free(&new);
}

struct http_docs *http_docs_make(const struct config *config)
{
    struct http_docs *docs = memory_allocate(sizeof *docs);
    append_without_spaces(&docs->openapi, embedded(http_docs_openapi, http_docs_openapi_end));
    move_route(&docs->openapi, "/data/config", config->data_config_route);
    move_route(&docs->openapi, "/policy-data", config->all_data_route);
    move_route(&docs->openapi, "/data/callback_report", config->data_callback_default_route);
    if (config->root_path && config->root_path[0]) {
        struct text servers = {0};
        text_append_string(&servers, "\"servers\":[{\"url\":");
        text_append_json_utf8(&servers, slice_from_string(config->root_path));
        text_append_string(&servers, "}],\"paths\":{");
        replace_all(&docs->openapi, SLICE_LITERAL("\"paths\":{"), text_slice(&servers));
        text_free(&servers);
    }
    etag_make(text_slice(&docs->openapi), docs->openapi_etag);
    etag_make(embedded(http_docs_page, http_docs_page_end), docs->page_etag);
    return docs;
}

void http_docs_free(struct http_docs *docs)
{
    if (!docs)
        return;
    text_free(&docs->openapi);
    free(docs);
}

static void reply_with(struct http_exchange *exchange, const char *type, struct slice body, const char *etag)
{
    struct http_reply *reply = &exchange->reply;
    bool known = http_request_header_has(exchange->request, "if-none-match", etag);
    if (known)
        http_reply_set(reply, 304, NULL, SLICE_LITERAL(""));
    else
        http_reply_set(reply, 200, type, body);
    http_reply_header(&reply->after, "etag", slice_from_string(etag));
}

enum http_answer docs_openapi_get(struct http_exchange *exchange)
{
    const struct http_docs *docs = exchange->services->api->docs;
    reply_with(exchange, HTTP_JSON, text_slice(&docs->openapi), docs->openapi_etag);
    return HTTP_ANSWERED;
}

enum http_answer docs_page_get(struct http_exchange *exchange)
{
    const struct slice page = embedded(http_docs_page, http_docs_page_end);
    reply_with(exchange, HTML, page, exchange->services->api->docs->page_etag);
    http_reply_header(&exchange->reply.after, "content-security-policy", SLICE_LITERAL(PAGE_POLICY));
    return HTTP_ANSWERED;
}
