/*
 * From command line and environment to struct config. server/options/options_table.c declares every option once; loading, --help,
 * print-config and the table in deploy/guide/options.md come from there.
 *
 * Where a value comes from, first found wins: flag (--broadcast-uri X, --broadcast-uri=X), environment (OPAL_BROADCAST_URI,
 * then the other names the option goes by), default. An empty value counts as not given; an empty flag means the default. A
 * secret option X may also be given as the name of a file, X_FILE or --x-file: its content less one newline at the end.
 */
#ifndef OPALD_SERVER_OPTIONS_OPTIONS_H
#define OPALD_SERVER_OPTIONS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include "shm/common/error.h"
#include "shm/common/text.h"
#include "shm/common/config.h"

/* What the command line asks for. Points into argv. */
struct options_command {
    const char *name; /* NULL: none given */
    bool help;
    bool version;
    bool as_worker;         /* --as-worker as the first argument: the master's own word to its workers */
    bool as_bundle_builder; /* likewise: the policy process's word to its child */
    bool as_bundle_fetcher; /* likewise */
    bool as_policy;         /* likewise: the master's word to its policy process */
    char **arguments;       /* what follows the command and is no option of the table; options_command_free */
    int argument_count;
};

/* Called with one line for each thing that is wrong: the option, the value (not a secret one), what would be right. */
typedef void options_report(void *context, const char *line);

/*
 * Fills `config` (anything in it is overwritten; config_free afterwards, also on failure). With --help, --version or no command the
 * values are not looked at. Returns 0, or -1 with the first problem in `err`.
 */
int options_load(
    struct config *config, int argc, char **argv, struct options_command *command, struct error *err);
/* The same, but tells all problems; returns how many. */
size_t options_load_all(struct config *config, int argc, char **argv, struct options_command *command,
    options_report *report, void *context);
void options_command_free(struct options_command *command);

/* What fits only together (an event must fit the ring, ...) and what this version refuses to run with (keys for JWT).
 * Part of options_load. Returns the number of problems. */
size_t config_check(const struct config *config, options_report *report, void *context);
void config_free(struct config *config);

/* Once at the start: a WARNING for each option that was set and that this version does not act on. */
void options_log_unused(const struct config *config);
/* A line for each OPAL_ variable in the environment that no option has. */
size_t options_report_unknown(options_report *report, void *context);

void options_print_help(FILE *out);
/* Two JSON objects as the reference prints them: server, common. Secrets are ***. */
void options_print_config(const struct config *config, FILE *out);
/* Appends a URL without its credentials, however odd the password is ('/' and '@' in it), and without sensitive query values. */
void options_append_url(struct text *out, const char *url);
/* The table in deploy/guide/options.md. */
void options_print_markdown(FILE *out);

#endif
