#include "shm/common/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include "shm/common/memory.h"

struct network {
    uint8_t bytes[16];
    unsigned bits;
};

static const uint8_t mapped_v4[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

void network_address_v4(struct network_address *address, const uint8_t bytes[4])
{
    memcpy(address->bytes, mapped_v4, sizeof mapped_v4);
    memcpy(address->bytes + sizeof mapped_v4, bytes, 4);
}

static bool is_v4(const uint8_t bytes[16])
{
    return memcmp(bytes, mapped_v4, sizeof mapped_v4) == 0;
}

bool network_address_from_socket(struct network_address *address, const struct sockaddr_storage *socket)
{
    *address = (struct network_address){0};
    if (socket->ss_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, socket, sizeof v4);
        network_address_v4(address, (const uint8_t *)&v4.sin_addr);
        address->port = ntohs(v4.sin_port);
        return true;
    }
    if (socket->ss_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, socket, sizeof v6);
        memcpy(address->bytes, &v6.sin6_addr, sizeof address->bytes);
        address->port = ntohs(v6.sin6_port);
        return true;
    }
    return false;
}

static bool parse_plain(uint8_t bytes[16], struct slice text)
{
    char copy[NETWORK_ADDRESS_TEXT];
    struct network_address v4;
    if (text.length == 0 || text.length >= sizeof copy)
        return false;
    memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    if (strlen(copy) != text.length)
        return false;
    if (strchr(copy, ':'))
        return inet_pton(AF_INET6, copy, bytes) == 1;
    uint8_t four[4];
    if (inet_pton(AF_INET, copy, four) != 1)
        return false;
    network_address_v4(&v4, four);
    memcpy(bytes, v4.bytes, sizeof v4.bytes);
    return true;
}

bool network_address_parse(struct network_address *address, struct slice text)
{
    struct slice host = text;
    struct slice port = {0};
    uint64_t number = 0;
    const char *first = text.length ? memchr(text.data, ':', text.length) : NULL;
    *address = (struct network_address){0};
    if (text.length && text.data[0] == '[') {
        const char *end = memchr(text.data, ']', text.length);
        if (!end)
            return false;
        host = (struct slice){text.data + 1, (size_t)(end - text.data) - 1};
        port = (struct slice){end + 1, (size_t)(text.data + text.length - end) - 1};
        if (!memchr(host.data, ':', host.length))
            return false;
    } else if (first && !memchr(first + 1, ':', (size_t)(text.data + text.length - first) - 1)) {
        host.length = (size_t)(first - text.data);
        port = (struct slice){first, text.length - host.length};
    }
    if (port.length &&
        (port.data[0] != ':' ||
            !slice_read_number((struct slice){port.data + 1, port.length - 1}, 65535, &number)))
        return false;
    if (!parse_plain(address->bytes, host)) {
        *address = (struct network_address){0};
        return false;
    }
    address->port = (uint16_t)number;
    return true;
}

void network_address_format(const struct network_address *address, char out[NETWORK_ADDRESS_TEXT])
{
    if (is_v4(address->bytes))
        inet_ntop(AF_INET, address->bytes + sizeof mapped_v4, out, NETWORK_ADDRESS_TEXT);
    else
        inet_ntop(AF_INET6, address->bytes, out, NETWORK_ADDRESS_TEXT);
}

/* ---- networks ---- */

static bool network_parse(struct network *network, struct slice text)
{
    struct slice host = text;
    const char *slash = memchr(text.data, '/', text.length);
    if (slash)
        host.length = (size_t)(slash - text.data);
    if (!parse_plain(network->bytes, host))
        return false;
    bool v4 = !memchr(host.data, ':', host.length);
    uint64_t most = v4 ? 32 : 128, bits = most;
    if (slash && !slice_read_number((struct slice){slash + 1, text.length - host.length - 1}, most, &bits))
        return false;
    network->bits = (unsigned)bits + (v4 ? 96 : 0);
    return true;
}

int network_list_parse(struct network_list *list, char *const *items, size_t count, struct error *err)
{
    *list = (struct network_list){0};
    if (count > 0)
        list->items = memory_allocate(count * sizeof *list->items);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(items[i], "*") == 0) {
            list->any = true;
            continue;
        }
        if (!network_parse(&list->items[list->count], slice_from_string(items[i]))) {
            network_list_free(list);
            return error_set(err, EINVAL,
                "'%s' is no address and no network; like 10.1.2.3, 10.0.0.0/8 or fd00::/8", items[i]);
        }
        list->count++;
    }
    return 0;
}

static bool network_has(const struct network *network, const uint8_t bytes[16])
{
    unsigned whole = network->bits / 8, rest = network->bits % 8;
    if (memcmp(network->bytes, bytes, whole) != 0)
        return false;
    return rest == 0 || ((network->bytes[whole] ^ bytes[whole]) >> (8 - rest)) == 0;
}

bool network_list_has(const struct network_list *list, const struct network_address *address)
{
    static const uint8_t unknown[16];
    if (list->any)
        return true;
    if (memcmp(address->bytes, unknown, sizeof unknown) == 0)
        return false;
    for (size_t i = 0; i < list->count; i++)
        if (network_has(&list->items[i], address->bytes))
            return true;
    return false;
}

void network_list_free(struct network_list *list)
{
    free(list->items);
    *list = (struct network_list){0};
}
