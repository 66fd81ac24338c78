/* The command line, scanned: which command, which flags of the table, what else. Pure. */
#ifndef OPALD_SERVER_OPTIONS_OPTIONS_ARGUMENTS_H
#define OPALD_SERVER_OPTIONS_OPTIONS_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include "server/options/options.h"
#include "server/options/options_table.h"
#include "server/options/problems.h"

/* A flag of the table that was given. */
struct option_flag {
    const struct option *option;
    /* the value, or the name of the file that holds it; points into argv */
    const char *text;
    bool is_file;
};

struct option_flags {
    /* in the order of the command line */
    struct option_flag *items;
    size_t count;
};

/* The caller frees `flags->items` and the command (options_command_free). */
void options_scan_arguments(int argc, char **argv, struct options_command *command,
    struct option_flags *flags, struct problems *problems);

#endif
