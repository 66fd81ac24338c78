#include "worker/http/http_framing.h"

#include <string.h>

/* RFC 9110 5.6.2 */
static bool is_token(struct slice name)
{
    for (size_t i = 0; i < name.length; i++) {
        char c = name.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && (c == '\0' || !strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return name.length > 0;
}

/*
 * No control characters but tabs. The library overlooks one at the start of a value, and values are echoed.
 */
static bool is_field_value(struct slice value)
{
    for (size_t i = 0; i < value.length; i++) {
        unsigned char c = (unsigned char)value.data[i];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static bool is_digits(struct slice value)
{
    for (size_t i = 0; i < value.length; i++)
        if (value.data[i] < '0' || value.data[i] > '9')
            return false;
    return value.length > 0;
}

struct header_counts {
    unsigned lengths;
    unsigned encodings;
    unsigned hosts;
    unsigned authorizations;
};

static const char *check_header(const struct http_header *header, struct header_counts *counts)
{
    if (!is_token(header->name))
        return "invalid header name";
    if (!is_field_value(header->value))
        return "invalid header value";
    if (slice_equals_ignoring_case(header->name, "content-length")) {
        counts->lengths++;
        return is_digits(header->value) ? NULL : "invalid content-length";
    }
    if (slice_equals_ignoring_case(header->name, "transfer-encoding")) {
        counts->encodings++;
        bool chunked = slice_equals_ignoring_case(header->value, "chunked");
        return chunked ? NULL : "transfer-encoding other than chunked";
    }
    counts->hosts += slice_equals_ignoring_case(header->name, "host");
    counts->authorizations += slice_equals_ignoring_case(header->name, "authorization");
    return NULL;
}

const char *http_framing_read(const struct http_request *request, struct http_framing *framing)
{
    struct header_counts counts = {0};
    for (size_t i = 0; i < request->header_count; i++) {
        const char *wrong = check_header(&request->headers[i], &counts);
        if (wrong)
            return wrong;
    }
    if (counts.lengths + counts.encodings > 1)
        return "ambiguous length of the body";
    if (counts.encodings && request->version_minor == 0)
        return "transfer-encoding in HTTP/1.0";
    if (counts.hosts > 1)
        return "several host headers";
    if (counts.hosts == 0 && request->version_minor >= 1)
        return "no host header";
    if (counts.authorizations > 1)
        return "several authorization headers";
    *framing = (struct http_framing){.chunked = counts.encodings > 0, .has_length = counts.lengths > 0};
    return NULL;
}

const char *http_framing_check_line(const struct http_request *request, const char *line)
{
    struct slice method = request->method;
    struct slice target = request->target;
    if (strncmp(line, method.data, method.length) != 0 || line[method.length] != ' ' ||
        target.data != line + method.length + 1)
        return "wrong request line";
    const char *version = target.data + target.length;
    if (strncmp(version, " HTTP/1.1\r", 10) != 0 && strncmp(version, " HTTP/1.0\r", 10) != 0)
        return "unknown HTTP version";
    for (size_t i = 0; i < target.length; i++)
        if ((unsigned char)target.data[i] <= ' ' || (unsigned char)target.data[i] >= 0x7f)
            return "invalid character in the target";
    if (slice_equals_string(method, "CONNECT"))
        return "CONNECT is not served";
    return NULL;
}
