#include "worker/api/data_entry.h"

#include <stddef.h>
#include <string.h>

#include "shm/common/python.h"

/* The log shows them, cut to 16 KiB a line. */
#define TOPICS_LOGGED_BYTES 8192
/* Topic of an entry that names none. */
#define DATA_ENTRY_TOPIC "policy_data"

void data_entry_reader_free(struct data_entry_reader *reader)
{
    text_free(&reader->url);
    text_free(&reader->dst_path);
    text_free(&reader->save_method);
    text_free(&reader->topics);
}

static struct data_entry_reader *reader_of(const struct model_run *run)
{
    return object_cast(struct data_entry_reader, DATA_ENTRY_READER_MAGIC, run->state);
}

/* A string that the reader keeps; argument: which member, see the slots below. */
static bool convert_kept(
    struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    struct text *kept = (struct text *)((char *)reader_of(run) + *(const size_t *)argument);
    if (!model_read_string(run, value, kept)) {
        text_free(kept);
        return false;
    }
    model_write_string(run, text_slice(kept), out);
    return true;
}

static const size_t slot_url = offsetof(struct data_entry_reader, url);
static const size_t slot_dst_path = offsetof(struct data_entry_reader, dst_path);
static const size_t slot_save_method = offsetof(struct data_entry_reader, save_method);

static bool write_topic(struct model_run *run, struct slice topic, bool *first, struct text *out)
{
    struct data_entry_reader *reader = reader_of(run);
    if (reader->topics.length < TOPICS_LOGGED_BYTES) {
        if (reader->topic_count)
            text_append_string(&reader->topics, ", ");
        python_append_string(&reader->topics, topic);
    }
    reader->topic_count++;
    if (reader->topic)
        return reader->topic(reader->context, run, topic, first, out);
    if (!*first)
        text_append_string(out, model_separator(run));
    *first = false;
    model_write_string(run, topic, out);
    return true;
}

static bool write_topics(struct model_run *run, struct model_value value, struct text *out)
{
    struct text scratch = {0};
    const struct json_token *tokens = value.document->tokens;
    bool fits = true, first = true;
    size_t index = 0;
    for (uint32_t item = value.token + 1; item < tokens[value.token].next; item = tokens[item].next) {
        validation_enter_item(&run->validation, index++);
        fits &= model_read_string(run, (struct model_value){value.document, item}, &scratch) &&
                write_topic(run, text_slice(&scratch), &first, out);
        validation_leave(&run->validation);
    }
    text_free(&scratch);
    return fits;
}

static bool convert_topics(
    struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    (void)argument;
    struct data_entry_reader *reader = reader_of(run);
    bool absent = value.token == JSON_ABSENT;
    bool fits, first = true;
    if (!absent && model_type(value) == JSON_NULL)
        return model_refuse_null(run);
    if (!absent && model_type(value) != JSON_ARRAY)
        return validation_error(&run->validation, "value is not a valid list", "type_error.list", NULL);
    text_clear(&reader->topics);
    text_append_char(&reader->topics, '[');
    text_append_char(out, '[');
    if (absent)
        fits = write_topic(run, SLICE_LITERAL(DATA_ENTRY_TOPIC), &first, out);
    else
        fits = write_topics(run, value, out);
    text_append_char(out, ']');
    text_append_char(&reader->topics, ']');
    return fits;
}

/* ---- data: a list of JSON patch actions, else any list, else an object ---- */

static bool check_patch_action(struct model_run *run, const struct model_value *values)
{
    struct text op = {0};
    bool needs_value =
        model_read_string(run, values[0], &op) &&
        (slice_equals_string(text_slice(&op), "add") || slice_equals_string(text_slice(&op), "replace"));
    text_free(&op);
    return !needs_value || (values[2].token != JSON_ABSENT && model_type(values[2]) != JSON_NULL);
}

static const struct model_field patch_fields[] = {
    {.name = "op", .convert = model_convert_string},
    {.name = "path", .convert = model_convert_string},
    {.name = "value", .convert = model_convert_any, .fallback = "null", .flags = MODEL_NULLABLE},
    {.name = "from", .convert = model_convert_string, .fallback = "null", .flags = MODEL_NULLABLE},
};
static const struct model patch_action = {
    .fields = patch_fields, .count = sizeof patch_fields / sizeof *patch_fields, .check = check_patch_action};
static const struct model_list patch_list = {.convert = model_convert, .argument = &patch_action};

static bool try_patch_list(struct model_run *run, struct model_value value, struct text *out)
{
    size_t before = out->length;
    run->validation.muted++;
    bool fits = model_convert_list(run, value, &patch_list, out);
    run->validation.muted--;
    if (!fits) {
        out->length = before;
        if (out->data)
            out->data[before] = '\0';
    }
    return fits;
}

static bool refuse_data(struct model_run *run)
{
    validation_error(&run->validation, "value is not a valid list", "type_error.list", NULL);
    validation_error(&run->validation, "value is not a valid list", "type_error.list", NULL);
    return validation_error(&run->validation, "value is not a valid dict", "type_error.dict", NULL);
}

static bool convert_data(
    struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    (void)argument;
    struct data_entry_reader *reader = reader_of(run);
    bool is_patch = false;
    reader->has_data = model_type(value) != JSON_NULL;
    if (model_type(value) == JSON_NULL) {
        text_append_string(out, "null");
    } else if (model_type(value) == JSON_ARRAY) {
        is_patch = try_patch_list(run, value, out);
        if (!is_patch)
            model_convert_any(run, value, NULL, out);
    } else {
        bool empty = model_type(value) == JSON_STRING && json_raw(value.document, value.token).length == 2;
        bool is_dict = model_type(value) == JSON_OBJECT || empty; /* "" is an empty dict, as everywhere */
        if (!is_dict || !model_convert_object(run, value, NULL, out))
            return refuse_data(run);
    }

    /*
     * The reference's validator of `data` looks at save_method; when that one is wrong itself (it then fails
     * with 500) its own error says enough.
     */
    struct slice method = text_slice(&reader->save_method);
    if (!reader->save_method.data)
        return true;
    if (!slice_equals_string(method, "PUT") && !slice_equals_string(method, "PATCH"))
        return validation_error(
            &run->validation, "'save_method' must be either PUT or PATCH", "value_error", NULL);
    if (slice_equals_string(method, "PATCH") && !is_patch)
        return validation_error(&run->validation,
            "'data' must be of type JSON patch request when save_method is PATCH", "type_error", NULL);
    return true;
}

/* ---- the entry ---- */

static const struct model_field entry_fields[] = {
    {.name = "url", .convert = convert_kept, .argument = &slot_url},
    {.name = "config", .convert = model_convert_object, .fallback = "null", .flags = MODEL_NULLABLE},
    {.name = "topics", .convert = convert_topics, .flags = MODEL_SEES_ABSENT},
    {.name = "dst_path", .convert = convert_kept, .argument = &slot_dst_path, .fallback = "\"\""},
    {.name = "save_method", .convert = convert_kept, .argument = &slot_save_method, .fallback = "\"PUT\""},
    {.name = "data", .convert = convert_data, .fallback = "null", .flags = MODEL_NULLABLE | MODEL_SEES_NULL},
    {.name = "periodic_update_interval",
        .convert = model_convert_float,
        .fallback = "null",
        .flags = MODEL_NULLABLE},
};
#define ENTRY_FIELDS (sizeof entry_fields / sizeof *entry_fields)
static const struct model entry = {.fields = entry_fields, .count = ENTRY_FIELDS - 1};
static const struct model entry_polled = {.fields = entry_fields, .count = ENTRY_FIELDS};

static void set_string(struct text *text, const char *string)
{
    text_clear(text);
    text_append_string(text, string);
}

static void reset(struct data_entry_reader *reader)
{
    set_string(&reader->url, "");
    set_string(&reader->dst_path, "");
    set_string(&reader->save_method, "PUT");
    set_string(&reader->topics, "");
    reader->topic_count = 0;
    reader->has_data = false;
}

bool data_entry_convert(
    struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    (void)argument;
    reset(reader_of(run));
    return model_convert(run, value, &entry, out);
}

bool data_entry_convert_polled(
    struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    (void)argument;
    reset(reader_of(run));
    return model_convert(run, value, &entry_polled, out);
}
