#include "worker/api/data_update.h"

#include <stdio.h>

#include "shm/common/python.h"
#include "worker/topics/topic_expansion.h"

#define LOGGED_BYTES      8192
#define DATA_UPDATE_MAGIC UINT32_C(0x64757064)

/* ---- topics ---- */

/* The expansion of one topic goes into the entry's list (repeats and all) and into the set of the update. */
static bool expand_topic(
    void *context, struct model_run *run, struct slice topic, bool *first, struct text *out)
{
    struct data_update *update = object_cast(struct data_update, DATA_UPDATE_MAGIC, context);
    struct topic_expansion expansion = topic_expansion_start(topic);
    bool first_forbidden = !update->forbidden.count || update->forbidden_entry == update->entry_count;
    if (first_forbidden && update->claims && !token_permits_topic(update->claims, topic)) {
        topic_set_add(&update->forbidden, topic);
        update->forbidden_entry = update->entry_count;
    }
    struct slice expanded;
    if (topic.length > update->limits->topic_max_bytes && !update->failed)
        update->failed = DATA_UPDATE_TOPIC_TOO_LONG;
    while (!update->failed && topic_expansion_next(&expansion, &expanded)) {
        if (!*first)
            text_append_string(out, model_separator(run));
        *first = false;
        model_write_string(run, expanded, out);
        topic_set_add(&update->topics, expanded);
        if (update->topics.count > update->limits->topics_max)
            update->failed = DATA_UPDATE_TOO_MANY_TOPICS;
        else if (out->length > update->limits->event_max_bytes)
            update->failed = DATA_UPDATE_TOO_LARGE;
    }
    return !update->failed;
}

/* ---- entries ---- */

static struct data_update *update_of(const struct model_run *run)
{
    const struct data_entry_reader *reader =
        object_cast(struct data_entry_reader, DATA_ENTRY_READER_MAGIC, run->state);
    return object_cast(struct data_update, DATA_UPDATE_MAGIC, reader->context);
}

static void log_entry(struct data_update *update)
{
    const struct data_entry_reader *reader = &update->reader;
    struct text *out = &update->entries;
    if (reader->topic_count == 0 && update->without_topics.length < LOGGED_BYTES) {
        text_append_slice(&update->without_topics, text_slice(&reader->url));
        text_append_char(&update->without_topics, '\0');
    }
    if (out->length >= LOGGED_BYTES)
        return;
    text_append_string(out, update->entry_count ? ", {'url': " : "{'url': ");
    python_append_string(out, text_slice(&reader->url));
    text_append_string(out, ", 'method': ");
    python_append_string(out, text_slice(&reader->save_method));
    text_append_string(out, ", 'path': ");
    python_append_string(out, reader->dst_path.length ? text_slice(&reader->dst_path) : SLICE_LITERAL("/"));
    text_append_format(out, ", 'inline_data': %s, 'topics': ", reader->has_data ? "True" : "False");
    text_append_slice(out, text_slice(&reader->topics));
    text_append_char(out, '}');
}

static bool convert_entry(
    struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    struct data_update *update = update_of(run);
    if (update->failed)
        return false;
    if (!data_entry_convert(run, value, argument, out))
        return false;
    log_entry(update);
    update->entry_count++;
    return true;
}

/* ---- callbacks: "url" or ["url", fetcher configuration] ---- */

static const char *const http_methods[] = {"get", "post", "put", "patch", "head", "delete", NULL};
static const struct model_choice method_choice = {
    .values = http_methods,
    .message =
        "value is not a valid enumeration member; permitted: 'get', 'post', 'put', 'patch', 'head', 'delete'",
    .context = "{\"enum_values\":[\"get\",\"post\",\"put\",\"patch\",\"head\",\"delete\"]}",
};
static const struct model_field fetcher_fields[] = {
    {.name = "fetcher", .convert = model_convert_string, .fallback = "null", .flags = MODEL_NULLABLE},
    {.name = "headers", .convert = model_convert_object, .fallback = "null", .flags = MODEL_NULLABLE},
    {.name = "is_json", .convert = model_convert_boolean, .fallback = "true"},
    {.name = "process_data", .convert = model_convert_boolean, .fallback = "true"},
    {.name = "method", .convert = model_convert_choice, .argument = &method_choice, .fallback = "\"get\""},
    {.name = "data", .convert = model_convert_any, .fallback = "null", .flags = MODEL_NULLABLE},
};
static const struct model fetcher = {
    .fields = fetcher_fields, .count = sizeof fetcher_fields / sizeof *fetcher_fields};

static bool convert_tuple(struct model_run *run, struct model_value value, struct text *out)
{
    const struct json_token *tuple = &value.document->tokens[value.token];
    if (tuple->type != JSON_ARRAY)
        return validation_error(&run->validation, "value is not a valid tuple", "type_error.tuple", NULL);
    if (tuple->size != 2) {
        char message[80], context[80];
        snprintf(message, sizeof message, "wrong tuple length %u, expected 2", (unsigned)tuple->size);
        snprintf(
            context, sizeof context, "{\"actual_length\":%u,\"expected_length\":2}", (unsigned)tuple->size);
        return validation_error(&run->validation, message, "value_error.tuple.length", context);
    }
    struct model_value url = {value.document, value.token + 1};
    struct model_value configuration = {value.document, value.document->tokens[url.token].next};
    text_append_char(out, '[');
    validation_enter_item(&run->validation, 0);
    bool fits = model_convert_string(run, url, NULL, out);
    validation_leave(&run->validation);
    text_append_string(out, model_separator(run));
    validation_enter_item(&run->validation, 1);
    fits &= model_convert(run, configuration, &fetcher, out);
    validation_leave(&run->validation);
    text_append_char(out, ']');
    return fits;
}

static bool convert_callback(
    struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    enum json_type type = model_type(value);
    if (type != JSON_ARRAY && type != JSON_OBJECT)
        return model_convert_string(run, value, argument, out);
    /* Neither alternative may leave an error when the other fits. */
    run->validation.muted++;
    bool fits = convert_tuple(run, value, out);
    run->validation.muted--;
    if (!fits) {
        validation_error(&run->validation, "str type expected", "type_error.str", NULL);
        return convert_tuple(run, value, out);
    }
    return true;
}

static const struct model_list callback_list = {.convert = convert_callback};
static const struct model_field callback_fields[] = {
    {.name = "callbacks", .convert = model_convert_list, .argument = &callback_list},
};
static const struct model callback = {.fields = callback_fields, .count = 1};

/* ---- the update ---- */

static bool convert_reason(
    struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    struct data_update *update = update_of(run);
    struct text reason = {0};
    (void)argument;
    bool fits = model_read_string(run, value, &reason);
    if (fits) {
        model_write_string(run, text_slice(&reason), out);
        text_clear(&update->reason);
        text_append_slice(&update->reason, text_slice(&reason));
    }
    text_free(&reason);
    return fits;
}

static const struct model_list entry_list = {.convert = convert_entry};
static const struct model_field update_fields[] = {
    {.name = "id", .convert = model_convert_string, .fallback = "null", .flags = MODEL_NULLABLE},
    {.name = "entries", .convert = model_convert_list, .argument = &entry_list},
    {.name = "reason", .convert = convert_reason, .fallback = "null", .flags = MODEL_NULLABLE},
    {.name = "callback",
        .convert = model_convert,
        .argument = &callback,
        .fallback = "{\"callbacks\": []}",
        .fallback_http = "{\"callbacks\":[]}"},
};
static const struct model update_model = {
    .fields = update_fields, .count = sizeof update_fields / sizeof *update_fields};

enum data_update_outcome data_update_convert(
    struct data_update *update, const struct json_document *document, const struct event_limits *limits)
{
    update->magic = DATA_UPDATE_MAGIC;
    update->limits = limits;
    update->reader.magic = DATA_ENTRY_READER_MAGIC;
    update->reader.topic = expand_topic;
    update->reader.context = update;
    text_append_string(&update->reason, "None");
    text_append_char(&update->entries, '[');

    struct model_run run = {
        .style = MODEL_PYTHON,
        .max_depth = limits->json_max_depth,
        .max_tokens = limits->json_max_tokens,
        .state = &update->reader,
    };
    validation_enter(&run.validation, "body");
    bool fits = model_convert(&run, (struct model_value){document, 0}, &update_model, &update->data);
    update->validation = run.validation; /* the errors are the update's now */
    run.validation = (struct validation){0};
    model_run_free(&run);
    text_append_char(&update->entries, ']');

    if (update->failed)
        return update->failed;
    if (!fits)
        return DATA_UPDATE_INVALID;
    return update->data.length > limits->event_max_bytes ? DATA_UPDATE_TOO_LARGE : DATA_UPDATE_OK;
}

void data_update_free(struct data_update *update)
{
    text_free(&update->data);
    topic_set_free(&update->topics);
    topic_set_free(&update->forbidden);
    text_free(&update->reason);
    text_free(&update->entries);
    text_free(&update->without_topics);
    validation_free(&update->validation);
    data_entry_reader_free(&update->reader);
}
