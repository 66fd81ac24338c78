#include "worker/python_text.h"

#include <string.h>

#include "worker/rpc_message.h"

/* A surrogate that stands alone, in its three bytes (WTF-8): Python can't print it and escapes it. */
static bool is_surrogate(struct slice value, size_t at)
{
    return value.length - at >= 3 && (unsigned char)value.data[at] == 0xed &&
           (unsigned char)value.data[at + 1] >= 0xa0;
}

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
        } else if (is_surrogate(value, i)) {
            unsigned middle = (unsigned char)value.data[i + 1], last = (unsigned char)value.data[i + 2];
            text_append_format(out, "\\u%04x", 0xd000u | (middle & 0x3f) << 6 | (last & 0x3f));
            i += 2;
        } else {
            text_append_char(out, c);
        }
    }
    text_append_char(out, quote);
}

void python_append_number(struct text *out, const struct json_document *document, uint32_t token)
{
    rpc_number_format(json_raw(document, token), document->tokens[token].size == 1, out);
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
