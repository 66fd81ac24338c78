#include "worker/http/forwarded.h"

#include <string.h>

static bool is_list(const struct http_header *header)
{
    return slice_equals_ignoring_case(header->name, "x-forwarded-for");
}

/* Takes the last item off the list; false when that was all of it. */
static bool cut_last(struct slice *list, struct slice *item)
{
    const char *comma = list->length ? memrchr(list->data, ',', list->length) : NULL;
    if (!comma) {
        *item = slice_trim(*list, TEXT_BLANKS);
        return false;
    }
    size_t before = (size_t)(comma - list->data);
    *item = slice_trim((struct slice){comma + 1, list->length - before - 1}, TEXT_BLANKS);
    list->length = before;
    return true;
}

static size_t count_items(struct slice list)
{
    size_t count = 1;
    for (size_t i = 0; i < list.length; i++)
        count += list.data[i] == ',';
    return count;
}

/* Digits alone. A number that is no port is 0: not known. */
static bool parse_port(struct slice text, uint16_t *port)
{
    unsigned value = 0;
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        if (value <= UINT16_MAX)
            value = value * 10 + (unsigned)(text.data[i] - '0');
    }
    *port = value <= UINT16_MAX ? (uint16_t)value : 0;
    return text.length > 0;
}

/*
 * Address, address:port, [address]:port. Anything else is a host as a whole, so that no trust comes from
 * guessing.
 */
static struct slice split_port(struct slice item, uint16_t *port)
{
    const char *end = item.data + item.length;
    *port = 0;
    if (item.length && item.data[0] == '[') {
        const char *bracket = memchr(item.data, ']', item.length);
        if (!bracket || (bracket + 1 < end && bracket[1] != ':'))
            return item;
        if (bracket + 1 < end && !parse_port((struct slice){bracket + 2, (size_t)(end - bracket - 2)}, port))
            *port = 0;
        return (struct slice){item.data + 1, (size_t)(bracket - item.data) - 1};
    }
    const char *colon = item.length ? memchr(item.data, ':', item.length) : NULL;
    if (!colon || memchr(colon + 1, ':', (size_t)(end - colon) - 1))
        return item;
    if (!parse_port((struct slice){colon + 1, (size_t)(end - colon) - 1}, port)) {
        *port = 0;
        return item;
    }
    return (struct slice){item.data, (size_t)(colon - item.data)};
}

static bool is_trusted(const struct network_list *trusted, struct slice host)
{
    struct network_address address;
    return network_address_parse(&address, host) && network_list_has(trusted, &address);
}

/* It goes into lines of the log, which must stay readable: nothing in it may look like the rest of a line. */
static bool is_harmless(struct slice host)
{
    static const char others[] = ".:_-[]%";
    for (size_t i = 0; i < host.length; i++) {
        char c = host.data[i];
        bool alphanumeric = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        if (!alphanumeric && (c == '\0' || !strchr(others, c)))
            return false;
    }
    return true;
}

/* The place in the lists that names the client: the last untrusted one, else the first. */
static struct slice pick_item(const struct http_request *request, const struct network_list *trusted)
{
    struct slice item = {0};
    uint16_t port;
    for (size_t i = request->header_count; i-- > 0;) {
        if (!is_list(&request->headers[i]))
            continue;
        struct slice rest = request->headers[i].value;
        bool more = true;
        while (more) {
            more = cut_last(&rest, &item);
            if (!trusted->any && !is_trusted(trusted, split_port(item, &port)))
                return item;
        }
    }
    return item;
}

enum forwarded_result forwarded_find_client(const struct http_request *request,
    const struct network_list *trusted, size_t most, struct forwarded_client *client, const char **wrong)
{
    size_t count = 0;
    for (size_t i = 0; i < request->header_count; i++)
        if (is_list(&request->headers[i]))
            count += count_items(request->headers[i].value);
    if (count == 0)
        return FORWARDED_NONE;
    *wrong = "more addresses than OPAL_FORWARDED_MAX_ADDRESSES";
    if (count > most)
        return FORWARDED_REFUSED;
    struct slice host = split_port(pick_item(request, trusted), &client->port);
    if (host.length == 0)
        return FORWARDED_NONE;
    *wrong = "the address is too long";
    if (host.length >= sizeof client->host)
        return FORWARDED_REFUSED;
    *wrong = "the address has characters that no address has";
    if (!is_harmless(host))
        return FORWARDED_REFUSED;
    memcpy(client->host, host.data, host.length);
    client->host[host.length] = '\0';
    return FORWARDED_TAKEN;
}

const char *forwarded_find_scheme(const struct http_request *request)
{
    static const char *const schemes[] = {"http", "https", "ws", "wss"};
    struct slice value = slice_trim(http_request_last_header(request, "x-forwarded-proto"), TEXT_BLANKS);
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        if (slice_equals_string(value, schemes[i]))
            return schemes[i];
    return NULL;
}
