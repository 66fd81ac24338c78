#define PCRE2_CODE_UNIT_WIDTH 8
#include "worker/policy/webhook_params.h"

#include <errno.h>
#include <pcre2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/document.h"
#include "shm/common/memory.h"

#define OPTION     "OPAL_POLICY_REPO_WEBHOOK_PARAMS"
#define JSON_DEPTH 16
#define VALUES_MAX 1000
/* Steps of the matcher on one header: what a pattern of an operator needs at most, and far from a second. */
#define MATCH_LIMIT 200000
#define GITHUB \
    "{\"secret_header_name\": \"x-hub-signature-256\", \"secret_type\": \"signature\", " \
    "\"secret_parsing_regex\": \"sha256=(.*)\", \"event_header_name\": \"X-GitHub-Event\", " \
    "\"push_event_value\": \"push\"}"

/* ---- reading: the first problem is kept ---- */

struct params_reader {
    const cJSON *document;
    struct error *err;
};

__attribute__((format(printf, 2, 3))) static void set_problem(
    struct params_reader *reader, const char *format, ...)
{
    char problem[256];
    va_list arguments;
    if (reader->err->code)
        return;
    va_start(arguments, format);
    vsnprintf(problem, sizeof problem, format, arguments);
    va_end(arguments);
    error_set(reader->err, EINVAL, OPTION ": %s", problem);
}

/*
 * A copy of the member's string. NULL when it is absent or null (a problem if it is `required`), or of
 * another type.
 */
static char *take_string(struct params_reader *reader, const char *key, bool required)
{
    const cJSON *member = document_member(reader->document, key);
    if (cJSON_IsString(member))
        return memory_copy_string(member->valuestring);
    if (member && !cJSON_IsNull(member))
        set_problem(reader, "\"%s\" must be a string", key);
    else if (required)
        set_problem(reader, "\"%s\" is missing", key);
    return NULL;
}

static bool take_secret_type(struct params_reader *reader)
{
    char *type = take_string(reader, "secret_type", true);
    bool is_token = type && strcmp(type, "token") == 0;
    if (type && !is_token && strcmp(type, "signature") != 0)
        set_problem(reader, "\"secret_type\" must be \"token\" or \"signature\"");
    free(type);
    return is_token;
}

static pcre2_code *take_regex(struct params_reader *reader)
{
    char *pattern = take_string(reader, "secret_parsing_regex", true);
    int code = 0;
    PCRE2_SIZE at = 0;
    if (!pattern)
        return NULL;
    pcre2_code *regex =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
    if (!regex) {
        char why[128] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        set_problem(reader, "\"secret_parsing_regex\": %s at character %zu", why, (size_t)at);
    }
    free(pattern);
    return regex;
}

static bool take_match_sender(struct params_reader *reader)
{
    const cJSON *member = document_member(reader->document, "match_sender_url");
    if (member && !cJSON_IsBool(member))
        set_problem(reader, "\"match_sender_url\" must be true or false");
    return !member || cJSON_IsTrue(member);
}

struct webhook_params *webhook_params_load(const struct config *config, struct error *err)
{
    static const struct document_limits limits = {.depth = JSON_DEPTH, .values = VALUES_MAX};
    const char *text = config->policy_repo_webhook_params ? config->policy_repo_webhook_params : GITHUB;
    struct error problem = {0};
    cJSON *document = document_parse(slice_from_string(text), &limits);
    struct params_reader reader = {.document = document, .err = &problem};
    struct webhook_params *params = memory_allocate(sizeof *params);
    if (!cJSON_IsObject(document)) {
        set_problem(&reader, "must be a JSON object");
    } else {
        params->secret_header_name = take_string(&reader, "secret_header_name", true);
        params->secret_is_token = take_secret_type(&reader);
        params->secret_regex = take_regex(&reader);
        params->event_header_name = take_string(&reader, "event_header_name", false);
        params->event_request_key = take_string(&reader, "event_request_key", false);
        params->push_event_value = take_string(&reader, "push_event_value", true);
        params->match_sender_url = take_match_sender(&reader);
        if (!params->event_header_name && !params->event_request_key)
            set_problem(&reader, "must have \"event_header_name\" or \"event_request_key\"");
    }
    cJSON_Delete(document);
    if (!problem.code)
        return params;
    *err = problem;
    webhook_params_free(params);
    return NULL;
}

void webhook_params_free(struct webhook_params *params)
{
    if (!params)
        return;
    free(params->secret_header_name);
    free(params->event_header_name);
    free(params->event_request_key);
    free(params->push_event_value);
    pcre2_code_free(params->secret_regex);
    free(params);
}

struct slice webhook_params_secret(const struct webhook_params *params, struct slice value)
{
    struct slice secret = {value.data, 0};
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(params->secret_regex, NULL);
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    if (!match || !context)
        abort(); /* only out of memory */
    pcre2_set_match_limit(context, MATCH_LIMIT);
    int groups = value.data ? pcre2_match(params->secret_regex, (PCRE2_SPTR)value.data, value.length, 0, 0,
                                  match, context)
                            : PCRE2_ERROR_NOMATCH;
    uint32_t captures = 0;
    pcre2_pattern_info(params->secret_regex, PCRE2_INFO_CAPTURECOUNT, &captures);
    if (groups > 0) {
        const PCRE2_SIZE *offsets = pcre2_get_ovector_pointer(match);
        size_t which = captures > 0 ? 1 : 0;
        if (which < (size_t)groups)
            secret =
                (struct slice){value.data + offsets[2 * which], offsets[2 * which + 1] - offsets[2 * which]};
    }
    pcre2_match_context_free(context);
    pcre2_match_data_free(match);
    return secret;
}
