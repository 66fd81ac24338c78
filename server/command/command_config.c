/* check-config, print-config, options: what the configuration is, without running it. */
#include "server/command/command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broadcast/broadcast.h"
#include "shm/common/log_redact.h"
#include "shm/common/url_display.h"
#include "server/command/check_files.h"
#include "worker/auth/auth.h"
#include "worker/api/data_sources.h"
#include "worker/net/tls.h"
#include "worker/policy/webhook_params.h"

static void print_problem(void *context, const char *line)
{
    struct text shown = {0};
    (void)context;
    log_redact(&shown, slice_from_string(line));
    printf("%s\n", shown.data ? shown.data : "");
    text_free(&shown);
}

static void print_note(void *context, const char *line)
{
    (void)context;
    printf("note: %s\n", line);
}

static void keep_first(void *context, const char *line)
{
    struct error *err = context;
    if (err->code == 0)
        error_set(err, EINVAL, "%s", line);
}

bool command_check_backbone(const struct config *config, char *line, size_t size)
{
    struct error err = {0};
    struct broadcast_settings settings = config->broadcast;
    settings.limits = &config->limits;
    settings.notifier_id = "";
    if (!config->broadcast.uri)
        return true;
    /* When the URI is good, it is not what the message is about. A library's own message about a file that
     * is not there does not name it. */
    if (broadcast_check_uri(config->broadcast.uri, &err) == 0) {
        if (check_files_of_backbone(config, keep_first, &err) == 0 &&
            broadcast_check_settings(&settings, &err) == 0)
            return true;
        snprintf(line, size, "%s", err.text);
        return false;
    }
    struct text shown = {0};
    url_append_display(&shown, config->broadcast.uri);
    snprintf(line, size, "OPAL_BROADCAST_URI=%s: %s", text_slice(&shown).data, err.text);
    text_free(&shown);
    return false;
}

bool command_check_sources(const struct config *config, char *line, size_t size)
{
    struct error err = {0};
    struct data_sources *sources = NULL;
    bool good = data_sources_load(config, &sources, &err) == 0;
    data_sources_free(sources);
    if (!good)
        snprintf(line, size, "%s", err.text);
    return good;
}

bool command_check_webhook(const struct config *config, char *line, size_t size)
{
    struct error err = {0};
    struct webhook_params *params = webhook_params_load(config, &err);
    if (!params)
        snprintf(line, size, "%s", err.text);
    webhook_params_free(params);
    return params != NULL;
}

bool command_check_auth(const struct config *config, char *line, size_t size)
{
    struct error err = {0};
    struct auth *auth = NULL;
    bool good = auth_open(config, 0, &auth, &err) == 0;
    auth_close(auth);
    if (!good)
        snprintf(line, size, "%s", err.text);
    return good;
}

/* Only asked here: a run reads them itself, as its first step. */
static bool check_certificate(const struct config *config, char *line, size_t size)
{
    struct error err = {0};
    struct tls_material material;
    if (!config->tls_certificate)
        return true;
    if (tls_material_load(config, &material, &err) < 0) {
        snprintf(line, size, "%s", err.text);
        return false;
    }
    tls_material_free(&material);
    return true;
}

int command_check_config(int argc, char **argv)
{
    struct options options;
    struct options_command command;
    char line[ERROR_TEXT_MAX + 512];
    size_t problems = options_load(&options, argc, argv, &command, print_problem, NULL);
    const struct config *config = &options.config;
    if (command.argument_count) {
        printf("%s: check-config has no such option\n", command.arguments[0]);
        problems++;
    }
    size_t file_problems = problems ? 0 : check_files(config, print_problem, NULL);
    problems += file_problems;
    if (!file_problems && !command_check_backbone(config, line, sizeof line)) {
        print_problem(NULL, line);
        problems++;
    }
    /* last, and only when nothing is wrong so far: the options have looked at its outline themselves */
    if (!problems && !command_check_sources(config, line, sizeof line)) {
        print_problem(NULL, line);
        problems++;
    }
    if (!problems && !command_check_auth(config, line, sizeof line)) {
        print_problem(NULL, line);
        problems++;
    }
    if (!problems && !command_check_webhook(config, line, sizeof line)) {
        print_problem(NULL, line);
        problems++;
    }
    if (!problems && !check_certificate(config, line, sizeof line)) {
        print_problem(NULL, line);
        problems++;
    }
    options_report_unused(&options, print_note, NULL);
    options_report_unknown(print_note, NULL);
    if (!problems && config->auth_public_key && config->publish_peer_types.count == 0)
        print_note(NULL, "OPAL_PUBLISH_PEER_TYPES is not set: a client's token may publish to any topic over "
                         "the websocket; recommended: OPAL_PUBLISH_PEER_TYPES=datasource");
    if (!problems)
        printf("the configuration is good\n");
    options_command_free(&command);
    options_free(&options);
    return problems ? 2 : 0;
}

int command_print_config(const struct options *options)
{
    options_print_config(options, stdout);
    return 0;
}

int command_options(const struct options_command *command)
{
    if (command->argument_count == 0) {
        options_print_help(stdout);
        return 0;
    }
    if (command->argument_count == 1 && strcmp(command->arguments[0], "--markdown") == 0) {
        options_print_markdown(stdout);
        return 0;
    }
    fprintf(stderr, "opald: options takes --markdown or nothing\n");
    return 2;
}
