#include "worker/api/token_request.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_REQUEST_MAGIC UINT32_C(0x746b7271)
#define TTL_DEFAULT         (365 * 86400.0)
#define MINUTE              60.0
#define HOUR                3600.0
#define DAY                 86400.0
#define NUMBER_DIGITS       18

/* ---- durations ---- */

struct scanner {
    const char *at;
    const char *end;
};

/* "-?[0-9]+"; false leaves the scanner where it was. */
static bool scan_integer(struct scanner *scanner, bool sign, double *value, bool *negative)
{
    const char *at = scanner->at;
    *negative = sign && at < scanner->end && *at == '-';
    at += *negative;
    const char *first = at;
    *value = 0;
    for (; at < scanner->end && isdigit((unsigned char)*at); at++)
        *value = *value * 10 + (*at - '0');
    if (at == first || at - first > NUMBER_DIGITS)
        return false;
    if (*negative)
        *value = -*value;
    scanner->at = at;
    return true;
}

static bool scan_text(struct scanner *scanner, const char *text)
{
    size_t length = strlen(text);
    if ((size_t)(scanner->end - scanner->at) < length || memcmp(scanner->at, text, length) != 0)
        return false;
    scanner->at += length;
    return true;
}

/* The digits behind the point, six of them counted, twelve allowed. */
static bool scan_fraction(struct scanner *scanner, double *fraction)
{
    double scale = 0.1;
    unsigned digits = 0;
    *fraction = 0;
    for (; scanner->at < scanner->end && isdigit((unsigned char)*scanner->at); scanner->at++, digits++) {
        if (digits < 6)
            *fraction += (*scanner->at - '0') * scale;
        scale /= 10;
    }
    return digits >= 1 && digits <= 12;
}

/* [-D day[s], ][-H:][-M:]-S[.ffffff] */
static bool parse_standard(struct slice text, double *seconds)
{
    struct scanner scanner = {text.data, text.data + text.length}, back;
    double parts[3], days = 0, fraction = 0;
    bool negative = false;
    size_t count = 0;
    back = scanner;
    if (scan_integer(&scanner, true, &days, &negative) && scan_text(&scanner, " ")) {
        if (scan_text(&scanner, "days, ") || scan_text(&scanner, "day, ")) {
        } /* the word may be missing: "1 00:00:00" */
    } else {
        scanner = back;
        days = 0;
    }
    do {
        if (count == 3 || !scan_integer(&scanner, true, &parts[count++], &negative))
            return false;
    } while (scan_text(&scanner, ":"));
    /* hours need two unsigned numbers behind them: "1:-2:3" is none */
    if (count == 3 && (signbit(parts[1]) || negative))
        return false;
    if (scan_text(&scanner, ".") && !scan_fraction(&scanner, &fraction))
        return false;
    if (scanner.at != scanner.end)
        return false;
    *seconds = days * DAY;
    for (size_t i = 0; i < count; i++)
        *seconds += parts[i] * (count - i == 3 ? HOUR : count - i == 2 ? MINUTE : 1);
    *seconds += negative ? -fraction : fraction;
    return true;
}

/* [0-9]+(any character [0-9]+)? and then `unit`; when it is not there nothing was read. */
static bool scan_unit(struct scanner *scanner, char unit, double *value)
{
    struct scanner back = *scanner;
    double whole, rest = 0;
    bool negative;
    *value = 0;
    if (!scan_integer(scanner, false, &whole, &negative))
        return false;
    if (scanner->at < scanner->end && *scanner->at != unit) {
        char separator = *scanner->at++;
        const char *first = scanner->at;
        if (separator != '.' || !scan_integer(scanner, false, &rest, &negative)) {
            *scanner = back;
            return false;
        }
        rest /= pow(10, (double)(scanner->at - first));
    }
    if (scanner->at == scanner->end || *scanner->at != unit) {
        *scanner = back;
        return false;
    }
    scanner->at++;
    *value = whole + rest;
    return true;
}

/* [+-]P[nD][T[nH][nM][nS]] */
static bool parse_iso(struct slice text, double *seconds)
{
    struct scanner scanner = {text.data, text.data + text.length};
    double days = 0, hours = 0, minutes = 0, rest = 0;
    bool negative = scan_text(&scanner, "-");
    if (!negative)
        scan_text(&scanner, "+");
    if (!scan_text(&scanner, "P"))
        return false;
    scan_unit(&scanner, 'D', &days);
    if (scan_text(&scanner, "T")) {
        scan_unit(&scanner, 'H', &hours);
        scan_unit(&scanner, 'M', &minutes);
        scan_unit(&scanner, 'S', &rest);
    }
    *seconds = days * DAY + hours * HOUR + minutes * MINUTE + rest;
    if (negative)
        *seconds = -*seconds;
    return scanner.at == scanner.end;
}

bool token_duration_parse(struct slice text, double *seconds)
{
    if (!text.length)
        return false;
    return parse_standard(text, seconds) || parse_iso(text, seconds);
}

/* ---- fields: they go into the state, what is written is not used ---- */

static struct token_request *request_of(const struct model_run *run)
{
    return object_cast(struct token_request, TOKEN_REQUEST_MAGIC, run->state);
}

/* What Python's UUID() takes: 32 hexadecimal digits, with dashes, braces and urn:uuid: in between. */
static bool uuid_parse(struct slice text, struct identity *id)
{
    size_t digits = 0;
    for (size_t i = 0; i < text.length; i++) {
        size_t left = text.length - i;
        int value = text_hex_value(text.data[i]);
        if (left >= 4 && memcmp(text.data + i, "urn:", 4) == 0) {
            i += 3;
        } else if (left >= 5 && memcmp(text.data + i, "uuid:", 5) == 0) {
            i += 4;
        } else if (value >= 0 && digits < 2 * IDENTITY_BYTES) {
            uint8_t *byte = &id->bytes[digits++ / 2];
            *byte = (uint8_t)(*byte << 4 | value);
        } else if (!strchr("-{}", text.data[i])) {
            return false;
        }
    }
    return digits == 2 * IDENTITY_BYTES;
}

static bool convert_id(
    struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    struct text scratch = {0};
    bool good = model_type(value) == JSON_STRING;
    (void)argument;
    (void)out;
    if (model_type(value) == JSON_NULL)
        return model_refuse_null(run);
    if (good) {
        json_string_decode(value.document, value.token, &scratch);
        good = !memchr(scratch.data ? scratch.data : "", '\0', scratch.length) &&
               uuid_parse(text_slice(&scratch), &request_of(run)->id);
    }
    text_free(&scratch);
    return good || validation_error(&run->validation, "value is not a valid uuid", "type_error.uuid", NULL);
}

static bool convert_type(
    struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    static const char *const types[] = {"client", "datasource", "listener"};
    (void)argument;
    (void)out;
    if (model_type(value) == JSON_NULL)
        return model_refuse_null(run);
    for (size_t i = 0; model_type(value) == JSON_STRING && i < sizeof types / sizeof *types; i++) {
        if (json_string_equals(value.document, value.token, slice_from_string(types[i]))) {
            request_of(run)->type = types[i];
            return true;
        }
    }
    return validation_error(&run->validation,
        "value is not a valid enumeration member; permitted: 'client', 'datasource', 'listener'",
        "type_error.enum", "{\"enum_values\":[\"client\",\"datasource\",\"listener\"]}");
}

static bool convert_ttl(
    struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    struct text scratch = {0};
    double *ttl = &request_of(run)->ttl;
    bool good = true;
    (void)argument;
    (void)out;
    switch (model_type(value)) {
    case JSON_NULL:
        return model_refuse_null(run);
    case JSON_TRUE:
    case JSON_FALSE:
        *ttl = model_type(value) == JSON_TRUE;
        return true;
    case JSON_NUMBER:
        text_append_slice(&scratch, json_raw(value.document, value.token));
        *ttl = strtod(scratch.data, NULL);
        break;
    case JSON_STRING:
        json_string_decode(value.document, value.token, &scratch);
        good = token_duration_parse(text_slice(&scratch), ttl);
        break;
    default:
        return validation_error(&run->validation,
            "invalid type; expected timedelta, string, bytes, int or float", "type_error", NULL);
    }
    text_free(&scratch);
    if (good && fabs(*ttl) <= TOKEN_TTL_MAX_SECONDS)
        return true;
    return validation_error(&run->validation, "invalid duration format", "value_error.duration", NULL);
}

static bool convert_claims(
    struct model_run *run, struct model_value value, const void *argument, struct text *out)
{
    struct text *claims = &request_of(run)->claims;
    (void)out;
    text_clear(claims);
    return model_convert_object(run, value, argument, claims);
}

static const struct model_field request_fields[] = {
    {.name = "id", .convert = convert_id, .fallback = ""},
    {.name = "type", .convert = convert_type, .fallback = ""},
    {.name = "ttl", .convert = convert_ttl, .fallback = ""},
    {.name = "claims", .convert = convert_claims, .fallback = ""},
};
static const struct model request_model = {
    .fields = request_fields, .count = sizeof request_fields / sizeof *request_fields};

bool token_request_read(struct token_request *request, const struct json_document *document,
    unsigned max_depth, size_t max_tokens)
{
    struct text unused = {0};
    struct model_run run = {
        .style = MODEL_HTTP, .max_depth = max_depth, .max_tokens = max_tokens, .state = request};
    request->magic = TOKEN_REQUEST_MAGIC;
    request->id = identity_make();
    request->type = "client";
    request->ttl = TTL_DEFAULT;
    text_append_string(&request->claims, "{}");
    validation_enter(&run.validation, "body");
    bool good = model_convert(&run, (struct model_value){document, 0}, &request_model, &unused);
    request->validation = run.validation; /* moved */
    run.validation = (struct validation){0};
    model_run_free(&run);
    text_free(&unused);
    return good;
}

void token_request_free(struct token_request *request)
{
    text_free(&request->claims);
    validation_free(&request->validation);
}
