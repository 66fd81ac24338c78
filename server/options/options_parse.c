/* What the text of an option means. Every parser takes the whole text or refuses it: nothing falls back
 * silently. */
#include "server/options/options_table.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "shm/common/json.h"
#include "shm/common/memory.h"
#include "shm/common/python.h"
#include "shm/common/text.h"

#define JSON_OPTION_DEPTH 64
#define LIST_TOKENS_MAX   100000

void config_list_free(struct config_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct config_list){0};
}

void option_meaning_free(struct option_meaning *meaning)
{
    config_list_free(&meaning->list);
    free(meaning->canonical);
    meaning->canonical = NULL;
}

const char *option_type_name(const struct option *option)
{
    switch (option->type) {
    case OPTION_BOOL:
        return "BOOLEAN";
    case OPTION_INT:
        return "NUMBER";
    case OPTION_FLOAT:
        return "SECONDS";
    case OPTION_SIZE:
        return "BYTES";
    case OPTION_LIST:
        return "LIST";
    case OPTION_JSON:
        return "JSON";
    case OPTION_SETTINGS:
        return "KEY=VALUE";
    case OPTION_LOG_LEVEL:
        return "LEVEL";
    case OPTION_WORKERS:
        return "NUMBER|auto";
    case OPTION_ENUM:
        return option->choices;
    case OPTION_STRING:
        break;
    }
    return "TEXT";
}

static char *format_copy(const char *format, double value)
{
    char text[64];
    snprintf(text, sizeof text, format, value);
    return memory_copy_string(text);
}

/* ---- numbers ---- */

/* As Python's int(): white space around, a sign, underscores between digits. */
static bool parse_integer(const char *text, const char **end, int64_t *out)
{
    uint64_t value = 0;
    bool negative = false;
    while (text_is_space(*text))
        text++;
    if (*text == '+' || *text == '-')
        negative = *text++ == '-';
    if (*text < '0' || *text > '9')
        return false;
    while ((*text >= '0' && *text <= '9') || (*text == '_' && text[1] >= '0' && text[1] <= '9')) {
        if (*text != '_') {
            if (value > (UINT64_MAX >> 2) / 10) /* far above every limit */
                return false;
            value = value * 10 + (uint64_t)(*text - '0');
        }
        text++;
    }
    *out = negative ? -(int64_t)value : (int64_t)value;
    *end = text;
    return true;
}

static bool only_space(const char *text)
{
    while (text_is_space(*text))
        text++;
    return *text == '\0';
}

static bool in_limits(const struct option *option, double value)
{
    return value >= option->minimum && value <= option->maximum;
}

static int want_integer(const struct option *option, struct error *err)
{
    if (option->minimum < -1e15) /* no real limits */
        return error_set(err, EINVAL, "a whole number");
    return error_set(err, EINVAL, "a whole number from %.0f to %.0f", option->minimum, option->maximum);
}

static int parse_int(
    const struct option *option, const char *text, struct option_meaning *meaning, struct error *err)
{
    const char *end;
    if (!parse_integer(text, &end, &meaning->integer) || !only_space(end) ||
        !in_limits(option, (double)meaning->integer))
        return want_integer(option, err);
    meaning->canonical = format_copy("%.0f", (double)meaning->integer);
    return 0;
}

static int parse_workers(
    const struct option *option, const char *text, struct option_meaning *meaning, struct error *err)
{
    if (strcasecmp(text, "auto") == 0) {
        meaning->integer = 0;
        meaning->canonical = memory_copy_string("auto");
        return 0;
    }
    if (parse_int(option, text, meaning, err) == 0)
        return 0;
    return error_set(
        err, EINVAL, "auto or a whole number from %.0f to %.0f", option->minimum, option->maximum);
}

/* "%.0f bytes" in the largest unit that shows it whole. */
static void format_size(double bytes, char *out, size_t size)
{
    static const char units[] = {0, 'k', 'm', 'g'};
    size_t unit = 0;
    while (unit < 3 && bytes >= 1024 && fmod(bytes, 1024) == 0) {
        bytes /= 1024;
        unit++;
    }
    if (units[unit])
        snprintf(out, size, "%.0f%c", bytes, units[unit]);
    else
        snprintf(out, size, "%.0f", bytes);
}

static bool parse_unit(const char *text, int *shift)
{
    static const char *const units[3][4] = {
        {"k", "kb", "kib", NULL}, {"m", "mb", "mib", NULL}, {"g", "gb", "gib", NULL}};
    char unit[4];
    size_t length = 0;
    *shift = 0;
    while (text_is_space(*text))
        text++;
    while (text[length] && !text_is_space(text[length]))
        length++;
    if (!only_space(text + length) || length > 3)
        return false;
    memcpy(unit, text, length);
    unit[length] = '\0';
    if (length == 0 || strcasecmp(unit, "b") == 0)
        return true;
    for (int i = 0; i < 3; i++) {
        for (int k = 0; units[i][k]; k++) {
            if (strcasecmp(unit, units[i][k]) == 0) {
                *shift = 10 * (i + 1);
                return true;
            }
        }
    }
    return false;
}

static int parse_size(
    const struct option *option, const char *text, struct option_meaning *meaning, struct error *err)
{
    const char *end;
    int shift;
    if (!parse_integer(text, &end, &meaning->integer) || !parse_unit(end, &shift) ||
        !in_limits(option, ldexp((double)meaning->integer, shift))) {
        char least[32], most[32];
        format_size(option->minimum, least, sizeof least);
        format_size(option->maximum, most, sizeof most);
        return error_set(err, EINVAL, "a size from %s to %s, in bytes or with k, m or g (1024, 1024k, 1024m)",
            least, most);
    }
    meaning->integer *= INT64_C(1) << shift; /* within the limits, so it does not overflow */
    meaning->canonical = format_copy("%.0f", (double)meaning->integer);
    return 0;
}

static int parse_float(
    const struct option *option, const char *text, struct option_meaning *meaning, struct error *err)
{
    char *end;
    errno = 0;
    meaning->number = strtod(text, &end);
    /* strtod takes hexadecimal, inf and nan as well, which nobody means here */
    bool plain = end != text && strspn(text, " \t\n\r+-.0123456789eE") >= (size_t)(end - text);
    if (errno || !plain || !only_space(end) || !in_limits(option, meaning->number)) {
        if (option->minimum < -1e15)
            return error_set(err, EINVAL, "a number");
        return error_set(err, EINVAL, "a number of seconds from %g to %g", option->minimum, option->maximum);
    }
    struct text canonical = {0};
    python_append_float(&canonical, meaning->number);
    meaning->canonical = canonical.data;
    return 0;
}

/* ---- words ---- */

static int parse_bool(const char *text, struct option_meaning *meaning, struct error *err)
{
    static const char *const words[2][7] = {
        {"false", "0", "no", "off", "f", "n", NULL}, {"true", "1", "yes", "on", "t", "y", NULL}};
    for (int value = 0; value < 2; value++) {
        for (int i = 0; words[value][i]; i++) {
            if (strcasecmp(text, words[value][i]) == 0) {
                meaning->boolean = value;
                meaning->canonical = memory_copy_string(value ? "True" : "False");
                return 0;
            }
        }
    }
    return error_set(err, EINVAL, "true or false (or 1/0, yes/no, on/off)");
}

static int parse_enum(
    const struct option *option, const char *text, struct option_meaning *meaning, struct error *err)
{
    size_t length = strlen(text);
    const char *choice = option->choices;
    for (;;) {
        size_t choice_length = strcspn(choice, "|");
        if (choice_length == length && memcmp(choice, text, length) == 0) {
            meaning->canonical = memory_copy_string(text);
            return 0;
        }
        if (!choice[choice_length])
            break;
        choice += choice_length + 1;
    }
    return error_set(err, EINVAL, "one of %s (case matters)", option->choices);
}

static int parse_level(const char *text, struct option_meaning *meaning, struct error *err)
{
    if (!log_level_parse(text, &meaning->level))
        return error_set(err, EINVAL, "one of TRACE, DEBUG, INFO, WARNING, ERROR, CRITICAL");
    meaning->canonical = memory_copy_string(text);
    for (char *at = meaning->canonical; *at; at++) {
        if (*at >= 'a' && *at <= 'z')
            *at = (char)(*at - 'a' + 'A');
    }
    return 0;
}

static int parse_json(const char *text, struct option_meaning *meaning, struct error *err)
{
    struct json_document document = {0};
    if (json_check(&document, text, strlen(text), JSON_OPTION_DEPTH) != JSON_OK)
        return error_set(
            err, EINVAL, "JSON (%s, at character %zu)", document.message, document.error_character);
    meaning->canonical = memory_copy_string(text);
    return 0;
}

/* ---- lists ---- */

static void list_add(struct config_list *list, struct text *item, bool quoted)
{
    struct slice trimmed = slice_trim(text_slice(item), TEXT_SPACES);
    if (trimmed.length > 0 || quoted) {
        list->items = memory_resize(list->items, (list->count + 1) * sizeof *list->items);
        list->items[list->count++] = memory_copy(trimmed.data, trimmed.length);
    }
    text_clear(item);
}

/* Comma separated with quotes and backslashes as in a shell; white space around an item is dropped, and so
 * are empty items without quotes. False when a quote is not closed. */
static bool list_split(const char *text, struct config_list *list)
{
    struct text item = {0};
    bool quoted = false;
    char quote = '\0';
    for (; *text; text++) {
        if (quote) {
            if (*text == quote)
                quote = '\0';
            else if (quote == '"' && *text == '\\' && (text[1] == '"' || text[1] == '\\'))
                text_append_char(&item, *++text);
            else
                text_append_char(&item, *text);
        } else if (*text == '"' || *text == '\'') {
            quote = *text;
            quoted = true;
        } else if (*text == '\\' && text[1]) {
            text_append_char(&item, *++text);
        } else if (*text == ',') {
            list_add(list, &item, quoted);
            quoted = false;
        } else {
            text_append_char(&item, *text);
        }
    }
    list_add(list, &item, quoted);
    text_free(&item);
    return quote == '\0';
}

static void list_add_string(struct config_list *list, const struct json_document *document, uint32_t token)
{
    struct text item = {0};
    json_string_decode(document, token, &item);
    list->items = memory_resize(list->items, (list->count + 1) * sizeof *list->items);
    list->items[list->count++] = memory_copy_string(text_slice(&item).data);
    text_free(&item);
}

/* ["a", "b"], as charts and Compose files write lists. False: it is no JSON array of strings, and `list` is
 * empty. */
static bool list_read_json(const char *text, struct config_list *list)
{
    struct json_document document = {0};
    bool good = text[strspn(text, TEXT_SPACES)] == '[' &&
                json_parse(&document, text, strlen(text), 1, LIST_TOKENS_MAX) == JSON_OK;
    for (uint32_t i = 1; good && i < document.tokens[0].next; i = document.tokens[i].next)
        good = document.tokens[i].type == JSON_STRING;
    for (uint32_t i = 1; good && i < document.tokens[0].next; i = document.tokens[i].next)
        list_add_string(list, &document, i);
    json_free(&document);
    return good;
}

/* "rego" and "*.rego" mean ".rego". An empty one means files without an extension. */
static void list_add_dots(struct config_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        struct text dotted = {0};
        const char *item = list->items[i];
        if (item[0] == '\0' || item[0] == '.')
            continue;
        item += item[0] == '*' && item[1] == '.';
        text_append_format(&dotted, "%s%s", item[0] == '.' ? "" : ".", item);
        free(list->items[i]);
        list->items[i] = dotted.data;
    }
}

static int parse_list(
    const struct option *option, const char *text, struct option_meaning *meaning, struct error *err)
{
    struct text shown = {0};
    if (!list_read_json(text, &meaning->list) && !list_split(text, &meaning->list)) {
        config_list_free(&meaning->list);
        return error_set(err, EINVAL, "items separated by commas; a quote is not closed");
    }
    if (option->extensions)
        list_add_dots(&meaning->list);
    text_append_char(&shown, '[');
    for (size_t i = 0; i < meaning->list.count; i++) {
        if (i)
            text_append_string(&shown, ", ");
        python_append_string(&shown, slice_from_string(meaning->list.items[i]));
    }
    text_append_char(&shown, ']');
    meaning->canonical = shown.data;
    return 0;
}

/* ---- settings ---- */

/* Canonical: "key=value" and a line feed each, without comments. The values may be secret: no message shows
 * one. */
static int parse_settings(const char *text, struct option_meaning *meaning, struct error *err)
{
    struct text lines = {0};
    size_t number = 0;
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        struct slice whole = slice_trim((struct slice){line, strcspn(line, "\n")}, TEXT_SPACES);
        number++;
        if (!whole.length || *whole.data == '#')
            continue;
        const char *equals = memchr(whole.data, '=', whole.length);
        size_t key_length = equals ? (size_t)(equals - whole.data) : whole.length;
        struct slice key = slice_trim((struct slice){whole.data, key_length}, TEXT_SPACES);
        if (!equals || !key.length ||
            strspn(key.data, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") <
                key.length) {
            text_free(&lines);
            return error_set(err, EINVAL,
                "key=value, one a line, with # before comments; number %zu has no = or no proper key",
                number);
        }
        text_append_slice(&lines, key);
        text_append_char(&lines, '=');
        struct slice value = {equals + 1, whole.length - key_length - 1};
        text_append_slice(&lines, slice_trim(value, TEXT_SPACES));
        text_append_char(&lines, '\n');
    }
    meaning->canonical = lines.data ? lines.data : memory_copy_string("");
    return 0;
}

int option_parse(
    const struct option *option, const char *text, struct option_meaning *meaning, struct error *err)
{
    *meaning = (struct option_meaning){0};
    switch (option->type) {
    case OPTION_BOOL:
        return parse_bool(text, meaning, err);
    case OPTION_INT:
        return parse_int(option, text, meaning, err);
    case OPTION_FLOAT:
        return parse_float(option, text, meaning, err);
    case OPTION_SIZE:
        return parse_size(option, text, meaning, err);
    case OPTION_LIST:
        return parse_list(option, text, meaning, err);
    case OPTION_ENUM:
        return parse_enum(option, text, meaning, err);
    case OPTION_JSON:
        return parse_json(text, meaning, err);
    case OPTION_SETTINGS:
        return parse_settings(text, meaning, err);
    case OPTION_LOG_LEVEL:
        return parse_level(text, meaning, err);
    case OPTION_WORKERS:
        return parse_workers(option, text, meaning, err);
    case OPTION_STRING:
        break;
    }
    meaning->canonical = memory_copy_string(text);
    return 0;
}
