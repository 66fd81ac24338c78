#include "worker/http/http_head.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"
#include "shm/common/percent.h"

#define HTTP_HEAD_MAGIC UINT32_C(0x68746864)
/* Empty lines before a request line (RFC 9112 2.2 asks to skip some). */
#define EMPTY_LINES_MAX 4

static enum http_head_event head_fail(
    struct http_head *head, enum http_reader_failure failure, const char *reason)
{
    head->failure = failure;
    head->reason = reason;
    return HTTP_HEAD_FAILED;
}

/* ---- callbacks of http-parser; none of them refuses anything ---- */

static struct http_head *head_of(http_parser *parser)
{
    return object_cast(struct http_head, HTTP_HEAD_MAGIC, parser->data);
}

/* The parser reports a field in as many pieces as it was fed in; they are adjacent in the head's buffer. */
static void extent_extend(
    const struct http_head *head, struct http_head_extent *extent, const char *at, size_t length)
{
    if (extent->length == 0)
        extent->start = (uint32_t)(at - head->bytes.data);
    extent->length += (uint32_t)length;
}

static int on_url(http_parser *parser, const char *at, size_t length)
{
    struct http_head *head = head_of(parser);
    extent_extend(head, &head->target, at, length);
    return 0;
}

static int on_header_field(http_parser *parser, const char *at, size_t length)
{
    struct http_head *head = head_of(parser);
    if (head->last_was_value || head->field_count == 0) {
        if (head->field_count == head->field_capacity) {
            head->field_capacity = head->field_capacity ? 2 * head->field_capacity : 16;
            head->fields = memory_resize(head->fields, head->field_capacity * sizeof *head->fields);
        }
        head->fields[head->field_count++] = (struct http_head_field){0};
        head->last_was_value = false;
    }
    extent_extend(head, &head->fields[head->field_count - 1].name, at, length);
    return 0;
}

static int on_header_value(http_parser *parser, const char *at, size_t length)
{
    struct http_head *head = head_of(parser);
    if (head->field_count == 0)
        return 0;
    head->last_was_value = true;
    extent_extend(head, &head->fields[head->field_count - 1].value, at, length);
    return 0;
}

static int on_headers_complete(http_parser *parser)
{
    head_of(parser)->complete = true;
    return 0;
}

static const http_parser_settings head_settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
};

/* ---- life ---- */

void http_head_free(struct http_head *head)
{
    text_free(&head->bytes);
    text_free(&head->path);
    free(head->fields);
    free(head->headers);
    *head = (struct http_head){0};
}

void http_head_start(struct http_head *head, const struct http_reader_limits *limits)
{
    http_head_free(head);
    head->magic = HTTP_HEAD_MAGIC;
    head->limits = limits;
    http_parser_init(&head->parser, HTTP_REQUEST);
    head->parser.data = head;
}

/* ---- where the head ends ---- */

/* What the last byte was. */
enum { SCAN_START, SCAN_START_CR, SCAN_TEXT, SCAN_CR, SCAN_LINE_START, SCAN_LINE_START_CR };

enum scanned { SCANNED_MORE, SCANNED_END, SCANNED_REFUSED };

static enum scanned scan_refuse(struct http_head *head, enum http_reader_failure failure, const char *reason)
{
    head->failure = failure;
    head->reason = reason;
    return SCANNED_REFUSED;
}

static enum scanned scan_refuse_bare(struct http_head *head)
{
    return scan_refuse(head, HTTP_FAILURE_SYNTAX, "bare CR or LF, or too many empty lines");
}

/* The first byte behind a line end. */
static enum scanned scan_line_start(struct http_head *head, char byte)
{
    if (byte == '\r') {
        head->scan = SCAN_LINE_START_CR;
        return SCANNED_MORE;
    }
    if (byte == ' ' || byte == '\t')
        return scan_refuse(head, HTTP_FAILURE_SYNTAX, "folded header line");
    if (byte == '\n')
        return scan_refuse_bare(head);
    head->scan = SCAN_TEXT;
    if (++head->header_lines > head->limits->header_max_count)
        return scan_refuse(head, HTTP_FAILURE_HEADER_COUNT, "too many headers");
    return SCANNED_MORE;
}

/* Moves the scan over one byte. */
static enum scanned scan_byte(struct http_head *head, char byte)
{
    switch (head->scan) {
    case SCAN_START:
    case SCAN_TEXT:
        if (byte == '\n')
            return scan_refuse_bare(head);
        if (byte == '\r')
            head->scan = head->scan == SCAN_START ? SCAN_START_CR : SCAN_CR;
        else
            head->scan = SCAN_TEXT;
        return SCANNED_MORE;
    case SCAN_START_CR:
        if (byte != '\n' || ++head->empty_lines > EMPTY_LINES_MAX)
            return scan_refuse_bare(head);
        head->scan = SCAN_START;
        return SCANNED_MORE;
    case SCAN_CR:
        if (byte != '\n')
            return scan_refuse_bare(head);
        head->scan = SCAN_LINE_START;
        return SCANNED_MORE;
    case SCAN_LINE_START:
        return scan_line_start(head, byte);
    default:
        return byte == '\n' ? SCANNED_END : scan_refuse_bare(head);
    }
}

/* ---- the request ---- */

static struct slice extent_slice(const struct http_head *head, struct http_head_extent extent)
{
    if (extent.length == 0)
        return SLICE_LITERAL("");
    return (struct slice){head->bytes.data + extent.start, extent.length};
}

/* Path and query out of the target: origin form, absolute form (http only) or "*" (RFC 9112 3.2). */
static const char *split_target(struct http_head *head)
{
    struct http_request *request = &head->request;
    struct slice rest = request->target;
    if (rest.length && rest.data[0] != '/' && !slice_equals_string(rest, "*")) {
        size_t scheme = slice_starts_ignoring_case(rest, "http://")    ? strlen("http://")
                        : slice_starts_ignoring_case(rest, "https://") ? strlen("https://")
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
        percent_decode(rest, false, &head->path);
        rest = text_slice(&head->path);
    }
    request->under_root = http_path_strip_root(&rest, head->limits->root_path);
    request->path = rest;
    return NULL;
}

/* Slices instead of offsets. */
static void set_headers(struct http_head *head)
{
    head->headers = memory_allocate((head->field_count + 1) * sizeof *head->headers);
    for (size_t i = 0; i < head->field_count; i++) {
        head->headers[i].name = extent_slice(head, head->fields[i].name);
        head->headers[i].value = slice_trim(extent_slice(head, head->fields[i].value), TEXT_BLANKS);
    }
    free(head->fields);
    head->fields = NULL;
    head->field_capacity = 0;
    head->request.headers = head->headers;
    head->request.header_count = head->field_count;
}

/* The head is whole and the parser accepted it. */
static enum http_head_event head_finish(struct http_head *head)
{
    struct http_request *request = &head->request;
    const char *line = head->bytes.data;
    while (*line == '\r' || *line == '\n')
        line++;
    request->method = slice_from_string(http_method_str((enum http_method)head->parser.method));
    request->target = extent_slice(head, head->target);
    request->version_minor = head->parser.http_minor;
    const char *wrong = http_framing_check_line(request, line);
    if (!wrong) {
        set_headers(head);
        wrong = split_target(head);
    }
    if (!wrong)
        wrong = http_framing_read(request, &head->framing);
    if (wrong)
        return head_fail(head, HTTP_FAILURE_SYNTAX, wrong);
    if (head->framing.has_length)
        head->framing.length = head->parser.content_length;
    /* As the reference: HTTP/1.0 is always answered with close, whatever it asks for. */
    request->keep_alive =
        request->version_minor >= 1 && !http_request_header_has(request, "connection", "close");
    return HTTP_HEAD_WHOLE;
}

enum http_head_event http_head_feed(struct http_head *head, const char *bytes, size_t length, size_t *used)
{
    size_t room = head->limits->header_max_bytes - head->bytes.length;
    size_t take = 0;
    enum scanned scanned = SCANNED_MORE;
    *used = 0;
    if (room == 0)
        return head_fail(head, HTTP_FAILURE_HEADER_BYTES, "head too long");
    while (take < length && take < room && scanned == SCANNED_MORE)
        scanned = scan_byte(head, bytes[take++]);
    *used = take;
    if (scanned == SCANNED_REFUSED)
        take--; /* what stands before the refused byte has its say first, however the stream was cut */

    /*
     * Offsets are relative to the buffer, which may move when it grows; the parser keeps no pointers between
     * calls.
     */
    size_t before = head->bytes.length;
    size_t parsed = 0;
    text_append(&head->bytes, bytes, take);
    if (take > 0)
        parsed = http_parser_execute(&head->parser, &head_settings, head->bytes.data + before, take);
    enum http_errno error = HTTP_PARSER_ERRNO(&head->parser);
    if (error != HPE_OK || (parsed != take && !head->parser.upgrade))
        return head_fail(head, HTTP_FAILURE_SYNTAX, http_errno_description(error));
    if (scanned == SCANNED_REFUSED)
        return HTTP_HEAD_FAILED;
    if ((scanned == SCANNED_END) != head->complete)
        return head_fail(head, HTTP_FAILURE_SYNTAX, head->complete ? "head ended early" : "unfinished head");
    if (scanned == SCANNED_END)
        return head_finish(head);
    return take < length ? head_fail(head, HTTP_FAILURE_HEADER_BYTES, "head too long") : HTTP_HEAD_MORE;
}
