#include "worker/net/proxy_header.h"

#include <string.h>

#define V1_MAX   107 /* with CR LF */
#define V2_START 16
#define V2_LOCAL 0x20
#define V2_PROXY 0x21
#define V2_TCP4  0x11
#define V2_TCP6  0x21
#define V2_CRC   0x03 /* the extension with the header's CRC32c */

static const uint8_t v2_signature[12] = {
    0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
static const char v1_signature[6] = {'P', 'R', 'O', 'X', 'Y', ' '};

static enum proxy_header_result wrong(struct proxy_header *header, const char *why)
{
    header->wrong = why;
    return PROXY_HEADER_WRONG;
}

/* ---- version 1: "PROXY TCP4 1.2.3.4 5.6.7.8 1111 80\r\n" ---- */

static struct slice next_word(struct slice *line)
{
    const char *space = line->length ? memchr(line->data, ' ', line->length) : NULL;
    struct slice word = *line;
    if (!space) {
        *line = (struct slice){line->data + line->length, 0};
        return word;
    }
    word.length = (size_t)(space - line->data);
    *line = (struct slice){space + 1, line->length - word.length - 1};
    return word;
}

static bool port_parse(struct slice word, uint16_t *port)
{
    uint64_t value;
    if ((word.length > 1 && word.data[0] == '0') || !slice_read_number(word, UINT16_MAX, &value))
        return false;
    *port = (uint16_t)value;
    return true;
}

/* An address of that family and nothing beside it. */
static bool address_parse(struct slice word, bool v6, struct network_address *address)
{
    size_t colons = 0;
    for (size_t i = 0; i < word.length; i++)
        colons += word.data[i] == ':';
    return (v6 ? colons >= 2 && word.data[0] != '[' : colons == 0) && network_address_parse(address, word);
}

static enum proxy_header_result v1_parse(struct slice line, struct proxy_header *header)
{
    struct network_address target;
    uint16_t port;
    line = (struct slice){line.data + sizeof v1_signature, line.length - sizeof v1_signature};
    struct slice family = next_word(&line);
    if (slice_equals_string(family, "UNKNOWN"))
        return PROXY_HEADER_DONE; /* what follows has to be ignored */
    bool v6 = slice_equals_string(family, "TCP6");
    if (!v6 && !slice_equals_string(family, "TCP4"))
        return wrong(header, "neither TCP4 nor TCP6 nor UNKNOWN");
    if (!address_parse(next_word(&line), v6, &header->source) ||
        !address_parse(next_word(&line), v6, &target))
        return wrong(header, "an address is malformed");
    struct slice source_port = next_word(&line);
    struct slice target_port = next_word(&line);
    if (!port_parse(source_port, &header->source.port) || !port_parse(target_port, &port))
        return wrong(header, "a port is malformed");
    if (target_port.data + target_port.length != line.data || line.length)
        return wrong(header, "more than two ports");
    header->has_source = true;
    return PROXY_HEADER_DONE;
}

static enum proxy_header_result v1(const uint8_t *bytes, size_t length, struct proxy_header *header)
{
    size_t seen = length < V1_MAX ? length : V1_MAX;
    const uint8_t *end = memchr(bytes, '\n', seen);
    if (!end)
        return seen == V1_MAX ? wrong(header, "no line end") : PROXY_HEADER_MORE;
    size_t line = (size_t)(end - bytes);
    if (bytes[line - 1] != '\r')
        return wrong(header, "no carriage return before the line end");
    header->length = line + 1;
    return v1_parse((struct slice){(const char *)bytes, line - 1}, header);
}

/* ---- version 2: signature, command, family, length, addresses, extensions ---- */

/* CRC-32C (Castagnoli), bit by bit: a header is short, and comes once a connection from a load balancer that
 * we trust. */
static uint32_t crc32c(uint32_t crc, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0x82f63b78u & (0u - (crc & 1u)));
    }
    return crc;
}

/* The CRC at `at` is that of the whole header with zeros in its place. */
static bool crc_holds(const uint8_t *header, size_t length, size_t at)
{
    static const uint8_t zeros[4];
    uint32_t told = (uint32_t)header[at] << 24 | (uint32_t)header[at + 1] << 16 |
                    (uint32_t)header[at + 2] << 8 | header[at + 3];
    uint32_t crc = crc32c(UINT32_MAX, header, at);
    crc = crc32c(crc, zeros, sizeof zeros);
    crc = crc32c(crc, header + at + sizeof zeros, length - at - sizeof zeros);
    return ~crc == told;
}

/* Type, length in two bytes, value, one after the other to the header's end; NULL or what is wrong. */
static const char *v2_check_extensions(const uint8_t *header, size_t length, size_t at)
{
    while (at < length) {
        size_t left = length - at;
        size_t size = left < 3 ? 0 : (size_t)header[at + 1] << 8 | header[at + 2];
        if (left < 3 || size > left - 3)
            return "an extension is malformed";
        if (header[at] == V2_CRC && (size != 4 || !crc_holds(header, length, at + 3)))
            return "its checksum is wrong";
        at += 3 + size;
    }
    return NULL;
}

/* How many bytes the addresses of a family take before the extensions; SIZE_MAX: not known. */
static size_t v2_address_bytes(uint8_t family)
{
    switch (family >> 4) {
    case 0:
        return 0;
    case 1:
        return 12;
    case 2:
        return 36;
    case 3:
        return 216;
    default:
        return SIZE_MAX;
    }
}

static enum proxy_header_result v2(const uint8_t *bytes, size_t length, struct proxy_header *header)
{
    if (length < V2_START)
        return PROXY_HEADER_MORE;
    size_t rest = (size_t)bytes[14] << 8 | bytes[15];
    const uint8_t *at = bytes + V2_START;
    if (bytes[12] != V2_LOCAL && bytes[12] != V2_PROXY)
        return wrong(header, "a version or command that is not known");
    if (V2_START + rest > PROXY_HEADER_MAX)
        return wrong(header, "too long");
    size_t need = bytes[13] == V2_TCP4 ? 12 : bytes[13] == V2_TCP6 ? 36 : 0;
    if (bytes[12] == V2_PROXY && rest < need)
        return wrong(header, "too short for its addresses");
    if (length < V2_START + rest)
        return PROXY_HEADER_MORE;
    header->length = V2_START + rest;
    if (bytes[12] == V2_LOCAL)
        return PROXY_HEADER_DONE; /* all that follows has to be ignored */
    size_t addresses = v2_address_bytes(bytes[13]);
    const char *bad =
        addresses > rest ? NULL : v2_check_extensions(bytes, header->length, V2_START + addresses);
    if (bad)
        return wrong(header, bad);
    if (need == 0)
        return PROXY_HEADER_DONE;
    if (need == 12)
        network_address_v4(&header->source, at);
    else
        memcpy(header->source.bytes, at, 16);
    at += need - 4;
    header->source.port = (uint16_t)(at[0] << 8 | at[1]);
    header->has_source = true;
    return PROXY_HEADER_DONE;
}

enum proxy_header_result proxy_header_parse(const uint8_t *bytes, size_t length, struct proxy_header *header)
{
    *header = (struct proxy_header){0};
    if (length == 0)
        return PROXY_HEADER_MORE;
    if (memcmp(bytes, v2_signature, length < sizeof v2_signature ? length : sizeof v2_signature) == 0)
        return v2(bytes, length, header);
    if (memcmp(bytes, v1_signature, length < sizeof v1_signature ? length : sizeof v1_signature) == 0)
        return length < sizeof v1_signature ? PROXY_HEADER_MORE : v1(bytes, length, header);
    return wrong(header, "no header");
}
