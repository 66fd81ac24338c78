#include "worker/http/http_request.h"

#include <string.h>

#include "shm/common/percent.h"

struct slice http_request_header(const struct http_request *request, const char *name)
{
    for (size_t i = 0; i < request->header_count; i++)
        if (slice_equals_ignoring_case(request->headers[i].name, name))
            return request->headers[i].value;
    return (struct slice){0};
}

struct slice http_request_last_header(const struct http_request *request, const char *name)
{
    for (size_t i = request->header_count; i > 0; i--)
        if (slice_equals_ignoring_case(request->headers[i - 1].name, name))
            return request->headers[i - 1].value;
    return (struct slice){0};
}

bool http_list_has(struct slice list, const char *token)
{
    size_t start = 0;
    for (size_t i = 0; list.data && i <= list.length; i++) {
        if (i < list.length && list.data[i] != ',')
            continue;
        struct slice item = {list.data + start, i - start};
        while (item.length && (item.data[0] == ' ' || item.data[0] == '\t')) {
            item.data++;
            item.length--;
        }
        while (item.length && (item.data[item.length - 1] == ' ' || item.data[item.length - 1] == '\t'))
            item.length--;
        if (slice_equals_ignoring_case(item, token))
            return true;
        start = i + 1;
    }
    return false;
}

bool http_request_header_has(const struct http_request *request, const char *name, const char *token)
{
    for (size_t i = 0; i < request->header_count; i++)
        if (slice_equals_ignoring_case(request->headers[i].name, name) &&
            http_list_has(request->headers[i].value, token))
            return true;
    return false;
}

bool http_request_query(const struct http_request *request, const char *name, struct text *out)
{
    struct slice query = request->query;
    struct text key = {0}, value = {0};
    bool found = false;
    while (!found && percent_next_pair(&query, true, &key, &value))
        found = slice_equals_string(text_slice(&key), name);
    if (found)
        text_append_slice(out, text_slice(&value));
    text_free(&key);
    text_free(&value);
    return found;
}

bool http_request_asks_websocket(const struct http_request *request)
{
    return slice_equals_ignoring_case(http_request_last_header(request, "upgrade"), "websocket") &&
           http_list_has(http_request_last_header(request, "connection"), "upgrade");
}

bool http_path_strip_root(struct slice *path, const char *root)
{
    size_t length = root ? strlen(root) : 0;
    if (length == 0 || path->length < length || memcmp(path->data, root, length) != 0)
        return false;
    if (path->length > length && path->data[length] != '/')
        return false;
    *path = path->length == length ? SLICE_LITERAL("/")
                                   : (struct slice){path->data + length, path->length - length};
    return true;
}
