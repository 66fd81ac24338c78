#include "worker/api/callback_report.h"

#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/python.h"
#include "worker/api/data_entry.h"
#include "worker/http/http_body.h"

#define REPORT_LOGGED_BYTES 16384

static const struct model_field report_fields[] = {
    {.name = "entry", .convert = data_entry_convert},
    {.name = "fetched", .convert = model_convert_boolean, .fallback = "false", .flags = MODEL_NULLABLE},
    {.name = "saved", .convert = model_convert_boolean, .fallback = "false", .flags = MODEL_NULLABLE},
    {.name = "hash", .convert = model_convert_string, .fallback = "null", .flags = MODEL_NULLABLE},
};
static const struct model report = {
    .fields = report_fields, .count = sizeof report_fields / sizeof *report_fields};
static const struct model_list report_list = {.convert = model_convert, .argument = &report};
static const struct model_field update_report_fields[] = {
    {.name = "update_id", .convert = model_convert_string, .fallback = "null", .flags = MODEL_NULLABLE},
    {.name = "reports", .convert = model_convert_list, .argument = &report_list},
    {.name = "policy_hash", .convert = model_convert_string, .fallback = "null", .flags = MODEL_NULLABLE},
    {.name = "user_data", .convert = model_convert_object, .fallback = "{}"},
};
static const struct model update_report = {
    .fields = update_report_fields, .count = sizeof update_report_fields / sizeof *update_report_fields};

/* A member that the log leaves out: an entry's configuration may carry secrets, its data may be anything. */
static bool is_private(const struct json_document *document, uint32_t key)
{
    return json_string_equals(document, key, SLICE_LITERAL("config")) ||
           json_string_equals(document, key, SLICE_LITERAL("data"));
}

static void append_members(
    struct text *out, const struct json_document *document, uint32_t object, bool entry)
{
    const struct json_token *tokens = document->tokens;
    bool first = true;
    text_append_char(out, '{');
    for (uint32_t key = object + 1; key < tokens[object].next; key = tokens[key + 1].next) {
        if (entry && is_private(document, key))
            continue;
        if (!first)
            text_append_string(out, ", ");
        first = false;
        python_append_value(out, document, key, REPORT_LOGGED_BYTES);
        text_append_string(out, ": ");
        if (!entry && json_string_equals(document, key, SLICE_LITERAL("entry")))
            append_members(out, document, key + 1, true);
        else
            python_append_value(out, document, key + 1, REPORT_LOGGED_BYTES);
    }
    text_append_char(out, '}');
}

/* The converted report: its shape is known. */
static void log_report(struct slice converted, const struct config *config)
{
    struct json_document document = {0};
    struct text out = {0};
    if (json_parse(&document, converted.data, converted.length, config->limits.json_max_depth + 4,
            SIZE_MAX / 2 / sizeof(struct json_token)) == JSON_OK) {
        const struct json_token *tokens = document.tokens;
        uint32_t reports = json_member(&document, 0, "reports");
        text_append_string(&out, "{'update_id': ");
        python_append_value(&out, &document, json_member(&document, 0, "update_id"), REPORT_LOGGED_BYTES);
        text_append_string(&out, ", 'reports': [");
        for (uint32_t item = reports + 1; item < tokens[reports].next && out.length < REPORT_LOGGED_BYTES;
             item = tokens[item].next) {
            if (item != reports + 1)
                text_append_string(&out, ", ");
            append_members(&out, &document, item, false);
        }
        text_append_string(&out, "], 'policy_hash': ");
        python_append_value(&out, &document, json_member(&document, 0, "policy_hash"), REPORT_LOGGED_BYTES);
        text_append_string(&out, ", 'user_data': ");
        python_append_value(&out, &document, json_member(&document, 0, "user_data"), REPORT_LOGGED_BYTES);
        text_append_char(&out, '}');
        log_write(LOG_INFO, LOGGER_HTTP, "Received update report: %s", out.data);
    }
    text_free(&out);
    json_free(&document);
}

enum http_answer callback_report_post(struct http_exchange *exchange)
{
    const struct config *config = exchange->services->config;
    struct json_document document = {0};
    if (http_body_parse(exchange, &document)) {
        struct data_entry_reader reader = {.magic = DATA_ENTRY_READER_MAGIC};
        struct text converted = {0};
        struct model_run run = {
            .style = MODEL_PYTHON,
            .max_depth = config->limits.json_max_depth,
            .max_tokens = config->limits.json_max_tokens,
            .state = &reader,
        };
        validation_enter(&run.validation, "body");
        if (model_convert(&run, (struct model_value){&document, 0}, &update_report, &converted)) {
            if (log_enabled(LOG_INFO))
                log_report(text_slice(&converted), config);
            http_reply_set(&exchange->reply, 200, HTTP_JSON, SLICE_LITERAL("{}"));
        } else {
            validation_reply(&run.validation, &exchange->reply);
        }
        model_run_free(&run);
        text_free(&converted);
        data_entry_reader_free(&reader);
    }
    json_free(&document);
    return HTTP_ANSWERED;
}
