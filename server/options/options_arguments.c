#include "server/options/options_arguments.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"

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

/* A "--name[=value]" of the table is remembered. Returns how many arguments it took; 0 when it is none of
 * the table's. */
static int scan_flag(char **argv, int left, struct option_flags *flags, struct problems *problems)
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
        problems_add(problems, "--%s: a value is missing (%s)", name, option_type_name(option));
        return 1;
    }
    flags->items[flags->count++] =
        (struct option_flag){.option = option, .text = equals ? equals + 1 : argv[1], .is_file = is_file};
    return equals ? 1 : 2;
}

/* Commands with options of their own get everything behind their name unchanged. */
static bool command_keeps_arguments(const char *name)
{
    return name && (strcmp(name, "publish-data-update") == 0 || strcmp(name, "obtain-token") == 0 ||
                       strcmp(name, "generate-secret") == 0);
}

/* The first argument says which part of opald a process is, when the master or the policy process has
 * started it. */
static bool scan_role(const char *argument, struct options_command *command)
{
    const struct {
        const char *flag;
        bool *wanted;
    } roles[] = {{"--as-worker", &command->as_worker}, {"--as-bundle-builder", &command->as_bundle_builder},
        {"--as-bundle-fetcher", &command->as_bundle_fetcher}, {"--as-policy", &command->as_policy}};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (strcmp(argument, roles[i].flag) == 0)
            return *roles[i].wanted = true;
    }
    return false;
}

/* Returns how many arguments it took. */
static int scan_argument(char **argv, int left, struct options_command *command, struct option_flags *flags,
    struct problems *problems)
{
    char *argument = argv[0];
    if (command_keeps_arguments(command->name)) {
        command_add_argument(command, argument);
        return 1;
    }
    if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
        command->help = true;
    } else if (strcmp(argument, "--version") == 0 && !command->name) {
        command->version = true;
    } else if (strncmp(argument, "--", 2) == 0 && argument[2]) {
        int taken = scan_flag(argv, left, flags, problems);
        if (taken)
            return taken;
        if (command->name)
            command_add_argument(command, argument);
        else
            problems_add(problems, "%s: no such option; 'opald --help' lists them", argument);
    } else if (!command->name) {
        command->name = argument;
    } else {
        command_add_argument(command, argument);
    }
    return 1;
}

void options_scan_arguments(int argc, char **argv, struct options_command *command,
    struct option_flags *flags, struct problems *problems)
{
    int i = 1;
    *command = (struct options_command){0};
    *flags = (struct option_flags){.items = memory_allocate((size_t)(argc + 1) * sizeof *flags->items)};
    if (argc > 1 && scan_role(argv[1], command))
        i = 2;
    while (i < argc)
        i += scan_argument(argv + i, argc - i, command, flags, problems);
}
