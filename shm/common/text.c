#include "shm/common/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "shm/common/memory.h"
#include "shm/common/utf8.h"

struct slice slice_from_string(const char *string)
{
    return (struct slice){string, string ? strlen(string) : 0};
}

bool slice_equals(struct slice a, struct slice b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

bool slice_equals_string(struct slice a, const char *string)
{
    return slice_equals(a, slice_from_string(string));
}

bool slice_starts_ignoring_case(struct slice slice, const char *prefix)
{
    size_t length = strlen(prefix);
    return slice.length >= length && strncasecmp(slice.data, prefix, length) == 0;
}

bool slice_equals_ignoring_case(struct slice a, const char *string)
{
    return a.length == strlen(string) && slice_starts_ignoring_case(a, string);
}

bool text_is_space(char byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static bool set_has(const char *set, char byte)
{
    return byte != '\0' && strchr(set, byte);
}

struct slice slice_trim(struct slice slice, const char *set)
{
    while (slice.length > 0 && set_has(set, slice.data[0])) {
        slice.data++;
        slice.length--;
    }
    while (slice.length > 0 && set_has(set, slice.data[slice.length - 1]))
        slice.length--;
    return slice;
}

bool slice_read_number(struct slice digits, uint64_t most, uint64_t *number)
{
    uint64_t value = 0, left = most;
    for (size_t i = 0; i < digits.length; i++, left /= 10) {
        if (i > 0 && left == 0)
            return false;
        if (digits.data[i] < '0' || digits.data[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(digits.data[i] - '0');
        if (digit > most || value > (most - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *number = value;
    return digits.length > 0;
}

void text_free(struct text *text)
{
    free(text->data);
    *text = (struct text){0};
}

void text_clear(struct text *text)
{
    text->length = 0;
    if (text->data)
        text->data[0] = '\0';
}

char *text_reserve(struct text *text, size_t more)
{
    size_t needed = text->length + more + 1;
    if (needed > text->capacity) {
        size_t capacity = text->capacity ? text->capacity : 64;
        while (capacity < needed)
            capacity *= 2;
        text->data = memory_resize(text->data, capacity);
        text->capacity = capacity;
    }
    return text->data + text->length;
}

void text_append(struct text *text, const void *bytes, size_t length)
{
    char *where = text_reserve(text, length);
    if (length)
        memcpy(where, bytes, length);
    text->length += length;
    text->data[text->length] = '\0';
}

void text_append_slice(struct text *text, struct slice slice)
{
    text_append(text, slice.data, slice.length);
}

void text_append_string(struct text *text, const char *string)
{
    text_append(text, string, strlen(string));
}

void text_append_char(struct text *text, char byte)
{
    text_append(text, &byte, 1);
}

void text_append_format(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0)
        return;
    char *where = text_reserve(text, (size_t)length);
    va_start(args, format);
    vsnprintf(where, (size_t)length + 1, format, args);
    va_end(args);
    text->length += (size_t)length;
}

struct slice text_slice(const struct text *text)
{
    return (struct slice){text->data ? text->data : "", text->length};
}

static const char *json_short_escape(uint32_t point)
{
    switch (point) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    case '\b':
        return "\\b";
    case '\f':
        return "\\f";
    default:
        return NULL;
    }
}

void text_append_json_escape(struct text *text, uint32_t point)
{
    if (point > 0xffff)
        text_append_format(
            text, "\\u%04x\\u%04x", 0xd800 + ((point - 0x10000) >> 10), 0xdc00 + ((point - 0x10000) & 0x3ff));
    else
        text_append_format(text, "\\u%04x", point);
}

static void text_append_json(struct text *text, struct slice value, bool ascii)
{
    size_t plain = 0; /* start of the run that needs no escaping */
    size_t i = 0;
    text_append_char(text, '"');
    while (i < value.length) {
        uint32_t point = (uint8_t)value.data[i];
        size_t used = 1;
        if (point >= 0x80)
            used = utf8_decode((struct slice){value.data + i, value.length - i}, &point);
        const char *escape = json_short_escape(point);
        bool needs_hex = point < 0x20 || (ascii && point > 0x7e);
        if (!escape && !needs_hex && point != UTF8_ILL_FORMED) {
            i += used;
            continue;
        }
        text_append(text, value.data + plain, i - plain);
        if (escape)
            text_append_string(text, escape);
        else if (point != UTF8_ILL_FORMED)
            text_append_json_escape(text, point);
        else
            text_append_string(text, ascii ? "\\ufffd" : UTF8_REPLACEMENT);
        i += used;
        plain = i;
    }
    text_append(text, value.data + plain, i - plain);
    text_append_char(text, '"');
}

void text_append_json_ascii(struct text *text, struct slice value)
{
    text_append_json(text, value, true);
}

void text_append_json_utf8(struct text *text, struct slice value)
{
    text_append_json(text, value, false);
}

void text_append_repaired(struct text *text, struct slice value)
{
    size_t plain = 0; /* start of what is not copied yet */
    for (size_t at = 0, used; at < value.length; at += used) {
        uint32_t point;
        used = utf8_decode((struct slice){value.data + at, value.length - at}, &point);
        if (point != UTF8_ILL_FORMED && !utf8_is_surrogate(point))
            continue;
        if (point != UTF8_ILL_FORMED)
            used = 1; /* and its other two bytes are ill-formed each for itself */
        text_append(text, value.data + plain, at - plain);
        text_append_string(text, UTF8_REPLACEMENT);
        plain = at + used;
    }
    text_append(text, value.data + plain, value.length - plain);
}

int text_hex_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return -1;
}
