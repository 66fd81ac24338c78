/*
 * http-parser reads the head; what frames the stream is done here. Where a head ends is found byte by byte before the library sees it,
 * because it must never get bytes of a body together with a head (offsets would be lost) and because it accepts bare LF and folded
 * lines, which must be refused. Debian builds it without its strict mode: request line and header names are looked at once
 * more when the head is whole, and bodies don't go through it at all.
 *
 * Refused on top of what the library refuses: bare CR or LF, folded lines, white space before a colon, several
 * Content-Length, any Transfer-Encoding but a single "chunked", Transfer-Encoding in HTTP/1.0, several Host, a
 * target that is neither a path, an absolute http URL nor "*", versions other than 1.0 and 1.1.
 */
#include "worker/http/http_reader.h"

#include <http_parser.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "shm/common/memory.h"
#include "worker/http/http_chunked.h"
#include "shm/common/percent.h"

#define HTTP_READER_MAGIC UINT32_C(0x68747264)
/* Empty lines before a request line (RFC 9112 2.2 asks to skip some). */
#define HTTP_READER_EMPTY_LINES 4

enum reader_phase { PHASE_HEAD, PHASE_HEAD_DONE, PHASE_BODY, PHASE_MESSAGE, PHASE_FAILED };
/* Where the scan of the head stands: what the last byte was. */
enum head_scan { SCAN_START, SCAN_START_CR, SCAN_TEXT, SCAN_CR, SCAN_LINE_START, SCAN_LINE_START_CR };

struct extent {
    uint32_t start;
    uint32_t length;
};

struct header_extent {
    struct extent name;
    struct extent value;
};

struct http_reader {
    uint32_t magic;
    enum reader_phase phase;
    enum head_scan scan;
    unsigned empty_lines;
    size_t header_lines;
    struct http_reader_limits limits;
    enum http_reader_failure failure;
    const char *reason;
    http_parser parser;
    bool head_complete; /* the parser said so */
    bool chunked;
    struct http_chunked chunks;
    uint64_t body_left; /* of a body with a content-length */
    bool keep_body;
    bool expects_continue;
    bool last_was_value;
    uint64_t body_bytes;

    struct text head; /* raw bytes of the head */
    struct extent target;
    struct header_extent *extents;
    size_t extent_count;
    size_t extent_capacity;
    struct http_header *headers; /* the same as slices, once the head is whole */
    struct text path;            /* decoded, only when the target has a percent sign */
    struct text body;
    struct http_request request;
};

static enum http_reader_event reader_fail(
    struct http_reader *reader, enum http_reader_failure failure, const char *reason)
{
    reader->phase = PHASE_FAILED;
    reader->failure = failure;
    reader->reason = reason;
    return HTTP_READER_FAILED;
}

/* ---- callbacks of http-parser; none of them refuses anything ---- */

static struct http_reader *reader_of(http_parser *parser)
{
    struct http_reader *reader = parser->data;
    if (reader->magic != HTTP_READER_MAGIC)
        abort();
    return reader;
}

/* The parser reports a field in as many pieces as it was fed in; they are adjacent in the head buffer. */
static void extent_extend(
    const struct http_reader *reader, struct extent *extent, const char *at, size_t length)
{
    if (extent->length == 0)
        extent->start = (uint32_t)(at - reader->head.data);
    extent->length += (uint32_t)length;
}

static int on_url(http_parser *parser, const char *at, size_t length)
{
    struct http_reader *reader = reader_of(parser);
    extent_extend(reader, &reader->target, at, length);
    return 0;
}

static int on_header_field(http_parser *parser, const char *at, size_t length)
{
    struct http_reader *reader = reader_of(parser);
    if (reader->last_was_value || reader->extent_count == 0) {
        if (reader->extent_count == reader->extent_capacity) {
            reader->extent_capacity = reader->extent_capacity ? 2 * reader->extent_capacity : 16;
            reader->extents =
                memory_resize(reader->extents, reader->extent_capacity * sizeof *reader->extents);
        }
        reader->extents[reader->extent_count++] = (struct header_extent){0};
        reader->last_was_value = false;
    }
    extent_extend(reader, &reader->extents[reader->extent_count - 1].name, at, length);
    return 0;
}

static int on_header_value(http_parser *parser, const char *at, size_t length)
{
    struct http_reader *reader = reader_of(parser);
    if (reader->extent_count == 0)
        return 0;
    reader->last_was_value = true;
    extent_extend(reader, &reader->extents[reader->extent_count - 1].value, at, length);
    return 0;
}

static int on_headers_complete(http_parser *parser)
{
    reader_of(parser)->head_complete = true;
    return 0;
}

static const http_parser_settings reader_settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
};

/* ---- life ---- */

static void reader_start(struct http_reader *reader)
{
    http_parser_init(&reader->parser, HTTP_REQUEST);
    reader->parser.data = reader;
    reader->phase = PHASE_HEAD;
    reader->scan = SCAN_START;
    reader->empty_lines = 0;
    reader->header_lines = 0;
    reader->head_complete = reader->chunked = false;
    reader->chunks = (struct http_chunked){0};
    reader->body_left = 0;
    reader->keep_body = reader->expects_continue = reader->last_was_value = false;
    reader->body_bytes = 0;
    reader->target = (struct extent){0};
    reader->extent_count = 0;
    reader->request = (struct http_request){0};
}

struct http_reader *http_reader_make(const struct http_reader_limits *limits)
{
    struct http_reader *reader = memory_allocate(sizeof *reader);
    reader->magic = HTTP_READER_MAGIC;
    reader->limits = *limits;
    if (reader->limits.header_max_bytes > UINT32_MAX / 4)
        reader->limits.header_max_bytes = UINT32_MAX / 4; /* the parser's own count is 32 bits wide */
    /* A global of the library, never below ours. */
    http_parser_set_max_header_size((uint32_t)reader->limits.header_max_bytes);
    reader_start(reader);
    return reader;
}

static void reader_drop_memory(struct http_reader *reader)
{
    text_free(&reader->head);
    text_free(&reader->path);
    text_free(&reader->body);
    free(reader->extents);
    free(reader->headers);
    reader->extents = NULL;
    reader->headers = NULL;
    reader->extent_capacity = 0;
}

size_t http_reader_held(const struct http_reader *reader)
{
    return reader->head.capacity + reader->body.capacity;
}

void http_reader_free(struct http_reader *reader)
{
    if (!reader)
        return;
    reader_drop_memory(reader);
    reader->magic = 0;
    free(reader);
}

void http_reader_next(struct http_reader *reader)
{
    reader_drop_memory(reader);
    reader_start(reader);
}

/* ---- the head ---- */

/* Moves the scan over one byte. 1: the head ends with it; 0: go on; -1: refused, with failure and reason set. */
static int scan_byte(struct http_reader *reader, char byte)
{
    switch (reader->scan) {
    case SCAN_START:
        if (byte == '\r')
            reader->scan = SCAN_START_CR;
        else if (byte == '\n')
            goto bare;
        else
            reader->scan = SCAN_TEXT;
        return 0;
    case SCAN_START_CR:
        if (byte != '\n' || ++reader->empty_lines > HTTP_READER_EMPTY_LINES)
            goto bare;
        reader->scan = SCAN_START;
        return 0;
    case SCAN_LINE_START:
        if (byte == '\r') {
            reader->scan = SCAN_LINE_START_CR;
            return 0;
        }
        if (byte == ' ' || byte == '\t') {
            reader->failure = HTTP_FAILURE_SYNTAX;
            reader->reason = "folded header line";
            return -1;
        }
        reader->scan = SCAN_TEXT;
        if (byte == '\n')
            goto bare;
        if (++reader->header_lines > reader->limits.header_max_count) {
            reader->failure = HTTP_FAILURE_HEADER_COUNT;
            reader->reason = "too many headers";
            return -1;
        }
        return 0;
    case SCAN_TEXT:
        if (byte == '\r')
            reader->scan = SCAN_CR;
        else if (byte == '\n')
            goto bare;
        return 0;
    case SCAN_CR:
        if (byte != '\n')
            goto bare;
        reader->scan = SCAN_LINE_START;
        return 0;
    case SCAN_LINE_START_CR:
        if (byte != '\n')
            goto bare;
        return 1;
    }
bare:
    reader->failure = HTTP_FAILURE_SYNTAX;
    reader->reason = "bare CR or LF, or too many empty lines";
    return -1;
}

static struct slice head_slice(const struct http_reader *reader, struct extent extent)
{
    if (extent.length == 0)
        return SLICE_LITERAL("");
    return (struct slice){reader->head.data + extent.start, extent.length};
}

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

/* No control characters but tabs. The library overlooks one at the start of a value, and values are echoed. */
static bool is_field_value(struct slice value)
{
    for (size_t i = 0; i < value.length; i++) {
        unsigned char c = (unsigned char)value.data[i];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

/* The request line as a whole: one space on either side of the target, a version of two that are known. */
static const char *check_request_line(const struct http_reader *reader)
{
    const char *line = reader->head.data;
    while (*line == '\r' || *line == '\n')
        line++;
    const char *method = http_method_str((enum http_method)reader->parser.method);
    size_t method_length = strlen(method);
    struct slice target = head_slice(reader, reader->target);
    if (strncmp(line, method, method_length) != 0 || line[method_length] != ' ' ||
        target.data != line + method_length + 1)
        return "wrong request line";
    const char *version = target.data + target.length;
    if (strncmp(version, " HTTP/1.1\r", 10) != 0 && strncmp(version, " HTTP/1.0\r", 10) != 0)
        return "unknown HTTP version";
    for (size_t i = 0; i < target.length; i++)
        if (target.data[i] <= ' ' ||
            target.data[i] == 0x7f) /* char is signed here: also refuses 0x80 and up */
            return "invalid character in the target";
    if (reader->parser.method == HTTP_CONNECT)
        return "CONNECT is not served";
    return NULL;
}

/* Path and query out of the target: origin form, absolute form (http only) or "*" (RFC 9112 3.2). */
static const char *split_target(struct http_reader *reader)
{
    struct http_request *request = &reader->request;
    struct slice rest = request->target;
    if (rest.length && rest.data[0] != '/' && !slice_equals_string(rest, "*")) {
        size_t scheme = rest.length > 7 && strncasecmp(rest.data, "http://", 7) == 0    ? 7
                        : rest.length > 8 && strncasecmp(rest.data, "https://", 8) == 0 ? 8
                                                                                        : 0;
        if (!scheme)
            return "the target is no path";
        const char *slash = memchr(rest.data + scheme, '/', rest.length - scheme);
        if (!slash)
            return "the target has no path";
        rest = (struct slice){slash, rest.length - (size_t)(slash - rest.data)};
    }
    const char *fragment = memchr(rest.data, '#', rest.length);
    if (fragment)
        rest.length = (size_t)(fragment - rest.data);
    const char *mark = memchr(rest.data, '?', rest.length);
    if (mark) {
        size_t path_length = (size_t)(mark - rest.data);
        request->query = (struct slice){mark + 1, rest.length - path_length - 1};
        rest.length = path_length;
    }
    if (memchr(rest.data, '%', rest.length)) {
        percent_decode(rest, false, &reader->path);
        rest = text_slice(&reader->path);
    }
    request->under_root = http_path_strip_root(&rest, reader->limits.root_path);
    request->path = rest;
    return NULL;
}

/* Everything about the framing of the body that must be beyond doubt. */
static const char *check_framing(struct http_reader *reader)
{
    const struct http_request *request = &reader->request;
    size_t lengths = 0, encodings = 0, hosts = 0;
    for (size_t i = 0; i < request->header_count; i++) {
        const struct http_header *header = &request->headers[i];
        if (!is_token(header->name))
            return "invalid header name";
        if (!is_field_value(header->value))
            return "invalid header value";
        if (slice_equals_ignoring_case(header->name, "content-length")) {
            lengths++;
            for (size_t k = 0; k < header->value.length; k++)
                if (header->value.data[k] < '0' || header->value.data[k] > '9')
                    return "invalid content-length";
            if (header->value.length == 0)
                return "invalid content-length";
        } else if (slice_equals_ignoring_case(header->name, "transfer-encoding")) {
            encodings++;
            if (!slice_equals_ignoring_case(header->value, "chunked"))
                return "transfer-encoding other than chunked";
        } else if (slice_equals_ignoring_case(header->name, "host")) {
            hosts++;
        }
    }
    if (lengths > 1 || encodings > 1 || (lengths && encodings))
        return "ambiguous length of the body";
    if (encodings && request->version_minor == 0)
        return "transfer-encoding in HTTP/1.0";
    if (hosts > 1)
        return "several host headers";
    return NULL;
}

/* The head is whole and the parser accepted it: slices instead of offsets, then the checks. */
static enum http_reader_event reader_finish_head(struct http_reader *reader)
{
    struct http_request *request = &reader->request;
    const char *wrong = check_request_line(reader);
    if (wrong)
        return reader_fail(reader, HTTP_FAILURE_SYNTAX, wrong);

    reader->headers = memory_allocate((reader->extent_count + 1) * sizeof *reader->headers);
    for (size_t i = 0; i < reader->extent_count; i++) {
        reader->headers[i].name = head_slice(reader, reader->extents[i].name);
        reader->headers[i].value = slice_trim(head_slice(reader, reader->extents[i].value), TEXT_BLANKS);
    }
    free(reader->extents);
    reader->extents = NULL;
    reader->extent_capacity = 0;

    request->headers = reader->headers;
    request->header_count = reader->extent_count;
    request->method = slice_from_string(http_method_str((enum http_method)reader->parser.method));
    request->target = head_slice(reader, reader->target);
    request->version_minor = reader->parser.http_minor;
    wrong = split_target(reader);
    wrong = wrong ? wrong : check_framing(reader);
    if (wrong)
        return reader_fail(reader, HTTP_FAILURE_SYNTAX, wrong);

    reader->chunked = http_request_header(request, "transfer-encoding").data != NULL;
    if (http_request_header(request, "content-length").data)
        reader->body_left = reader->parser.content_length;
    if (reader->body_left > reader->limits.body_max_bytes)
        return reader_fail(reader, HTTP_FAILURE_BODY_BYTES, "content-length above the limit");
    /* As the reference: HTTP/1.0 is always answered with close, whatever it asks for. */
    request->keep_alive =
        request->version_minor >= 1 && !http_request_header_has(request, "connection", "close");
    request->upgrade_websocket = http_request_asks_websocket(request) && !http_reader_has_body(reader);
    reader->expects_continue = request->version_minor >= 1 && http_reader_has_body(reader) &&
                               http_request_header_has(request, "expect", "100-continue");
    reader->phase = PHASE_HEAD_DONE;
    return HTTP_READER_HEAD;
}

static enum http_reader_event feed_head(
    struct http_reader *reader, const char *bytes, size_t length, size_t *used)
{
    size_t room = reader->limits.header_max_bytes - reader->head.length;
    if (room == 0)
        return reader_fail(reader, HTTP_FAILURE_HEADER_BYTES, "head too long");
    size_t take = 0;
    int scanned = 0;
    while (take < length && take < room && scanned == 0)
        scanned = scan_byte(reader, bytes[take++]);
    *used = take;
    if (scanned < 0)
        take--; /* what stands before the refused byte has its say first, however the stream was cut */

    /* Offsets are relative to the buffer, which may move when it grows; the parser keeps no pointers between calls. */
    size_t before = reader->head.length;
    text_append(&reader->head, bytes, take);
    size_t parsed =
        take == 0 ? 0
                  : http_parser_execute(&reader->parser, &reader_settings, reader->head.data + before, take);
    if (HTTP_PARSER_ERRNO(&reader->parser) != HPE_OK || (parsed != take && !reader->parser.upgrade))
        return reader_fail(
            reader, HTTP_FAILURE_SYNTAX, http_errno_description(HTTP_PARSER_ERRNO(&reader->parser)));
    if (scanned < 0)
        return reader_fail(reader, reader->failure, reader->reason);
    if (scanned == 1) {
        if (!reader->head_complete)
            return reader_fail(reader, HTTP_FAILURE_SYNTAX, "unfinished head");
        return reader_finish_head(reader);
    }
    if (reader->head_complete)
        return reader_fail(reader, HTTP_FAILURE_SYNTAX, "head ended early");
    return take < length ? reader_fail(reader, HTTP_FAILURE_HEADER_BYTES, "head too long") : HTTP_READER_MORE;
}

/* ---- the body ---- */

static bool take_body(struct http_reader *reader, struct slice piece)
{
    if (piece.length > reader->limits.body_max_bytes - reader->body_bytes)
        return false;
    reader->body_bytes += piece.length;
    if (reader->keep_body)
        text_append_slice(&reader->body, piece);
    return true;
}

static enum http_reader_event reader_finish_message(struct http_reader *reader)
{
    reader->request.body = text_slice(&reader->body);
    reader->phase = PHASE_MESSAGE;
    return HTTP_READER_MESSAGE;
}

static enum http_reader_event feed_sized(
    struct http_reader *reader, const char *bytes, size_t length, size_t *used)
{
    size_t take = length < reader->body_left ? length : (size_t)reader->body_left;
    *used = take;
    reader->body_left -= take;
    if (!take_body(reader, (struct slice){bytes, take}))
        return reader_fail(reader, HTTP_FAILURE_BODY_BYTES, "body too large");
    return reader->body_left ? HTTP_READER_MORE : reader_finish_message(reader);
}

static enum http_reader_event feed_chunked(
    struct http_reader *reader, const char *bytes, size_t length, size_t *used)
{
    *used = 0;
    for (;;) {
        size_t step;
        struct slice piece;
        enum http_chunked_event event = http_chunked_feed(
            &reader->chunks, bytes + *used, length - *used, reader->limits.header_max_bytes, &step, &piece);
        *used += step;
        switch (event) {
        case HTTP_CHUNKED_MORE:
            return HTTP_READER_MORE;
        case HTTP_CHUNKED_DATA:
            if (!take_body(reader, piece))
                return reader_fail(reader, HTTP_FAILURE_BODY_BYTES, "body too large");
            break;
        case HTTP_CHUNKED_END:
            return reader_finish_message(reader);
        case HTTP_CHUNKED_ERROR:
            return reader_fail(reader, HTTP_FAILURE_SYNTAX, "wrong chunk");
        }
    }
}

enum http_reader_event http_reader_feed(
    struct http_reader *reader, const char *bytes, size_t length, size_t *used)
{
    *used = 0;
    switch (reader->phase) {
    case PHASE_HEAD:
        return length ? feed_head(reader, bytes, length, used) : HTTP_READER_MORE;
    case PHASE_HEAD_DONE:
        reader->phase = PHASE_BODY;
        return http_reader_feed(reader, bytes, length, used);
    case PHASE_BODY:
        return (reader->chunked ? feed_chunked : feed_sized)(reader, bytes, length, used);
    case PHASE_MESSAGE:
    case PHASE_FAILED:
        break;
    }
    return reader->phase == PHASE_MESSAGE ? HTTP_READER_MESSAGE : HTTP_READER_FAILED;
}

/* ---- questions ---- */

const struct http_request *http_reader_request(const struct http_reader *reader)
{
    return &reader->request;
}

void http_reader_keep_body(struct http_reader *reader)
{
    reader->keep_body = true;
}

bool http_reader_has_body(const struct http_reader *reader)
{
    return reader->chunked || reader->body_left > 0;
}

bool http_reader_expects_continue(const struct http_reader *reader)
{
    return reader->expects_continue;
}

bool http_reader_in_head(const struct http_reader *reader)
{
    return reader->phase == PHASE_HEAD && reader->head.length > 0;
}

enum http_reader_failure http_reader_failure(const struct http_reader *reader)
{
    return reader->failure;
}

const char *http_reader_failure_reason(const struct http_reader *reader)
{
    return reader->reason ? reader->reason : "";
}
