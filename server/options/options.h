/*
 * From command line and environment to struct config. server/options/options_table.c declares every option
 * once; loading, --help, print-config and the table in deploy/guide/options.md come from there.
 *
 * Where a value comes from, first found wins: flag (--broadcast-uri X, --broadcast-uri=X), environment
 * (OPAL_BROADCAST_URI, then the other names the option goes by), default. An empty value counts as not
 * given; an empty flag means the default. A secret option X may also be given as the name of a file, X_FILE
 * or --x-file: its content less one newline at the end.
 */
#ifndef OPALD_SERVER_OPTIONS_OPTIONS_H
#define OPALD_SERVER_OPTIONS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include "server/options/problems.h"
#include "shm/common/config.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

/* What the command line asks for. Points into argv. */
struct options_command {
    /* NULL: none given */
    const char *name;
    bool help;
    bool version;
    /* --as-worker as the first argument: the master's own word to its workers */
    bool as_worker;
    /* likewise: the policy process's word to its child */
    bool as_bundle_builder;
    /* likewise */
    bool as_bundle_fetcher;
    /* likewise: the master's word to its policy process */
    bool as_policy;
    /* what follows the command and is no option of the table; options_command_free */
    char **arguments;
    int argument_count;
};

struct option_value;

/* The configuration, and how it came about. */
struct options {
    struct config config;
    /* what was given for each row of the table; for server/options/ */
    struct option_value *values;
};

/*
 * Fills `options` and `command`; what is in them is overwritten. Free them with options_free and
 * options_command_free, also after problems. With --help, --version or no command the values are not looked
 * at. Calls `report` with a line for each problem and returns how many there are.
 */
MUST_CHECK size_t options_load(struct options *options, int argc, char **argv,
    struct options_command *command, problem_report *report, void *context);
void options_free(struct options *options);
void options_command_free(struct options_command *command);

/* A line for each option that was set and that this version does not act on, and for each variable that
 * Kubernetes set. */
void options_report_unused(const struct options *options, problem_report *report, void *context);
/* A line for each OPAL_ variable in the environment that no option has. Returns how many. */
size_t options_report_unknown(problem_report *report, void *context);

void options_print_help(FILE *out);
/* Two JSON objects as the reference prints them: server, common. Secrets are ***. */
void options_print_config(const struct options *options, FILE *out);
/* The table in deploy/guide/options.md. */
void options_print_markdown(FILE *out);

#endif
