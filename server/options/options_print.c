/* The table as people read it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/text.h"
#include "shm/common/url_display.h"
#include "server/options/options.h"
#include "server/options/options_table.h"

static const char *const section_titles[SECTION_COUNT] = {
    [SECTION_PROCESS] = "Process",
    [SECTION_BACKBONE] = "Backbone",
    [SECTION_EVENTS] = "Events and JSON",
    [SECTION_HTTP] = "HTTP",
    [SECTION_CLIENTS] = "Clients",
    [SECTION_POLICY] = "Policy",
    [SECTION_AUTH] = "Authentication",
    [SECTION_MEMORY] = "Shared memory and workers",
    [SECTION_LOG] = "Log and metrics",
    [SECTION_REFERENCE] = "Options of opal-server that this version does not act on",
};

static void append_flags(struct text *out, const struct option *option, const char *around)
{
    char name[OPTION_NAME_SIZE];
    const char *alias = option->flag_alias;
    while (alias && *alias) {
        size_t length = strcspn(alias, ",");
        text_append_format(out, "%s--%.*s%s, ", around, (int)length, alias, around);
        alias += length;
        alias += *alias == ',';
    }
    option_flag_name(option, name, sizeof name);
    text_append_format(out, "%s%s%s", around, name, around);
}

static void append_variables(struct text *out, const struct option *option, const char *around)
{
    char name[OPTION_NAME_SIZE];
    option_environment_name(option, name, sizeof name);
    const char *single[] = {name, NULL};
    for (const char *const *each = option->environment ? option->environment : single; *each; each++)
        text_append_format(out, "%s%s%s%s", each == option->environment || each == single ? "" : ", ", around,
            *each, around);
}

static const char *shown_default(const struct option *option)
{
    return option->default_text ? option->default_text : "not set";
}

static void print_option(const struct option *option, FILE *out)
{
    struct text text = {0};
    text_append_string(&text, "  ");
    append_flags(&text, option, "");
    text_append_format(&text, " %s\n        %s\n        [", option_type_name(option), option->help);
    append_variables(&text, option, "");
    text_append_format(&text, "; default: %s", shown_default(option));
    if (option->secrecy != OPTION_OPEN)
        text_append_format(&text, "; or a file: OPAL_%s_FILE", option->name);
    text_append_string(&text, "]\n");
    fputs(text.data, out);
    text_free(&text);
}

void options_print_help(FILE *out)
{
    fputs(
        "Usage: opald [OPTIONS] COMMAND [OPTIONS]\n"
        "\n"
        "A server for OPAL clients: it speaks what opal-server 0.9.9 speaks.\n"
        "\n"
        "Commands:\n"
        "  run                  serve\n"
        "  check-config         say what is wrong with the configuration, one line each; exit status 0 or 2\n"
        "  print-config         print the configuration without its secrets\n"
        "  obtain-token         have a server sign a token; --help after it lists its options\n"
        "  generate-secret      print a random secret\n"
        "  publish-data-update  send a data update through a server; --help after it lists its options\n"
        "  options [--markdown] print this list of options\n"
        "  version              print the version\n"
        "\n"
        "Each option is a flag, --name VALUE or --name=VALUE before or after the command, or an environment\n"
        "variable. A flag beats the environment, an empty variable counts as not set. Bytes: 1024, 64k, "
        "16m,\n"
        "1g. A wrong value ends the start with exit status 2.\n",
        out);
    for (int section = 0; section < SECTION_COUNT; section++) {
        fprintf(out, "\n%s:\n", section_titles[section]);
        for (size_t i = 0; i < options_table_count; i++) {
            const struct option *option = &options_table[i];
            char name[OPTION_NAME_SIZE];
            if ((int)option->section != section)
                continue;
            option_flag_name(option, name, sizeof name);
            if (section != SECTION_REFERENCE)
                print_option(option, out);
            else
                fprintf(out, "  %s%s\n", name,
                    option->status == OPTION_REFUSED ? "  (the start is refused when it is set)" : "");
        }
    }
}

/* ---- print-config ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const struct option *const *)a)->name, (*(const struct option *const *)b)->name);
}

static void print_object(const struct options *options, bool common, FILE *out)
{
    const struct option **sorted = calloc(options_table_count, sizeof *sorted);
    size_t count = 0;
    struct text shown = {0};
    struct text line = {0};
    for (size_t i = 0; sorted && i < options_table_count; i++) {
        if (options_table[i].common == common)
            sorted[count++] = &options_table[i];
    }
    if (count)
        qsort(sorted, count, sizeof *sorted, compare_names);
    fputs("{\n", out);
    for (size_t i = 0; i < count; i++) {
        const char *value = options->values[option_index(sorted[i])].canonical;
        text_clear(&shown);
        text_clear(&line);
        if (!value)
            text_append_string(&shown, "None");
        else if (sorted[i]->secrecy == OPTION_SECRET)
            text_append_string(&shown, "***");
        else if (sorted[i]->secrecy == OPTION_SECRET_URL)
            url_append_display(&shown, value);
        else
            text_append_string(&shown, value);
        text_append_json_ascii(&line, text_slice(&shown));
        fprintf(out, "  \"%s\": %s%s\n", sorted[i]->name, line.data, i + 1 < count ? "," : "");
    }
    fputs("}\n", out);
    text_free(&shown);
    text_free(&line);
    free(sorted);
}

void options_print_config(const struct options *options, FILE *out)
{
    fputs("Printing configuration values\n", out);
    print_object(options, false, out);
    print_object(options, true, out);
}

/* ---- deploy/guide/options.md ---- */

static void append_cell(struct text *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|')
            text_append_char(out, '\\');
        text_append_char(out, *text);
    }
}

static void print_markdown_row(const struct option *option, FILE *out)
{
    struct text row = {0};
    text_append_string(&row, "| ");
    append_flags(&row, option, "`");
    text_append_string(&row, " | ");
    append_variables(&row, option, "`");
    text_append_string(&row, " | ");
    if (option->default_text)
        text_append_format(&row, "`%s`", option->default_text);
    text_append_string(&row, " | ");
    append_cell(&row, option->help);
    if (option->secrecy != OPTION_OPEN)
        text_append_format(&row, " (or a file: `OPAL_%s_FILE`)", option->name);
    fprintf(out, "%s |\n", row.data);
    text_free(&row);
}

void options_print_markdown(FILE *out)
{
    for (int section = 0; section < SECTION_COUNT; section++) {
        const char *separator = "";
        fprintf(out, "%s### %s\n\n", section ? "\n" : "", section_titles[section]);
        if (section != SECTION_REFERENCE)
            fputs("| Flag | Environment | Default | Meaning |\n|---|---|---|---|\n", out);
        else
            fputs("Accepted, so that a configuration can be kept; a warning is logged when one has another "
                  "value than its default. With OPAL_SCOPES=true the start is refused.\n\n",
                out);
        for (size_t i = 0; i < options_table_count; i++) {
            const struct option *option = &options_table[i];
            if ((int)option->section != section)
                continue;
            if (section != SECTION_REFERENCE) {
                print_markdown_row(option, out);
            } else {
                fprintf(out, "%s`OPAL_%s`", separator, option->name);
                separator = ", ";
            }
        }
    }
    fputc('\n', out);
}
