/* From what was given to struct config: each option is looked up, read, stored; then what depends on
 * several options. */
#include "server/options/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/options/options_arguments.h"
#include "server/options/options_check.h"
#include "server/options/options_lookup.h"
#include "server/options/options_table.h"
#include "server/options/worker_count.h"
#include "shm/common/memory.h"
#include "shm/common/python.h"
#include "shm/common/text.h"

#define WORKERS_MAX_LEAST 16
#define VALUE_SHOWN_MAX   120

/* ---- one option ---- */

static void report_value(struct problems *problems, const struct option *option,
    const struct option_value *value, const char *wanted)
{
    struct text shown = {0};
    if (option->secrecy == OPTION_OPEN) {
        text_append_char(&shown, '=');
        python_append_string(&shown, slice_from_string(value->given));
        if (shown.length > VALUE_SHOWN_MAX) {
            shown.length = VALUE_SHOWN_MAX;
            text_append_string(&shown, "...");
        }
    } else {
        text_append_string(&shown, " (value not shown)");
    }
    problems_add(problems, "%s%s: must be %s", value->source, shown.data, wanted);
    text_free(&shown);
}

/* Fields that are not negative, which the limits of their options say, are unsigned. */
static void store_integer(void *where, size_t width, int64_t value)
{
    const uint32_t narrow = (uint32_t)value;
    if (width == sizeof narrow)
        memcpy(where, &narrow, sizeof narrow);
    else
        memcpy(where, &value, sizeof value);
}

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
        store_integer(where, option->width, meaning->integer);
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

static void load_one(struct options *options, const struct option *option, const struct option_flags *flags,
    struct problems *problems)
{
    struct option_value *value = &options->values[option_index(option)];
    struct option_meaning fallback;
    struct option_meaning meaning = {0};
    struct error err = {0};
    const char *by_default = default_canonical(option, &fallback);
    option_look_up(option, flags, value, problems);
    if (value->given && option_parse(option, value->given, &meaning, &err) < 0) {
        report_value(problems, option, value, err.text);
        option_meaning_free(&meaning);
        meaning = (struct option_meaning){0};
    }
    if (meaning.canonical) {
        value->differs = !by_default || strcmp(by_default, meaning.canonical) != 0;
        value->canonical = memory_copy_string(meaning.canonical);
        store(&options->config, option, &meaning);
    } else if (by_default) {
        value->canonical = memory_copy_string(by_default);
        store(&options->config, option, &fallback);
    }
    option_meaning_free(&meaning);
    option_meaning_free(&fallback);
}

/* ---- defaults that depend on other values ---- */

static struct option_value *value_of(struct options *options, const char *name)
{
    return &options->values[option_index(option_find(name))];
}

static void derive_all_data_url(struct options *options)
{
    struct option_value *url = value_of(options, "ALL_DATA_URL");
    struct config *config = &options->config;
    struct text text = {0};
    if (url->given)
        return;
    text_append_format(&text, "http://localhost:7002%s", config->all_data_route);
    free((char *)config->all_data_url);
    config->all_data_url = memory_copy_string(text.data);
    free(url->canonical);
    url->canonical = memory_copy_string(text.data);
    text_free(&text);
}

static void derive_workers(struct config *config)
{
    unsigned maximum = (unsigned)option_find("SERVER_WORKER_COUNT")->maximum;
    if (!config->workers)
        config->workers = (unsigned)worker_count_auto();
    if (config->workers > maximum)
        config->workers = maximum;
    if (!config->workers_max)
        config->workers_max = config->workers > WORKERS_MAX_LEAST ? config->workers : WORKERS_MAX_LEAST;
    config->memory.slots = config->workers_max + 1; /* the last one is the policy process's */
}

/* ---- all ---- */

size_t options_load(struct options *options, int argc, char **argv, struct options_command *command,
    problem_report *report, void *context)
{
    struct problems problems = {.report = report, .context = context};
    struct option_flags flags;
    *options = (struct options){.values = memory_allocate(options_table_count * sizeof *options->values)};
    options_scan_arguments(argc, argv, command, &flags, &problems);
    if (!command->help && !command->version && command->name) {
        for (size_t i = 0; i < options_table_count; i++)
            load_one(options, &options_table[i], &flags, &problems);
        options->config.log.to_stdout =
            strcmp(value_of(options, "LOG_PIPE_TO_STDERR")->canonical, "False") == 0;
        derive_all_data_url(options);
        derive_workers(&options->config);
        if (!problems.count)
            options_check(options, &problems);
    }
    free(flags.items);
    return problems.count;
}

static void free_stored(struct config *config, const struct option *option)
{
    if (option->offset == OPTION_NOWHERE)
        return;
    void *where = (char *)config + option->offset;
    if (option->type == OPTION_STRING || option->type == OPTION_JSON || option->type == OPTION_ENUM ||
        option->type == OPTION_SETTINGS)
        free(*(char **)where);
    else if (option->type == OPTION_LIST)
        config_list_free(where);
}

void options_free(struct options *options)
{
    for (size_t i = 0; options->values && i < options_table_count; i++) {
        struct option_value *value = &options->values[i];
        free(value->given);
        free(value->canonical);
        free(value->source);
        free_stored(&options->config, &options_table[i]);
    }
    free(options->values);
    *options = (struct options){0};
}
