#define PCRE2_CODE_UNIT_WIDTH 8
#include "worker/policy/webhook_params.h"

#include <errno.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/json.h"
#include "shm/common/memory.h"

#define OPTION     "OPAL_POLICY_REPO_WEBHOOK_PARAMS"
#define JSON_DEPTH 16
#define TOKENS_MAX 1000
/* Steps of the matcher on one header: what a pattern of an operator needs at most, and far from a second. */
#define MATCH_LIMIT 200000
#define GITHUB \
    "{\"secret_header_name\": \"x-hub-signature-256\", \"secret_type\": \"signature\", " \
    "\"secret_parsing_regex\": \"sha256=(.*)\", \"event_header_name\": \"X-GitHub-Event\", " \
    "\"push_event_value\": \"push\"}"

/* NULL with `err` unless the member is a string; with `required` false also absent and null are good, and give NULL. */
static char *take_string(
    const struct json_document *document, const char *key, bool required, struct error *err)
{
    uint32_t token = json_member(document, 0, key);
    struct text value = {0};
    if (token == JSON_ABSENT || document->tokens[token].type == JSON_NULL) {
        if (required && !err->code)
            error_set(err, EINVAL, OPTION ": \"%s\" is missing", key);
        return NULL;
    }
    if (document->tokens[token].type != JSON_STRING) {
        if (!err->code)
            error_set(err, EINVAL, OPTION ": \"%s\" must be a string", key);
        return NULL;
    }
    json_string_decode(document, token, &value);
    char *copy = memory_copy(value.data ? value.data : "", value.length);
    text_free(&value);
    return copy;
}

static void take_secret_type(
    struct webhook_params *params, const struct json_document *document, struct error *err)
{
    char *type = take_string(document, "secret_type", true, err);
    if (type && strcmp(type, "token") != 0 && strcmp(type, "signature") != 0 && !err->code)
        error_set(err, EINVAL, OPTION ": \"secret_type\" must be \"token\" or \"signature\"");
    params->secret_is_token = type && strcmp(type, "token") == 0;
    free(type);
}

static void take_regex(struct webhook_params *params, const struct json_document *document, struct error *err)
{
    char *pattern = take_string(document, "secret_parsing_regex", true, err);
    int code = 0;
    PCRE2_SIZE at = 0;
    if (!pattern)
        return;
    params->secret_regex =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
    if (!params->secret_regex && !err->code) {
        char why[128] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        error_set(err, EINVAL, OPTION ": \"secret_parsing_regex\": %s at character %zu", why, (size_t)at);
    }
    free(pattern);
}

static void take_match_sender(
    struct webhook_params *params, const struct json_document *document, struct error *err)
{
    uint32_t token = json_member(document, 0, "match_sender_url");
    params->match_sender_url = true;
    if (token == JSON_ABSENT)
        return;
    uint32_t type = document->tokens[token].type;
    if (type != JSON_TRUE && type != JSON_FALSE && !err->code)
        error_set(err, EINVAL, OPTION ": \"match_sender_url\" must be true or false");
    params->match_sender_url = type == JSON_TRUE;
}

struct webhook_params *webhook_params_load(const struct config *config, struct error *err)
{
    const char *text = config->policy_repo_webhook_params ? config->policy_repo_webhook_params : GITHUB;
    struct json_document document = {0};
    struct webhook_params *params = memory_allocate(sizeof *params);
    struct error problem = {0};
    if (json_parse(&document, text, strlen(text), JSON_DEPTH, TOKENS_MAX) != JSON_OK ||
        document.tokens[0].type != JSON_OBJECT) {
        error_set(&problem, EINVAL, OPTION ": must be a JSON object");
    } else {
        params->secret_header_name = take_string(&document, "secret_header_name", true, &problem);
        take_secret_type(params, &document, &problem);
        take_regex(params, &document, &problem);
        params->event_header_name = take_string(&document, "event_header_name", false, &problem);
        params->event_request_key = take_string(&document, "event_request_key", false, &problem);
        params->push_event_value = take_string(&document, "push_event_value", true, &problem);
        take_match_sender(params, &document, &problem);
        if (!params->event_header_name && !params->event_request_key && !problem.code)
            error_set(&problem, EINVAL, OPTION ": must have \"event_header_name\" or \"event_request_key\"");
    }
    json_free(&document);
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
