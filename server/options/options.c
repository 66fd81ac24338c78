/* Scanning the command line, looking up values, storing them. The table is in options_table.c, the parsers are in
 * options_parse.c. */
#include "server/options/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/log_redact.h"
#include "shm/common/memory.h"
#include "shm/common/python.h"
#include "shm/common/text.h"
#include "server/options/options_table.h"
#include "server/options/secret_file.h"
#include "server/options/worker_count.h"

#define NAME_MAX_BYTES    96
#define WORKERS_MAX_LEAST 16
#define VALUE_SHOWN_MAX   120

extern char **environ;

struct flag_value {
    const char *text; /* NULL: flag not given */
    bool is_file;
    struct text settings; /* OPTION_SETTINGS: of all such flags, in their order */
};

struct loader {
    struct config *config;
    struct flag_value *flags; /* one per row */
    options_report *report;
    void *context;
    size_t problems;
};

/* ---- names ---- */

void option_flag_name(const struct option *option, char *out, size_t size)
{
    size_t length = (size_t)snprintf(out, size, "--%s", option->name);
    for (size_t i = 0; i < length && i < size; i++)
        out[i] = out[i] == '_' ? '-' : (char)tolower((unsigned char)out[i]);
}

void option_environment_name(const struct option *option, char *out, size_t size)
{
    snprintf(out, size, "OPAL_%s", option->name);
}

const struct option *option_find(const char *name)
{
    for (size_t i = 0; i < options_table_count; i++) {
        if (strcmp(options_table[i].name, name) == 0)
            return &options_table[i];
    }
    return NULL;
}

static size_t option_index(const struct option *option)
{
    return (size_t)(option - options_table);
}

static bool alias_matches(const char *aliases, const char *name, size_t length)
{
    while (aliases && *aliases) {
        size_t alias_length = strcspn(aliases, ",");
        if (alias_length == length && strncmp(aliases, name, length) == 0)
            return true;
        aliases += alias_length;
        aliases += *aliases == ',';
    }
    return false;
}

/* `name` without its dashes, `length` bytes long. */
static const struct option *option_find_flag(const char *name, size_t length)
{
    for (size_t i = 0; i < options_table_count; i++) {
        char flag[NAME_MAX_BYTES];
        option_flag_name(&options_table[i], flag, sizeof flag);
        if ((strlen(flag + 2) == length && strncmp(flag + 2, name, length) == 0) ||
            alias_matches(options_table[i].flag_alias, name, length))
            return &options_table[i];
    }
    return NULL;
}

/* ---- problems ---- */

static void problem(struct loader *loader, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void problem(struct loader *loader, const char *format, ...)
{
    char line[ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    loader->problems++;
    loader->report(loader->context, line);
}

static void problem_value(struct loader *loader, const struct option *option, const char *source,
    const char *value, const char *wanted)
{
    struct text shown = {0};
    if (option->secrecy == OPTION_OPEN) {
        text_append_char(&shown, '=');
        python_append_string(&shown, slice_from_string(value));
        if (shown.length > VALUE_SHOWN_MAX) {
            shown.length = VALUE_SHOWN_MAX;
            text_append_string(&shown, "...");
        }
    } else {
        text_append_string(&shown, " (value not shown)");
    }
    problem(loader, "%s%s: must be %s", source, shown.data, wanted);
    text_free(&shown);
}

/* ---- the command line ---- */

static void command_add_argument(struct options_command *command, char *argument)
{
    size_t count = (size_t)command->argument_count;
    command->arguments = memory_resize(command->arguments, (count + 2) * sizeof *command->arguments);
    command->arguments[count] = argument;
    command->arguments[count + 1] = NULL;
    command->argument_count++;
}

void options_command_free(struct options_command *command)
{
    free(command->arguments);
    *command = (struct options_command){0};
}

static char *read_secret_file(struct loader *loader, const char *source, const char *path);

static void add_settings_flag(struct loader *loader, const struct option *option, struct flag_value *flag)
{
    char name[NAME_MAX_BYTES];
    option_flag_name(option, name, sizeof name);
    strncat(name, "-file", sizeof name - strlen(name) - 1);
    char *content = flag->is_file ? read_secret_file(loader, name, flag->text) : NULL;
    if (content || !flag->is_file) {
        text_append_string(&flag->settings, content ? content : flag->text);
        text_append_char(&flag->settings, '\n');
    }
    free(content);
}

/* A "--name[=value]" of the table: remembers it, and tells how many arguments it took; 0 when it is none of the
 * table's. */
static int scan_flag(struct loader *loader, char **argv, int left)
{
    const char *name = argv[0] + 2;
    const char *equals = strchr(name, '=');
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    bool is_file = false;
    const struct option *option = option_find_flag(name, length);
    if (!option && length > 5 && strncmp(name + length - 5, "-file", 5) == 0) {
        option = option_find_flag(name, length - 5);
        if (option && option->secrecy == OPTION_OPEN)
            option = NULL;
        is_file = true;
    }
    if (!option)
        return 0;
    if (!equals && left < 2) {
        problem(loader, "--%s: a value is missing (%s)", name, option_type_name(option));
        return 1;
    }
    struct flag_value *flag = &loader->flags[option_index(option)];
    flag->text = equals ? equals + 1 : argv[1];
    flag->is_file = is_file;
    if (option->type == OPTION_SETTINGS)
        add_settings_flag(loader, option, flag);
    return equals ? 1 : 2;
}

/* Commands with options of their own get everything behind their name as it stands. */
static bool command_keeps_arguments(const char *name)
{
    return strcmp(name, "publish-data-update") == 0 || strcmp(name, "obtain-token") == 0 ||
           strcmp(name, "generate-secret") == 0;
}

static void scan_arguments(struct loader *loader, int argc, char **argv, struct options_command *command)
{
    for (int i = 1; i < argc;) {
        char *argument = argv[i];
        if (command->name && command_keeps_arguments(command->name)) {
            command_add_argument(command, argument);
            i++;
        } else if (i == 1 && strcmp(argument, "--as-worker") == 0) {
            command->as_worker = true;
            i++;
        } else if (i == 1 && strcmp(argument, "--as-bundle-builder") == 0) {
            command->as_bundle_builder = true;
            i++;
        } else if (i == 1 && strcmp(argument, "--as-bundle-fetcher") == 0) {
            command->as_bundle_fetcher = true;
            i++;
        } else if (i == 1 && strcmp(argument, "--as-policy") == 0) {
            command->as_policy = true;
            i++;
        } else if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
            command->help = true;
            i++;
        } else if (strcmp(argument, "--version") == 0 && !command->name) {
            command->version = true;
            i++;
        } else if (strncmp(argument, "--", 2) == 0 && argument[2]) {
            int taken = scan_flag(loader, argv + i, argc - i);
            if (!taken && command->name)
                command_add_argument(command, argument);
            else if (!taken)
                problem(loader, "%s: no such option; 'opald --help' lists them", argument);
            i += taken ? taken : 1;
        } else {
            if (!command->name)
                command->name = argument;
            else
                command_add_argument(command, argument);
            i++;
        }
    }
}

/* ---- the value of one option ---- */

/* NULL after telling the problem. */
static char *read_secret_file(struct loader *loader, const char *source, const char *path)
{
    struct error err = {0};
    char *content = secret_file_read(path, &err);
    if (!content)
        problem(loader, "%s='%s': %s", source, path, err.text);
    return content;
}

static bool all_digits(const char *text)
{
    return *text && text[strspn(text, "0123456789")] == '\0';
}

/* Kubernetes gives each pod OPAL_SERVER_PORT=tcp://10.0.0.1:7002 when a service is called opal-server. */
static bool environment_counts(const char *name, const char *value)
{
    return *value && (strcmp(name, "OPAL_SERVER_PORT") != 0 || all_digits(value));
}

/* Takes NAME or NAME_FILE from the environment into `value`; false when neither is there. */
static bool look_up_variable(
    struct loader *loader, const struct option *option, const char *name, struct option_value *value)
{
    char file_name[NAME_MAX_BYTES];
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
        problem(loader, "%s and %s: must not both be set", name, file_name);
        return true;
    }
    if (!text && !path)
        return false;
    value->source_owned = memory_copy_string(path ? file_name : name);
    value->given = path ? read_secret_file(loader, file_name, path) : memory_copy_string(text);
    return true;
}

static void look_up_environment(
    struct loader *loader, const struct option *option, struct option_value *value)
{
    char name[NAME_MAX_BYTES];
    if (!option->environment) {
        option_environment_name(option, name, sizeof name);
        look_up_variable(loader, option, name, value);
        return;
    }
    for (const char *const *each = option->environment; *each; each++) {
        if (look_up_variable(loader, option, *each, value))
            return;
    }
}

/* "a=1,b=2" as lines. A comma belongs to the value unless a key and '=' follow it ("debug=broker,topic,linger.ms=5" has two settings);
 * with lines in the text no comma separates. */
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

/* The file that the environment names, then the variable, then the flags: the last setting of a key holds. */
static void look_up_settings(struct loader *loader, const struct option *option, struct option_value *value)
{
    struct flag_value *flag = &loader->flags[option_index(option)];
    struct text all = {0};
    char name[NAME_MAX_BYTES], file_name[NAME_MAX_BYTES];
    option_environment_name(option, name, sizeof name);
    snprintf(file_name, sizeof file_name, "OPAL_%s_FILE", option->name);
    const char *text = getenv(name);
    const char *path = getenv(file_name);
    char *content = path && *path ? read_secret_file(loader, file_name, path) : NULL;
    if (content) {
        text_append_string(&all, content);
        text_append_char(&all, '\n');
    }
    if (text && *text)
        append_settings_variable(&all, text);
    text_append_slice(&all, text_slice(&flag->settings));
    if (!text && !path)
        option_flag_name(option, name, sizeof name);
    if (all.length) {
        value->source_owned = memory_copy_string(name);
        value->source = value->source_owned;
        value->given = all.data;
    } else {
        text_free(&all);
    }
    free(content);
}

static void look_up(struct loader *loader, const struct option *option, struct option_value *value)
{
    if (option->type == OPTION_SETTINGS) {
        look_up_settings(loader, option, value);
        return;
    }
    const struct flag_value *flag = &loader->flags[option_index(option)];
    char name[NAME_MAX_BYTES];
    if (!flag->text) {
        look_up_environment(loader, option, value);
    } else if (*flag->text) {
        size_t length = strcspn(option->flag_alias ? option->flag_alias : "", ",");
        option_flag_name(option, name, sizeof name);
        if (length)
            snprintf(name, sizeof name, "--%.*s", (int)length, option->flag_alias);
        if (flag->is_file)
            strncat(name, "-file", sizeof name - strlen(name) - 1);
        value->source_owned = memory_copy_string(name);
        value->given =
            flag->is_file ? read_secret_file(loader, name, flag->text) : memory_copy_string(flag->text);
    }
    if (value->given && !*value->given) { /* an empty file, as an empty variable */
        free(value->given);
        value->given = NULL;
    }
    value->source = value->source_owned;
}

/* ---- storing ---- */

static void store(struct config *config, const struct option *option, struct option_meaning *meaning)
{
    if (option->offset == OPTION_NOWHERE)
        return;
    void *where = (char *)config + option->offset;
    switch (option->type) {
    case OPTION_STRING:
    case OPTION_ENUM:
    case OPTION_JSON:
    case OPTION_SETTINGS:
        *(const char **)where = memory_copy_string(meaning->canonical);
        break;
    case OPTION_BOOL:
        *(bool *)where = meaning->boolean;
        break;
    case OPTION_INT:
    case OPTION_SIZE:
    case OPTION_WORKERS:
        *(int64_t *)where = meaning->integer;
        break;
    case OPTION_FLOAT:
        *(double *)where = meaning->number;
        break;
    case OPTION_LOG_LEVEL:
        *(enum log_level *)where = meaning->level;
        break;
    case OPTION_LIST:
        *(struct config_list *)where = meaning->list;
        meaning->list = (struct config_list){0};
        break;
    }
}

/* The default's canonical text, NULL for none. A default that does not parse is a mistake in the table. */
static char *default_canonical(const struct option *option, struct option_meaning *meaning)
{
    struct error err = {0};
    *meaning = (struct option_meaning){0};
    if (!option->default_text)
        return NULL;
    if (option_parse(option, option->default_text, meaning, &err) < 0) {
        fprintf(stderr, "opald: the default of %s is wrong: %s\n", option->name, err.text);
        abort();
    }
    return meaning->canonical;
}

static void load_one(struct loader *loader, const struct option *option)
{
    struct option_value *value = &loader->config->values->items[option_index(option)];
    struct option_meaning fallback;
    struct option_meaning meaning = {0};
    struct error err = {0};
    const char *by_default = default_canonical(option, &fallback);
    look_up(loader, option, value);
    if (value->given && option_parse(option, value->given, &meaning, &err) < 0) {
        problem_value(loader, option, value->source, value->given, err.text);
        option_meaning_free(&meaning);
        meaning = (struct option_meaning){0};
    }
    if (meaning.canonical) {
        value->differs = !by_default || strcmp(by_default, meaning.canonical) != 0;
        value->canonical = memory_copy_string(meaning.canonical);
        store(loader->config, option, &meaning);
    } else if (by_default) {
        value->canonical = memory_copy_string(by_default);
        store(loader->config, option, &fallback);
    }
    option_meaning_free(&meaning);
    option_meaning_free(&fallback);
}

static void replace_canonical(struct config *config, const char *name, const char *text)
{
    struct option_value *value = &config->values->items[option_index(option_find(name))];
    free(value->canonical);
    value->canonical = memory_copy_string(text);
}

/* Defaults that depend on other values. */
static void derive(struct config *config)
{
    struct option_value *url = &config->values->items[option_index(option_find("ALL_DATA_URL"))];
    struct text text = {0};
    const char *to_stderr = config->values->items[option_index(option_find("LOG_PIPE_TO_STDERR"))].canonical;
    config->log.to_stdout = strcmp(to_stderr, "False") == 0;
    if (!url->given) {
        text_append_format(&text, "http://localhost:7002%s", config->all_data_route);
        free((char *)config->all_data_url);
        config->all_data_url = memory_copy_string(text.data);
        replace_canonical(config, "ALL_DATA_URL", text.data);
    }
    if (!config->workers)
        config->workers = worker_count_auto();
    const struct option *workers = option_find("SERVER_WORKER_COUNT");
    if (config->workers > (int64_t)workers->maximum)
        config->workers = (int64_t)workers->maximum;
    if (!config->workers_max)
        config->workers_max = config->workers > WORKERS_MAX_LEAST ? config->workers : WORKERS_MAX_LEAST;
    text_free(&text);
}

size_t options_load_all(struct config *config, int argc, char **argv, struct options_command *command,
    options_report *report, void *context)
{
    struct loader loader = {.config = config, .report = report, .context = context};
    *config = (struct config){0};
    *command = (struct options_command){0};
    config->values = memory_allocate(sizeof *config->values);
    config->values->items = memory_allocate(options_table_count * sizeof *config->values->items);
    loader.flags = memory_allocate(options_table_count * sizeof *loader.flags);
    scan_arguments(&loader, argc, argv, command);
    if (!command->help && !command->version && command->name) {
        for (size_t i = 0; i < options_table_count; i++)
            load_one(&loader, &options_table[i]);
        derive(config);
        if (!loader.problems)
            loader.problems += config_check(config, report, context);
    }
    for (size_t i = 0; i < options_table_count; i++)
        text_free(&loader.flags[i].settings);
    free(loader.flags);
    return loader.problems;
}

static void keep_first(void *context, const char *line)
{
    struct error *err = context;
    if (err && !err->code)
        error_set(err, EINVAL, "%s", line);
}

int options_load(
    struct config *config, int argc, char **argv, struct options_command *command, struct error *err)
{
    if (err)
        err->code = 0;
    return options_load_all(config, argc, argv, command, keep_first, err) ? -1 : 0;
}

/* ---- what was given and does nothing ---- */

void options_log_unused(const struct config *config)
{
    for (size_t i = 0; i < options_table_count; i++) {
        const struct option_value *value = &config->values->items[i];
        if (options_table[i].status == OPTION_UNUSED && value->differs)
            log_write(LOG_WARNING, LOGGER_OPTIONS, "%s is accepted, not used by this version", value->source);
    }
}

/* OPAL_SERVER_SERVICE_HOST and its like come from Kubernetes, not from the user. */
static bool is_injected(const char *name, size_t length)
{
    return memmem(name, length, "_SERVICE_", 9) || memmem(name, length, "_PORT_", 6) ||
           (length == strlen("OPAL_SERVER_PORT") && memcmp(name, "OPAL_SERVER_PORT", length) == 0);
}

static bool is_known_variable(const char *name, size_t length)
{
    for (size_t i = 0; i < options_table_count; i++) {
        const struct option *option = &options_table[i];
        char own[NAME_MAX_BYTES];
        option_environment_name(option, own, sizeof own);
        const char *single[] = {own, NULL};
        for (const char *const *each = option->environment ? option->environment : single; *each; each++) {
            size_t each_length = strlen(*each);
            if (strncmp(name, *each, each_length) != 0)
                continue;
            if (length == each_length || (option->secrecy != OPTION_OPEN && length == each_length + 5 &&
                                             strncmp(name + each_length, "_FILE", 5) == 0))
                return true;
        }
    }
    return false;
}

size_t options_report_unknown(options_report *report, void *context)
{
    size_t count = 0;
    for (char **each = environ; *each; each++) {
        size_t length = strcspn(*each, "=");
        char line[ERROR_TEXT_MAX];
        if (strncmp(*each, "OPAL_", 5) != 0 || is_injected(*each, length) || is_known_variable(*each, length))
            continue;
        snprintf(line, sizeof line, "%.*s: no option of this server has this name", (int)length, *each);
        report(context, line);
        count++;
    }
    return count;
}
