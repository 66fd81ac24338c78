/* The program: one executable for the master, its workers (the same arguments, --as-worker in front) and
 * the command line's commands. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "server/command/command.h"
#include "shm/common/log.h"
#include "shm/common/log_redact.h"
#include "shm/common/loggers.h"
#include "server/master/jwks_file.h"
#include "server/master/master.h"
#include "server/options/options.h"
#include "server/policy/source/api_fetch.h"
#include "server/policy/bundle/bundle_child.h"
#include "server/master/policy_start.h"
#include "server/master/worker_start.h"
#include "worker/worker.h"

#define EXIT_USAGE 2

static void print_problem(void *context, const char *line)
{
    struct text shown = {0};
    (void)context;
    log_redact(&shown, slice_from_string(line));
    fprintf(stderr, "opald: %s\n", shown.data ? shown.data : "");
    text_free(&shown);
}

/* `run` takes the reference's --engine-type and does nothing with it; anything else is a mistake. */
static int check_run_arguments(const struct options_command *command)
{
    for (int i = 0; i < command->argument_count; i++) {
        const char *argument = command->arguments[i];
        if (strcmp(argument, "--engine-type") == 0 && i + 1 < command->argument_count) {
            i++;
        } else if (strncmp(argument, "--engine-type=", 14) != 0) {
            fprintf(stderr, "opald: %s: no such option; 'opald --help' lists them\n", argument);
            return -1;
        }
    }
    return 0;
}

static int run_worker(const struct config *config)
{
    struct worker_descriptors descriptors;
    struct error err = {0};
    if (worker_start_receive(&descriptors, &err) < 0) {
        fprintf(stderr, "opald: %s\n", err.text);
        return EXIT_USAGE;
    }
    return worker_main(config, &descriptors);
}

static int run_policy(const struct config *config, int argc, char **argv)
{
    struct policy_descriptors descriptors;
    struct error err = {0};
    if (policy_start_receive(&descriptors, &err) < 0) {
        fprintf(stderr, "opald: %s\n", err.text);
        return EXIT_USAGE;
    }
    return policy_process_main(config, &descriptors, argc, argv);
}

/* The other processes are started by this one, so that the limit is theirs too. */
static void forbid_core_dumps(void)
{
    const struct rlimit none = {0};
    if (setrlimit(RLIMIT_CORE, &none) < 0)
        log_write(LOG_WARNING, LOGGER_MASTER, "core dumps can't be switched off: %s", strerror(errno));
}

static void log_unused(void *context, const char *line)
{
    (void)context;
    log_write(LOG_WARNING, LOGGER_OPTIONS, "%s", line);
}

static int run(const struct options *options, const struct options_command *command, int argc, char **argv)
{
    const struct config *config = &options->config;
    char line[ERROR_TEXT_MAX + 512];
    if (check_run_arguments(command) < 0)
        return EXIT_USAGE;
    log_configure(&config->log);
    if (!config->core_dumps)
        forbid_core_dumps();
    if (command->as_worker)
        return run_worker(config);
    if (command->as_bundle_builder)
        return bundle_child_main(config);
    if (command->as_bundle_fetcher)
        return api_fetch_main(config);
    if (command->as_policy)
        return run_policy(config, argc, argv);
    if (!command_check_backbone(config, line, sizeof line) ||
        !command_check_sources(config, line, sizeof line) || !command_check_auth(config, line, sizeof line) ||
        !command_check_webhook(config, line, sizeof line)) {
        print_problem(NULL, line);
        return EXIT_USAGE;
    }
    struct error err = {0};
    if (jwks_file_write(config, &err) < 0) {
        print_problem(NULL, err.text);
        return EXIT_USAGE;
    }
    options_report_unused(options, log_unused, NULL);
    return master_run(config, argc, argv);
}

static int dispatch(
    const struct options *options, const struct options_command *command, int argc, char **argv)
{
    if (strcmp(command->name, "run") == 0)
        return run(options, command, argc, argv);
    if (strcmp(command->name, "print-config") == 0 && command->argument_count == 0)
        return command_print_config(options);
    if (strcmp(command->name, "print-config") == 0)
        fprintf(stderr, "opald: %s: no such option; 'opald --help' lists them\n", command->arguments[0]);
    else
        fprintf(stderr, "opald: %s: no such command; 'opald --help' lists them\n", command->name);
    return EXIT_USAGE;
}

/* What does not need a good configuration. -1: it does. */
static int dispatch_early(const struct options_command *command, int argc, char **argv)
{
    const char *name = command->name;
    if (name && strcmp(name, "publish-data-update") == 0)
        return command_publish_data_update(command);
    if (name && strcmp(name, "obtain-token") == 0)
        return command_obtain_token(command);
    if (name && strcmp(name, "generate-secret") == 0)
        return command_generate_secret(command);
    if (command->version || (name && strcmp(name, "version") == 0)) {
        printf("opald %s\n", OPALD_VERSION);
        return 0;
    }
    if (command->help || !name) {
        options_print_help(stdout);
        return 0;
    }
    if (strcmp(name, "options") == 0)
        return command_options(command);
    if (strcmp(name, "check-config") == 0)
        return command_check_config(argc, argv);
    return -1;
}

static void ignore_problem(void *context, const char *line)
{
    (void)context;
    (void)line;
}

int main(int argc, char **argv)
{
    struct options options;
    struct options_command command;
    size_t problems = options_load(&options, argc, argv, &command, ignore_problem, NULL);
    int status = -1;
    signal(SIGPIPE, SIG_IGN);
    if (!problems || command.name || command.help || command.version)
        status = dispatch_early(&command, argc, argv);
    if (status < 0 && problems) {
        options_free(&options);
        options_command_free(&command);
        (void)!options_load(&options, argc, argv, &command, print_problem, NULL);
        status = EXIT_USAGE;
    } else if (status < 0) {
        status = dispatch(&options, &command, argc, argv);
    }
    options_command_free(&command);
    options_free(&options);
    return status;
}
