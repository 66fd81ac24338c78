#include "shm/common/python.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shm/common/utf8.h"

/* ---- strings ---- */

void python_append_string(struct text *out, struct slice value)
{
    bool single = value.length && memchr(value.data, '\'', value.length);
    bool plain_double = single && !memchr(value.data, '"', value.length);
    char quote = plain_double ? '"' : '\'';
    text_append_char(out, quote);
    for (size_t i = 0, used; i < value.length; i += used) {
        char c = value.data[i];
        uint32_t point;
        used = utf8_decode((struct slice){value.data + i, value.length - i}, &point);
        if (c == '\\' || c == quote) {
            text_append_char(out, '\\');
            text_append_char(out, c);
        } else if (c == '\n') {
            text_append_string(out, "\\n");
        } else if (c == '\r') {
            text_append_string(out, "\\r");
        } else if (c == '\t') {
            text_append_string(out, "\\t");
        } else if (point < 0x20 || point == 0x7f) {
            text_append_format(out, "\\x%02x", point);
        } else if (utf8_is_surrogate(point)) {
            text_append_format(out, "\\u%04x", point);
        } else {
            text_append(out, value.data + i, used);
        }
    }
    text_append_char(out, quote);
}

/* ---- numbers ---- */

/* The shortest digits that read back as the same double, as "d.ddde+xx". */
static void number_shortest(double value, char *out, size_t size)
{
    for (int precision = 0; precision < 17; precision++) {
        snprintf(out, size, "%.*e", precision, value);
        if (strtod(out, NULL) == value)
            return;
    }
}

void python_append_float(struct text *out, double value)
{
    if (isnan(value)) {
        text_append_string(out, "nan");
        return;
    }
    if (isinf(value)) {
        text_append_string(out, value < 0 ? "-inf" : "inf");
        return;
    }
    char shortest[40];
    number_shortest(value, shortest, sizeof(shortest));
    const char *mark = strchr(shortest, 'e');
    long exponent = strtol(mark + 1, NULL, 10);
    char digits[24] = {0};
    size_t count = 0;
    for (const char *at = shortest; at < mark; at++)
        if (*at >= '0' && *at <= '9' && count < sizeof(digits))
            digits[count++] = *at;
    if (signbit(value))
        text_append_char(out, '-');
    if (exponent < -4 || exponent >= 16) { /* Python's float_repr_style "short" */
        text_append_char(out, digits[0]);
        if (count > 1) {
            text_append_char(out, '.');
            text_append(out, digits + 1, count - 1);
        }
        text_append_format(out, "e%c%02ld", exponent < 0 ? '-' : '+', labs(exponent));
        return;
    }
    if (exponent < 0) {
        text_append_string(out, "0.");
        for (long i = -1; i > exponent; i--)
            text_append_char(out, '0');
        text_append(out, digits, count);
        return;
    }
    for (long i = 0; i <= exponent || (size_t)i < count; i++) {
        if (i == exponent + 1)
            text_append_char(out, '.');
        text_append_char(out, (size_t)i < count ? digits[i] : '0');
    }
    if (count <= (size_t)exponent + 1)
        text_append_string(out, ".0");
}

void python_append_number(struct text *out, struct slice number, bool integer)
{
    if (integer) {
        if (slice_equals_string(number, "-0"))
            number = SLICE_LITERAL("0");
        text_append_slice(out, number);
        return;
    }
    struct text copy = {0}; /* strtod wants a NUL */
    text_append_slice(&copy, number);
    double value;
    if (slice_equals_string(number, "NaN"))
        value = (double)NAN;
    else
        value = strtod(copy.data, NULL); /* knows "Infinity" */
    text_free(&copy);
    python_append_float(out, value);
}

/* ---- values of a JSON document ---- */

static void append_string_token(struct text *out, const struct json_document *document, uint32_t token)
{
    struct text scratch = {0};
    python_append_string(out, json_string_view(document, token, &scratch));
    text_free(&scratch);
}

void python_append_value(struct text *out, const struct json_document *document, uint32_t token, size_t limit)
{
    const struct json_token *found = &document->tokens[token];
    if (out->length > limit)
        return;
    switch ((enum json_type)found->type) {
    case JSON_NULL:
        text_append_string(out, "None");
        break;
    case JSON_FALSE:
        text_append_string(out, "False");
        break;
    case JSON_TRUE:
        text_append_string(out, "True");
        break;
    case JSON_NUMBER:
        python_append_number(out, json_raw(document, token), json_is_integer(document, token));
        break;
    case JSON_STRING:
        append_string_token(out, document, token);
        break;
    case JSON_ARRAY:
        text_append_char(out, '[');
        for (uint32_t item = token + 1; item < found->next && out->length <= limit;
             item = document->tokens[item].next) {
            if (item != token + 1)
                text_append_string(out, ", ");
            python_append_value(out, document, item, limit);
        }
        text_append_char(out, ']');
        break;
    case JSON_OBJECT:
        text_append_char(out, '{');
        for (uint32_t key = token + 1; key < found->next && out->length <= limit;
             key = document->tokens[key + 1].next) {
            if (key != token + 1)
                text_append_string(out, ", ");
            append_string_token(out, document, key);
            text_append_string(out, ": ");
            python_append_value(out, document, key + 1, limit);
        }
        text_append_char(out, '}');
        break;
    }
}

bool python_coerce_string(struct text *out, const struct json_document *document, uint32_t token)
{
    switch ((enum json_type)document->tokens[token].type) {
    case JSON_STRING:
        json_string_decode(document, token, out);
        return true;
    case JSON_NUMBER:
        python_append_number(out, json_raw(document, token), json_is_integer(document, token));
        return true;
    case JSON_TRUE:
        text_append_string(out, "True");
        return true;
    case JSON_FALSE:
        text_append_string(out, "False");
        return true;
    case JSON_NULL:
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    return false;
}
