#include "server/policy/bundle/bundle_text.h"

#include <stdint.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd"

/* Length in bytes of the line end at the start of `text`, or 0. */
static size_t line_end_length(struct slice text)
{
    const unsigned char *bytes = (const unsigned char *)text.data;
    unsigned char first = bytes[0];
    if (first == '\r')
        return text.length > 1 && bytes[1] == '\n' ? 2 : 1;
    if ((first >= 0x0a && first <= 0x0c) || (first >= 0x1c && first <= 0x1e))
        return 1;
    if (first == 0xc2 && text.length > 1 && bytes[1] == 0x85)
        return 2;
    if (first == 0xe2 && text.length > 2 && bytes[1] == 0x80 && (bytes[2] == 0xa8 || bytes[2] == 0xa9))
        return 3;
    return 0;
}

bool bundle_text_line(struct slice *rest, struct slice *line)
{
    if (rest->length == 0)
        return false;
    for (size_t at = 0; at < rest->length; at++) {
        size_t end = line_end_length((struct slice){rest->data + at, rest->length - at});
        if (end == 0)
            continue;
        *line = (struct slice){rest->data, at};
        *rest = (struct slice){rest->data + at + end, rest->length - at - end};
        return true;
    }
    *line = *rest;
    *rest = (struct slice){rest->data + rest->length, 0};
    return true;
}

/* Length in bytes of the white space character (Python's \s, without the line ends) at the start of `text`, or 0. */
static size_t space_length(struct slice text)
{
    const unsigned char *bytes = (const unsigned char *)text.data;
    if (text.length == 0)
        return 0;
    if (bytes[0] == '\t' || bytes[0] == ' ' || bytes[0] == 0x1f)
        return 1;
    if (text.length > 1 && bytes[0] == 0xc2 && bytes[1] == 0xa0)
        return 2;
    if (text.length < 3)
        return 0;
    unsigned point = (bytes[0] & 0x0fu) << 12 | (bytes[1] & 0x3fu) << 6 | (bytes[2] & 0x3fu);
    if ((bytes[0] & 0xf0) != 0xe0 || (bytes[1] & 0xc0) != 0x80 || (bytes[2] & 0xc0) != 0x80)
        return 0;
    bool space = point == 0x1680 || (point >= 0x2000 && point <= 0x200a) || point == 0x202f ||
                 point == 0x205f || point == 0x3000;
    return space ? 3 : 0;
}

static bool in_package_name(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
           byte == '.' || byte == '"' || byte == '[' || byte == ']';
}

static struct slice package_of_line(struct slice line)
{
    static const char word[] = "package";
    const size_t length = sizeof word - 1;
    if (line.length <= length || memcmp(line.data, word, length) != 0)
        return SLICE_LITERAL("");
    struct slice rest = {line.data + length, line.length - length};
    size_t space, spaces = 0;
    while ((space = space_length(rest)) > 0) {
        rest = (struct slice){rest.data + space, rest.length - space};
        spaces++;
    }
    for (size_t i = 0; i < rest.length; i++)
        if (!in_package_name(rest.data[i]))
            return SLICE_LITERAL("");
    return spaces > 0 ? rest : SLICE_LITERAL("");
}

struct slice bundle_text_package(struct slice text)
{
    struct slice line;
    while (bundle_text_line(&text, &line)) {
        struct slice name = package_of_line(line);
        if (name.length > 0)
            return name;
    }
    return SLICE_LITERAL("");
}

/* Length of the well-formed sequence at `bytes` (Unicode 15, table 3-7); 0 when it is ill-formed, and then `*bad` is the length of what is
 * replaced as one. */
static size_t sequence_length(const unsigned char *bytes, size_t length, size_t *bad)
{
    unsigned char lead = bytes[0], low = 0x80, high = 0xbf;
    size_t need;
    *bad = 1;
    if (lead < 0x80)
        return 1;
    if (lead >= 0xc2 && lead <= 0xdf)
        need = 2;
    else if (lead >= 0xe0 && lead <= 0xef)
        need = 3;
    else if (lead >= 0xf0 && lead <= 0xf4)
        need = 4;
    else
        return 0;
    if (lead == 0xe0)
        low = 0xa0;
    else if (lead == 0xed)
        high = 0x9f;
    else if (lead == 0xf0)
        low = 0x90;
    else if (lead == 0xf4)
        high = 0x8f;
    for (size_t i = 1; i < need; i++) {
        if (i >= length || bytes[i] < low || bytes[i] > high)
            return 0;
        low = 0x80;
        high = 0xbf;
        *bad = i + 1;
    }
    return need;
}

bool bundle_text_is_utf8(struct slice text)
{
    const unsigned char *bytes = (const unsigned char *)text.data;
    size_t at = 0;
    while (at < text.length) {
        size_t bad;
        uint64_t eight;
        if (text.length - at >= sizeof eight) { /* most text is ASCII: eight characters at a time */
            memcpy(&eight, bytes + at, sizeof eight);
            if ((eight & UINT64_C(0x8080808080808080)) == 0) {
                at += sizeof eight;
                continue;
            }
        }
        size_t length = sequence_length(bytes + at, text.length - at, &bad);
        if (length == 0)
            return false;
        at += length;
    }
    return true;
}

void bundle_text_repair(struct slice text, struct text *out)
{
    const unsigned char *bytes = (const unsigned char *)text.data;
    size_t at = 0, plain = 0;
    while (at < text.length) {
        size_t bad;
        size_t length = sequence_length(bytes + at, text.length - at, &bad);
        if (length > 0) {
            at += length;
            continue;
        }
        text_append(out, text.data + plain, at - plain);
        text_append_string(out, REPLACEMENT);
        at += bad;
        plain = at;
    }
    text_append(out, text.data + plain, at - plain);
}
