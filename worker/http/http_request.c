#include "worker/http/http_request.h"

#include <string.h>
#include <strings.h>

#include "worker/http/http_percent.h"

static bool equals_without_case(struct slice slice, const char *text)
{
    return slice.length == strlen(text) && strncasecmp(slice.data, text, slice.length) == 0;
}

struct slice http_request_header(const struct http_request *request, const char *name)
{
    for (size_t i = 0; i < request->header_count; i++)
        if (equals_without_case(request->headers[i].name, name))
            return request->headers[i].value;
    return (struct slice){0};
}

struct slice http_request_last_header(const struct http_request *request, const char *name)
{
    for (size_t i = request->header_count; i > 0; i--)
        if (equals_without_case(request->headers[i - 1].name, name))
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
        if (equals_without_case(item, token))
            return true;
        start = i + 1;
    }
    return false;
}

bool http_request_header_has(const struct http_request *request, const char *name, const char *token)
{
    for (size_t i = 0; i < request->header_count; i++)
        if (equals_without_case(request->headers[i].name, name) &&
            http_list_has(request->headers[i].value, token))
            return true;
    return false;
}

bool http_request_query(const struct http_request *request, const char *name, struct text *out)
{
    struct slice query = request->query;
    struct text key = {0};
    bool found = false;
    size_t start = 0;
    for (size_t i = 0; query.data && i <= query.length && !found; i++) {
        if (i < query.length && query.data[i] != '&')
            continue;
        struct slice pair = {query.data + start, i - start};
        const char *equals = pair.length ? memchr(pair.data, '=', pair.length) : NULL;
        size_t name_length = equals ? (size_t)(equals - pair.data) : pair.length;
        text_clear(&key);
        http_percent_decode((struct slice){pair.data, name_length}, true, &key);
        if (pair.length && slice_equals_string(text_slice(&key), name)) {
            if (equals)
                http_percent_decode((struct slice){equals + 1, pair.length - name_length - 1}, true, out);
            found = true;
        }
        start = i + 1;
    }
    text_free(&key);
    return found;
}

bool http_request_asks_websocket(const struct http_request *request)
{
    return equals_without_case(http_request_last_header(request, "upgrade"), "websocket") &&
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
