#include "shm/common/python_text.h"

#include "worker/rpc/rpc_message.h"

void python_append_number(struct text *out, const struct json_document *document, uint32_t token)
{
    rpc_number_format(json_raw(document, token), document->tokens[token].size == 1, out);
}

static void append_string_token(struct text *out, const struct json_document *document, uint32_t token)
{
    struct text scratch = {0};
    text_append_python_string(out, json_string_view(document, token, &scratch));
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
