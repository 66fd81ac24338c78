#include "worker/api/model.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/python.h"
#include "worker/api/model_pairs.h"
#include "worker/rpc/rpc_message.h"

enum json_type model_type(struct model_value value)
{
    return (enum json_type)value.document->tokens[value.token].type;
}

static const struct json_token *token_of(struct model_value value)
{
    return &value.document->tokens[value.token];
}

const char *model_separator(const struct model_run *run)
{
    return run->style == MODEL_PYTHON ? ", " : ",";
}

static const char *colon(const struct model_run *run)
{
    return run->style == MODEL_PYTHON ? ": " : ":";
}

void model_write_string(const struct model_run *run, struct slice string, struct text *out)
{
    if (run->style == MODEL_PYTHON)
        text_append_json_ascii(out, string);
    else
        text_append_json_utf8(out, string);
}

bool model_refuse_null(struct model_run *run)
{
    return validation_error(
        &run->validation, "none is not an allowed value", "type_error.none.not_allowed", NULL);
}

/* ---- scalars ---- */

bool model_read_string(struct model_run *run, struct model_value value, struct text *out)
{
    text_clear(out);
    if (python_coerce_string(out, value.document, value.token))
        return true;
    if (model_type(value) == JSON_NULL)
        return model_refuse_null(run);
    return validation_error(&run->validation, "str type expected", "type_error.str", NULL);
}

bool model_convert_string(
    struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    (void)argument;
    struct text string = {0};
    bool fits = model_read_string(run, value, &string);
    if (fits)
        model_write_string(run, text_slice(&string), out);
    text_free(&string);
    return fits;
}

static double number_value(struct model_value value)
{
    struct slice raw = json_raw(value.document, value.token);
    char *copy = strndup(raw.data, raw.length);
    double number = copy ? strtod(copy, NULL) : 0;
    free(copy);
    return number;
}

static bool equals_any(struct slice string, const char *const *words)
{
    for (; *words; words++)
        if (slice_equals_ignoring_case(string, *words))
            return true;
    return false;
}

bool model_convert_boolean(
    struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    static const char *const yes[] = {"1", "on", "t", "true", "y", "yes", NULL};
    static const char *const no[] = {"0", "off", "f", "false", "n", "no", NULL};
    (void)argument;
    int found = -1;
    if (model_type(value) == JSON_NULL)
        return model_refuse_null(run);
    if (model_type(value) == JSON_TRUE || model_type(value) == JSON_FALSE) {
        found = model_type(value) == JSON_TRUE;
    } else if (model_type(value) == JSON_NUMBER) {
        double number = number_value(value);
        found = number == 1.0 ? 1 : number == 0.0 ? 0 : -1;
    } else if (model_type(value) == JSON_STRING) {
        struct text scratch = {0};
        struct slice string = json_string_view(value.document, value.token, &scratch);
        found = equals_any(string, yes) ? 1 : equals_any(string, no) ? 0 : -1;
        text_free(&scratch);
    }
    if (found < 0)
        return validation_error(
            &run->validation, "value could not be parsed to a boolean", "type_error.bool", NULL);
    text_append_string(out, found ? "true" : "false");
    return true;
}

/* strtod takes hexadecimal, Python's float() does not. */
static bool is_float_text(const struct text *string)
{
    char *end = NULL;
    if (string->length == 0 || strpbrk(string->data, "xX"))
        return false;
    strtod(string->data, &end);
    return end == string->data + string->length;
}

bool model_convert_float(
    struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    (void)argument;
    enum json_type type = model_type(value);
    if (type == JSON_NULL)
        return model_refuse_null(run);
    if (type == JSON_TRUE || type == JSON_FALSE) {
        text_append_string(out, type == JSON_TRUE ? "1.0" : "0.0");
        return true;
    }
    struct text string = {0};
    if (type == JSON_NUMBER)
        text_append_slice(&string, json_raw(value.document, value.token));
    else if (type == JSON_STRING)
        json_string_decode(value.document, value.token, &string);
    bool fits = type == JSON_NUMBER || is_float_text(&string);
    if (fits)
        python_append_number(out, text_slice(&string), false);
    text_free(&string);
    return fits || validation_error(&run->validation, "value is not a valid float", "type_error.float", NULL);
}

bool model_convert_choice(
    struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    const struct model_choice *choice = argument;
    if (model_type(value) == JSON_NULL)
        return model_refuse_null(run);
    for (const char *const *word = choice->values; *word && model_type(value) == JSON_STRING; word++)
        if (json_string_equals(value.document, value.token, slice_from_string(*word))) {
            model_write_string(run, slice_from_string(*word), out);
            return true;
        }
    return validation_error(&run->validation, choice->message, "type_error.enum", choice->context);
}

/* ---- Any ---- */

static void write_compact(const struct json_document *document, uint32_t token, struct text *out)
{
    const struct json_token *found = &document->tokens[token];
    if (found->type == JSON_STRING) {
        struct text scratch = {0};
        text_append_json_utf8(out, json_string_view(document, token, &scratch));
        text_free(&scratch);
    } else if (found->type == JSON_ARRAY) {
        text_append_char(out, '[');
        for (uint32_t item = token + 1; item < found->next; item = document->tokens[item].next) {
            if (item != token + 1)
                text_append_char(out, ',');
            write_compact(document, item, out);
        }
        text_append_char(out, ']');
    } else if (found->type == JSON_OBJECT) {
        text_append_char(out, '{');
        for (uint32_t key = token + 1; key < found->next; key = document->tokens[key + 1].next) {
            if (key != token + 1)
                text_append_char(out, ',');
            write_compact(document, key, out);
            text_append_char(out, ':');
            write_compact(document, key + 1, out);
        }
        text_append_char(out, '}');
    } else {
        text_append_slice(out, json_raw(document, token));
    }
}

bool model_convert_any(
    struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    (void)argument;
    if (run->style == MODEL_HTTP)
        write_compact(value.document, value.token, out);
    else
        text_append_slice(out, json_raw(value.document, value.token));
    return true;
}

/* ---- containers ---- */

bool model_convert_object(
    struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    (void)argument;
    struct model_value object;
    if (model_type(value) == JSON_NULL)
        return model_refuse_null(run);
    if (model_pairs_as_object(run, value, &object) == MODEL_PAIRS_NOT_A_DICT)
        return validation_error(&run->validation, "value is not a valid dict", "type_error.dict", NULL);
    return model_convert_any(run, object, NULL, out);
}

bool model_convert_list(
    struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    const struct model_list *list = argument;
    if (model_type(value) == JSON_NULL)
        return model_refuse_null(run);
    if (model_type(value) != JSON_ARRAY)
        return validation_error(&run->validation, "value is not a valid list", "type_error.list", NULL);
    bool fits = true;
    size_t index = 0;
    text_append_char(out, '[');
    for (uint32_t item = value.token + 1; item < token_of(value)->next;
         item = value.document->tokens[item].next) {
        if (index)
            text_append_string(out, model_separator(run));
        validation_enter_item(&run->validation, index++);
        fits &= list->convert(run, (struct model_value){value.document, item}, list->argument, out);
        validation_leave(&run->validation);
        if (!fits && run->validation.muted)
            return false; /* only tried: one misfit is enough */
    }
    text_append_char(out, ']');
    return fits;
}

/* The value of each field of the model in the object; the last one counts when a key is there twice. */
static void collect_fields(const struct model *model, struct model_value object, struct model_value *values)
{
    for (size_t i = 0; i < model->count; i++)
        values[i] = (struct model_value){object.document, JSON_ABSENT};
    const struct json_token *tokens = object.document->tokens;
    for (uint32_t key = object.token + 1; key < tokens[object.token].next; key = tokens[key + 1].next)
        for (size_t i = 0; i < model->count; i++)
            if (json_string_equals(object.document, key, slice_from_string(model->fields[i].name)))
                values[i].token = key + 1;
}

static bool convert_field(
    struct model_run *run, const struct model_field *field, struct model_value value, struct text *out)
{
    if (value.token == JSON_ABSENT && !(field->flags & MODEL_SEES_ABSENT)) {
        bool http = run->style == MODEL_HTTP && field->fallback_http;
        if (!field->fallback)
            return validation_error(&run->validation, "field required", "value_error.missing", NULL);
        text_append_string(out, http ? field->fallback_http : field->fallback);
        return true;
    }
    if (value.token != JSON_ABSENT && model_type(value) == JSON_NULL &&
        (field->flags & (MODEL_NULLABLE | MODEL_SEES_NULL)) == MODEL_NULLABLE) {
        text_append_string(out, "null");
        return true;
    }
    return field->convert(run, value, field->argument, out);
}

bool model_convert(struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    const struct model *model = argument;
    struct model_value object;
    struct model_value values[MODEL_FIELDS_MAX];
    if (model_type(value) == JSON_NULL)
        return model_refuse_null(run);
    switch (model_pairs_as_object(run, value, &object)) {
    case MODEL_PAIRS_NOT_A_DICT:
        return validation_error(&run->validation, "value is not a valid dict", "type_error.dict", NULL);
    case MODEL_PAIRS_OTHER_KEYS:
        return validation_error(&run->validation, "keywords must be strings", "type_error", NULL);
    case MODEL_PAIRS_OBJECT:
        break;
    }
    collect_fields(model, object, values);

    bool fits = true;
    text_append_char(out, '{');
    for (size_t i = 0; i < model->count; i++) {
        const struct model_field *field = &model->fields[i];
        text_append_format(out, "%s\"%s\"%s", i ? model_separator(run) : "", field->name, colon(run));
        validation_enter(&run->validation, field->name);
        fits &= convert_field(run, field, values[i], out);
        validation_leave(&run->validation);
        if (!fits && run->validation.muted)
            return false;
    }
    text_append_char(out, '}');
    if (model->check && !model->check(run, values))
        return false;
    return fits;
}
