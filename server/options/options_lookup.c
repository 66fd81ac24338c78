#include "server/options/options_lookup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/options/secret_file.h"
#include "shm/common/memory.h"
#include "shm/common/text.h"

/* NULL after reporting the problem. */
static char *read_secret_file(const char *source, const char *path, struct problems *problems)
{
    struct error err = {0};
    char *content = secret_file_read(path, &err);
    if (!content)
        problems_add(problems, "%s='%s': %s", source, path, err.text);
    return content;
}

/* ---- the environment ---- */

static bool all_digits(const char *text)
{
    return *text && text[strspn(text, "0123456789")] == '\0';
}

static bool environment_counts(const char *name, const char *value)
{
    if (option_is_injected_port(name, value))
        return false;
    return *value && (strcmp(name, "OPAL_SERVER_PORT") != 0 || all_digits(value));
}

/* Takes NAME or NAME_FILE from the environment into `value`; false when neither is there. */
static bool look_up_variable(
    const struct option *option, const char *name, struct option_value *value, struct problems *problems)
{
    char file_name[OPTION_NAME_SIZE];
    const char *text = getenv(name);
    const char *path = NULL;
    if (text && !environment_counts(name, text))
        text = NULL;
    snprintf(file_name, sizeof file_name, "%s_FILE", name);
    if (option->secrecy != OPTION_OPEN)
        path = getenv(file_name);
    if (path && !*path)
        path = NULL;
    if (text && path) {
        problems_add(problems, "%s and %s: must not both be set", name, file_name);
        return true;
    }
    if (!text && !path)
        return false;
    value->source = memory_copy_string(path ? file_name : name);
    value->given = path ? read_secret_file(file_name, path, problems) : memory_copy_string(text);
    return true;
}

static void look_up_environment(
    const struct option *option, struct option_value *value, struct problems *problems)
{
    char name[OPTION_NAME_SIZE];
    if (!option->environment) {
        option_environment_name(option, name, sizeof name);
        look_up_variable(option, name, value, problems);
        return;
    }
    for (const char *const *each = option->environment; *each; each++) {
        if (look_up_variable(option, *each, value, problems))
            return;
    }
}

/* ---- flags ---- */

/* As the help shows it. */
static void flag_name(const struct option_flag *flag, char *out, size_t size)
{
    const char *alias = flag->option->flag_alias ? flag->option->flag_alias : "";
    size_t length = strcspn(alias, ",");
    option_flag_name(flag->option, out, size);
    if (length)
        snprintf(out, size, "--%.*s", (int)length, alias);
    if (flag->is_file)
        strncat(out, "-file", size - strlen(out) - 1);
}

/* The last one counts. */
static const struct option_flag *find_flag(const struct option_flags *flags, const struct option *option)
{
    for (size_t i = flags->count; i > 0; i--) {
        if (flags->items[i - 1].option == option)
            return &flags->items[i - 1];
    }
    return NULL;
}

static char *read_flag(const struct option_flag *flag, const char *name, struct problems *problems)
{
    return flag->is_file ? read_secret_file(name, flag->text, problems) : memory_copy_string(flag->text);
}

/* ---- settings: everything that is given counts ---- */

/* "a=1,b=2" as lines. A comma belongs to the value unless a key and '=' follow it
 * ("debug=broker,topic,linger.ms=5" has two settings); with lines in the text no comma separates. */
static void append_settings_variable(struct text *out, const char *text)
{
    bool lines = strchr(text, '\n') != NULL;
    for (; *text; text++) {
        size_t key = lines || *text != ',' ? 0 : strspn(text + 1, " ");
        key += key || *text == ',' ? strspn(text + 1 + key, "abcdefghijklmnopqrstuvwxyz0123456789._-") : 0;
        text_append_char(out, !lines && *text == ',' && key && text[1 + key] == '=' ? '\n' : *text);
    }
    text_append_char(out, '\n');
}

static void append_settings(struct text *out, char *content)
{
    if (!content)
        return;
    text_append_string(out, content);
    text_append_char(out, '\n');
    free(content);
}

/* The file that the environment names, then the variable, then the flags: the last setting of a key wins. */
static void look_up_settings(const struct option *option, const struct option_flags *flags,
    struct option_value *value, struct problems *problems)
{
    struct text all = {0};
    char name[OPTION_NAME_SIZE], file_name[OPTION_NAME_SIZE];
    option_environment_name(option, name, sizeof name);
    snprintf(file_name, sizeof file_name, "OPAL_%s_FILE", option->name);
    const char *text = getenv(name);
    const char *path = getenv(file_name);
    if (path && *path)
        append_settings(&all, read_secret_file(file_name, path, problems));
    if (text && *text)
        append_settings_variable(&all, text);
    if (!text && !path)
        option_flag_name(option, name, sizeof name);
    for (size_t i = 0; i < flags->count; i++) {
        if (flags->items[i].option != option)
            continue;
        char flag[OPTION_NAME_SIZE];
        flag_name(&flags->items[i], flag, sizeof flag);
        append_settings(&all, read_flag(&flags->items[i], flag, problems));
    }
    if (!all.length)
        return;
    value->source = memory_copy_string(name);
    value->given = all.data;
}

void option_look_up(const struct option *option, const struct option_flags *flags, struct option_value *value,
    struct problems *problems)
{
    const struct option_flag *flag = find_flag(flags, option);
    if (option->type == OPTION_SETTINGS) {
        look_up_settings(option, flags, value, problems);
    } else if (!flag) {
        look_up_environment(option, value, problems);
    } else if (*flag->text) {
        char name[OPTION_NAME_SIZE];
        flag_name(flag, name, sizeof name);
        value->source = memory_copy_string(name);
        value->given = read_flag(flag, name, problems);
    }
    if (value->given && !*value->given) { /* an empty file, as an empty variable */
        free(value->given);
        value->given = NULL;
    }
}
