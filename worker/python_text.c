#include "worker/python_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void python_append_string(struct text *out, struct slice value)
{
    bool single = value.length && memchr(value.data, '\'', value.length);
    bool plain_double = single && !memchr(value.data, '"', value.length);
    char quote = plain_double ? '"' : '\'';
    text_append_char(out, quote);
    for (size_t i = 0; i < value.length; i++) {
        char c = value.data[i];
        if (c == '\\' || c == quote) {
            text_append_char(out, '\\');
            text_append_char(out, c);
        } else if (c == '\n') {
            text_append_string(out, "\\n");
        } else if (c == '\r') {
            text_append_string(out, "\\r");
        } else if (c == '\t') {
            text_append_string(out, "\\t");
        } else if ((unsigned char)c < 0x20 || c == 0x7f) {
            text_append_format(out, "\\x%02x", (unsigned)(unsigned char)c);
        } else {
            text_append_char(out, c);
        }
    }
    text_append_char(out, quote);
}

/* The shortest digits that read back as the same double, laid out as float.__repr__ does: an exponent below 1e-4 and from 1e16. */
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
    char scientific[40];
    for (int precision = 0; precision < 17; precision++) {
        snprintf(scientific, sizeof scientific, "%.*e", precision, value);
        if (strtod(scientific, NULL) == value)
            break;
    }
    char *mark = strchr(scientific, 'e');
    int exponent = atoi(mark + 1);
    *mark = '\0';
    const char *digits = scientific;
    if (*digits == '-') {
        text_append_char(out, '-');
        digits++;
    }
    char plain[24];
    int count = 0;
    for (const char *c = digits; *c; c++)
        if (*c != '.')
            plain[count++] = *c;
    plain[count] = '\0';

    if (exponent < -4 || exponent >= 16) {
        text_append_char(out, plain[0]);
        if (count > 1)
            text_append_format(out, ".%s", plain + 1);
        text_append_format(out, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    } else if (exponent < 0) {
        text_append_string(out, "0.");
        for (int i = -1; i > exponent; i--)
            text_append_char(out, '0');
        text_append_string(out, plain);
    } else {
        for (int i = 0; i <= exponent || i < count; i++) {
            if (i == exponent + 1)
                text_append_char(out, '.');
            text_append_char(out, i < count ? plain[i] : '0');
        }
        if (count <= exponent + 1)
            text_append_string(out, ".0");
    }
}

void python_append_number(struct text *out, const struct json_document *document, uint32_t token)
{
    struct slice raw = json_raw(document, token);
    if (document->tokens[token].size == 1) { /* an integer */
        if (slice_equals_string(raw, "-0"))
            raw = SLICE_LITERAL("0");
        text_append_slice(out, raw);
        return;
    }
    char *copy = strndup(raw.data, raw.length); /* strtod reads NaN and Infinity too */
    python_append_float(out, copy ? strtod(copy, NULL) : 0);
    free(copy);
}

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
        python_append_number(out, document, token);
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
