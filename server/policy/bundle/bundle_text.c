#include "server/policy/bundle/bundle_text.h"

#include <stdint.h>
#include <string.h>

#include "shm/common/utf8.h"

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

/* Length in bytes of the white space character (Python's \s, without the line ends) at the start of `text`,
 * or 0. */
static size_t space_length(struct slice text)
{
    uint32_t point;
    if (text.length == 0)
        return 0;
    size_t length = utf8_decode(text, &point);
    bool space = point == '\t' || point == ' ' || point == 0x1f || point == 0xa0 || point == 0x1680 ||
                 (point >= 0x2000 && point <= 0x200a) || point == 0x202f || point == 0x205f ||
                 point == 0x3000;
    return space ? length : 0;
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
