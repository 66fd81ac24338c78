#include "worker/websocket/websocket_handshake.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shm/common/clock.h"

#define WEBSOCKET_PATH "/ws"
#define WEBSOCKET_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455 1.3 */
#define SHA1_LENGTH    20

const char *websocket_handshake_phrase(unsigned status)
{
    switch (status) {
    case 101:
        return "Switching Protocols";
    case 400:
        return "Bad Request";
    case 405:
        return "Method Not Allowed";
    case 426:
        return "Upgrade Required";
    default:
        return "Forbidden";
    }
}

/* `header`: one more line with its end, or "". */
static unsigned handshake_refuse(struct text *reply, unsigned status, const char *header, struct slice body)
{
    text_append_format(reply,
        "HTTP/1.1 %u %s\r\nDate: %s\r\nConnection: close\r\nContent-Length: %zu\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n%s\r\n",
        status, websocket_handshake_phrase(status), clock_http_date(), body.length, header);
    text_append_slice(reply, body);
    return status;
}

unsigned websocket_handshake_forbid(struct text *reply)
{
    return handshake_refuse(reply, 403, "", SLICE_LITERAL(""));
}

static unsigned handshake_bad_request(
    struct text *reply, const char *what, const char *header, struct slice value, const char *detail)
{
    struct text body = {0};
    text_append_format(&body, "Failed to open a WebSocket connection: %s %s header", what, header);
    if (value.data) {
        text_append_string(&body, ": ");
        text_append_slice(&body, value);
    }
    if (detail)
        text_append_format(&body, "; %s", detail);
    text_append_string(&body, ".\n");
    handshake_refuse(reply, 400, "", text_slice(&body));
    text_free(&body);
    return 400;
}

/* The only header of that name; `*count` gets how many there are. */
static struct slice handshake_header(const struct http_request *request, const char *name, size_t *count)
{
    struct slice value = {0};
    *count = 0;
    for (size_t i = 0; i < request->header_count; i++) {
        struct slice header = request->headers[i].name;
        if (!slice_equals_ignoring_case(header, name))
            continue;
        value = request->headers[i].value;
        ++*count;
    }
    return value;
}

static int base64_value(char byte)
{
    if (byte >= 'A' && byte <= 'Z')
        return byte - 'A';
    if (byte >= 'a' && byte <= 'z')
        return byte - 'a' + 26;
    if (byte >= '0' && byte <= '9')
        return byte - '0' + 52;
    return byte == '+' ? 62 : byte == '/' ? 63 : -1;
}

/*
 * Checks base64 as Python's b64decode(validate=True) does, for its error texts. Returns the number of bytes
 * it decodes to, or -1 with `error` set.
 */
static long base64_check(struct slice text, char *error, size_t size)
{
    unsigned quad = 0, pads = 0;
    long bytes = 0;
    bool padding = false;
    error[0] = '\0';
    if (text.length > 0 && text.data[0] == '=') {
        snprintf(error, size, "Leading padding not allowed");
        return -1;
    }
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] == '=') {
            padding = true;
            if (quad >= 2 && quad + ++pads >= 4) {
                if (i + 1 < text.length) {
                    snprintf(error, size, "Excess data after padding");
                    return -1;
                }
                return bytes;
            }
            continue;
        }
        if (base64_value(text.data[i]) < 0) {
            snprintf(error, size, "Only base64 data is allowed");
            return -1;
        }
        if (padding) {
            snprintf(error, size, "Discontinuous padding not allowed");
            return -1;
        }
        pads = 0;
        bytes += quad > 0;
        quad = (quad + 1) & 3;
    }
    if (quad == 0)
        return bytes;
    if (quad == 1)
        snprintf(error, size,
            "Invalid base64-encoded string: number of data characters (%ld) cannot be 1 more than a multiple "
            "of 4",
            bytes / 3 * 4 + 1);
    else
        snprintf(error, size, "Incorrect padding");
    return -1;
}

/* 0 when the header is as it must be, else the status already answered. */
static unsigned handshake_check_key(const struct http_request *request, struct text *reply, struct slice *key)
{
    static const char name[] = "Sec-WebSocket-Key";
    size_t count;
    *key = handshake_header(request, name, &count);
    if (count == 0)
        return handshake_bad_request(reply, "missing", name, (struct slice){0}, NULL);
    if (count > 1)
        return handshake_bad_request(reply, "invalid", name, SLICE_LITERAL("multiple values"), NULL);
    char error[128];
    long length = base64_check(*key, error, sizeof error);
    if (key->length == 0)
        return handshake_bad_request(reply, "empty", name, (struct slice){0}, NULL);
    if (length != 16)
        return handshake_bad_request(reply, "invalid", name, *key, error[0] ? error : NULL);
    return 0;
}

static unsigned handshake_check_version(const struct http_request *request, struct text *reply)
{
    static const char name[] = "Sec-WebSocket-Version";
    size_t count;
    struct slice version = handshake_header(request, name, &count);
    if (count == 0)
        return handshake_bad_request(reply, "missing", name, (struct slice){0}, NULL);
    if (count > 1)
        return handshake_bad_request(reply, "invalid", name, SLICE_LITERAL("multiple values"), NULL);
    if (version.length == 0)
        return handshake_bad_request(reply, "empty", name, (struct slice){0}, NULL);
    if (!slice_equals_string(version, "13"))
        return handshake_bad_request(reply, "invalid", name, version, NULL);
    return 0;
}

static void handshake_accept(struct text *reply, struct slice key)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned char accept[4 * ((SHA1_LENGTH + 2) / 3) + 1];
    struct text input = {0};
    text_append_slice(&input, key);
    text_append_string(&input, WEBSOCKET_GUID);
    if (EVP_Digest(input.data, input.length, digest, NULL, EVP_sha1(), NULL) != 1)
        abort(); /* SHA-1 is there as a checksum even where it is barred from signatures */
    text_free(&input);
    EVP_EncodeBlock(accept, digest, SHA1_LENGTH);
    text_append_format(reply,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: %s\r\ndate: %s\r\nserver: uvicorn\r\n\r\n",
        (const char *)accept, clock_http_date());
}

/* Only GET opens a websocket (RFC 6455 4.1). */
static unsigned handshake_check_method(const struct http_request *request, struct text *reply)
{
    struct text body = {0};
    if (slice_equals_string(request->method, "GET"))
        return 0;
    text_append_format(&body, "Failed to open a WebSocket connection: unsupported HTTP method: %.*s.\n",
        (int)request->method.length, request->method.data);
    handshake_refuse(reply, 405, "Allow: GET\r\n", text_slice(&body));
    text_free(&body);
    return 405;
}

/* The reader asked the last Upgrade header alone; here all of them are looked at, as a list. */
static unsigned handshake_check_upgrade(const struct http_request *request, struct text *reply)
{
    struct text body = {0};
    unsigned count = 0;
    text_append_string(&body, "Failed to open a WebSocket connection: invalid Upgrade header: ");
    for (size_t i = 0; i < request->header_count; i++) {
        struct slice name = request->headers[i].name, list = request->headers[i].value;
        size_t start = 0;
        if (!slice_equals_ignoring_case(name, "upgrade"))
            continue;
        for (size_t at = 0; at <= list.length; at++) {
            if (at < list.length && list.data[at] != ',')
                continue;
            struct slice item = {list.data + start, at - start};
            while (item.length && (item.data[0] == ' ' || item.data[0] == '\t'))
                item = (struct slice){item.data + 1, item.length - 1};
            while (item.length && (item.data[item.length - 1] == ' ' || item.data[item.length - 1] == '\t'))
                item.length--;
            start = at + 1;
            if (item.length == 0)
                continue;
            text_append_string(&body, count++ ? ", " : "");
            text_append_slice(&body, item);
        }
    }
    text_append_string(&body,
        ".\n\nYou cannot access a WebSocket server directly with a browser. You need a WebSocket "
        "client.\n");
    if (count > 1)
        handshake_refuse(reply, 426, "Upgrade: websocket\r\n", text_slice(&body));
    text_free(&body);
    return count > 1 ? 426 : 0;
}

unsigned websocket_handshake(const struct http_request *request, struct text *reply)
{
    struct slice key;
    unsigned status = handshake_check_method(request, reply);
    if (status == 0)
        status = handshake_check_upgrade(request, reply);
    if (status == 0)
        status = handshake_check_key(request, reply, &key);
    if (status == 0)
        status = handshake_check_version(request, reply);
    if (status != 0)
        return status;
    if (!slice_equals_string(request->path, WEBSOCKET_PATH))
        return websocket_handshake_forbid(reply);
    handshake_accept(reply, key);
    return 101;
}
