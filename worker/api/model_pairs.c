#include "worker/api/model_pairs.h"

#include <stdlib.h>

#include "shm/common/memory.h"
#include "shm/common/python.h"
#include "shm/common/utf8.h"

struct model_rewritten {
    struct model_rewritten *next;
    struct text text;
    struct json_document document;
};

void model_run_free(struct model_run *run)
{
    while (run->rewritten) {
        struct model_rewritten *gone = run->rewritten;
        run->rewritten = gone->next;
        json_free(&gone->document);
        text_free(&gone->text);
        free(gone);
    }
    validation_free(&run->validation);
}

/* A key as json.dumps writes one that is no string; false for what Python can't hash. */
static bool append_key(struct text *out, const struct json_document *document, uint32_t token, bool *other)
{
    struct text scratch = {0};
    switch ((enum json_type)document->tokens[token].type) {
    case JSON_STRING:
        text_append_slice(out, json_raw(document, token));
        return true;
    case JSON_NULL:
        text_append_string(out, "\"null\"");
        break;
    case JSON_FALSE:
        text_append_string(out, "\"false\"");
        break;
    case JSON_TRUE:
        text_append_string(out, "\"true\"");
        break;
    case JSON_NUMBER:
        python_append_number(&scratch, json_raw(document, token), json_is_integer(document, token));
        text_append_json_ascii(out, text_slice(&scratch));
        text_free(&scratch);
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        return false;
    }
    *other = true;
    return true;
}

/* Bytes of the first code point. */
static size_t code_point_length(struct slice string)
{
    uint32_t point;
    return utf8_decode(string, &point);
}

/* "ab" is the pair a, b. */
static bool append_string_pair(struct text *out, const struct json_document *document, uint32_t token)
{
    struct text scratch = {0};
    struct slice string = json_string_view(document, token, &scratch);
    size_t first = string.length ? code_point_length(string) : 0;
    struct slice rest = {string.data + first, string.length - first};
    bool pair = rest.length > 0 && code_point_length(rest) == rest.length;
    if (pair) {
        text_append_json_ascii(out, (struct slice){string.data, first});
        text_append_string(out, ": ");
        text_append_json_ascii(out, rest);
    }
    text_free(&scratch);
    return pair;
}

/*
 * An element of what dict() iterates over: a pair as [key, value], as a string of two characters, or as the
 * two keys of an object.
 */
static bool append_pair(struct text *out, const struct json_document *document, uint32_t token, bool *other)
{
    const struct json_token *found = &document->tokens[token];
    if (found->type == JSON_STRING)
        return append_string_pair(out, document, token);
    if ((found->type != JSON_ARRAY && found->type != JSON_OBJECT) || found->size != 2)
        return false;
    uint32_t key = token + 1;
    uint32_t value = found->type == JSON_ARRAY ? document->tokens[key].next : document->tokens[key + 1].next;
    if (!append_key(out, document, key, other))
        return false;
    text_append_string(out, ": ");
    text_append_slice(out, json_raw(document, value));
    return true;
}

enum model_pairs model_pairs_as_object(
    struct model_run *run, struct model_value value, struct model_value *object)
{
    const struct json_token *found = &value.document->tokens[value.token];
    bool empty_string = found->type == JSON_STRING && found->end - found->start == 2;
    *object = value;
    if (found->type == JSON_OBJECT)
        return MODEL_PAIRS_OBJECT;
    if (found->type != JSON_ARRAY && !empty_string)
        return MODEL_PAIRS_NOT_A_DICT;

    struct text text = {0};
    bool other = false;
    text_append_char(&text, '{');
    for (uint32_t item = value.token + 1; found->type == JSON_ARRAY && item < found->next;
         item = value.document->tokens[item].next) {
        if (item != value.token + 1)
            text_append_string(&text, ", ");
        if (!append_pair(&text, value.document, item, &other)) {
            text_free(&text);
            return MODEL_PAIRS_NOT_A_DICT;
        }
    }
    text_append_char(&text, '}');

    struct model_rewritten *rewritten = memory_allocate(sizeof *rewritten);
    rewritten->text = text;
    rewritten->next = run->rewritten;
    run->rewritten = rewritten;
    if (json_parse(&rewritten->document, text.data, text.length, run->max_depth, run->max_tokens) != JSON_OK)
        /* can't be: it is made of checked pieces and no deeper than they were */
        return MODEL_PAIRS_NOT_A_DICT;
    *object = (struct model_value){&rewritten->document, 0};
    return other ? MODEL_PAIRS_OTHER_KEYS : MODEL_PAIRS_OBJECT;
}
