/* publish-data-update: flags, request, reply. */
#include "server/command/command.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/common/log_redact.h"
#include "shm/common/memory.h"
#include "server/command/http_call.h"
#include "server/command/publish_update.h"
#include "server/options/secret_file.h"

#define EXIT_USAGE 2
#define GREEN      "\033[32m"
#define RED        "\033[31m"
#define CYAN       "\033[36m"

struct publish_command {
    struct publish_update update;
    const char *server_url;
    const char *server_route;
    const char *token;
    bool help;
};

struct publish_flag {
    const char *name;
    /* 0: none */
    char letter;
    /* in struct publish_command */
    size_t offset;
    const char *help;
};

static const struct publish_flag publish_flags[] = {
    {"--server-url", 0, offsetof(struct publish_command, server_url),
        "URL of the server [default: http://localhost:7002]"},
    {"--server-route", 0, offsetof(struct publish_command, server_route),
        "its route [default: /data/config]"},
    {"--reason", 0, offsetof(struct publish_command, update.reason), "why the data changed"},
    {"--entries", 'e', offsetof(struct publish_command, update.entries), "JSON array of entries"},
    {"--src-url", 0, offsetof(struct publish_command, update.src_url),
        "one entry: where the clients fetch the data from"},
    {"--topic", 't', offsetof(struct publish_command, update.topics),
        "one entry: its topic, may be given several times"},
    {"--data", 0, offsetof(struct publish_command, update.data), "one entry: the data itself, as JSON"},
    {"--src-config", 0, offsetof(struct publish_command, update.src_config),
        "one entry: how to fetch, as JSON [default: {}]"},
    {"--dst-path", 0, offsetof(struct publish_command, update.dst_path),
        "one entry: where the client's policy store keeps the data"},
    {"--save-method", 0, offsetof(struct publish_command, update.save_method),
        "one entry: PUT or PATCH [default: PUT]"},
};

#define PUBLISH_FLAG_COUNT (sizeof publish_flags / sizeof *publish_flags)

static void print_help(void)
{
    printf("Usage: opald publish-data-update [OPTIONS] [TOKEN]\n\n"
           "Publishes a data update through a server: one entry (--src-url, --topic, ...) or several "
           "(--entries).\n"
           "TOKEN, or OPAL_CLIENT_TOKEN in the environment, or the file that OPAL_CLIENT_TOKEN_FILE names, "
           "is sent as the bearer "
           "token.\n"
           "Exit status: 0 published, 1 not published, 2 wrong arguments.\n\n");
    for (size_t i = 0; i < PUBLISH_FLAG_COUNT; i++) {
        char name[32];
        if (publish_flags[i].letter)
            snprintf(name, sizeof name, "-%c, %s", publish_flags[i].letter, publish_flags[i].name);
        else
            snprintf(name, sizeof name, "    %s", publish_flags[i].name);
        printf("  %-20s %s\n", name, publish_flags[i].help);
    }
}

/* ---- flags ---- */

static const struct publish_flag *find_flag(const char *argument, const char **value)
{
    for (size_t i = 0; i < PUBLISH_FLAG_COUNT; i++) {
        const struct publish_flag *flag = &publish_flags[i];
        size_t length = strlen(flag->name);
        *value = NULL;
        if (strcmp(argument, flag->name) == 0)
            return flag;
        if (strncmp(argument, flag->name, length) == 0 && argument[length] == '=') {
            *value = argument + length + 1;
            return flag;
        }
        if (flag->letter && argument[0] == '-' && argument[1] == flag->letter) {
            if (argument[2]) /* -tTOPIC */
                *value = argument + 2;
            return flag;
        }
    }
    return NULL;
}

static int parse_arguments(const struct options_command *command, struct publish_command *publish)
{
    bool flags_end = false;
    for (int i = 0; i < command->argument_count; i++) {
        const char *argument = command->arguments[i];
        const char *value;
        if (flags_end || argument[0] != '-') {
            if (publish->token) {
                fprintf(stderr, "opald: %s: only one TOKEN can be given\n", argument);
                return -1;
            }
            publish->token = argument;
            continue;
        }
        if (strcmp(argument, "--") == 0) {
            flags_end = true;
            continue;
        }
        if (strcmp(argument, "--help") == 0) {
            publish->help = true;
            return 0;
        }
        const struct publish_flag *flag = find_flag(argument, &value);
        if (!flag) {
            fprintf(stderr, "opald: %s: no such option; 'opald publish-data-update --help' lists them\n",
                argument);
            return -1;
        }
        if (!value && ++i == command->argument_count) {
            fprintf(stderr, "opald: %s: a value is missing\n", argument);
            return -1;
        }
        if (!value)
            value = command->arguments[i];
        if (flag->letter == 't')
            publish->update.topics[publish->update.topic_count++] = value;
        else
            *(const char **)((char *)publish + flag->offset) = value;
    }
    return 0;
}

/* ---- the command ---- */

static void print_coloured(const char *colour, const char *line)
{
    if (isatty(STDOUT_FILENO))
        printf("%s%s\033[0m\n", colour, line);
    else
        printf("%s\n", line);
}

static int publish(const struct publish_command *command, struct slice body, const char *shown)
{
    struct http_result result = {0};
    struct text address = {0};
    int status = 1;
    text_append_format(&address, "%s%s", command->server_url, command->server_route);
    if (!http_call_check(address.data)) {
        text_free(&address);
        return EXIT_USAGE;
    }
    printf("Publishing event:\n");
    print_coloured(CYAN, shown);
    fflush(stdout);
    if (http_call_post(address.data, command->token, body, &result) < 0) {
        status = EXIT_USAGE;
    } else if (result.status == 200) {
        print_coloured(GREEN, "Event Published Successfully");
        status = 0;
    } else if (result.status) {
        char line[80];
        snprintf(line, sizeof line, "Event publishing failed with status-code - %d", result.status);
        print_coloured(RED, line);
        printf("%s\n", result.body);
    } else {
        struct text redacted = {0};
        log_redact(&redacted, text_slice(&address));
        fprintf(stderr, "opald: %s: %s\n", redacted.data, result.failure);
        text_free(&redacted);
    }
    http_result_free(&result);
    text_free(&address);
    return status;
}

int command_publish_data_update(const struct options_command *command)
{
    struct publish_command given = {.server_url = "http://localhost:7002", .server_route = "/data/config"};
    struct text body = {0};
    struct text shown = {0};
    struct error err = {0};
    int status = EXIT_USAGE;
    char *from_environment = NULL;
    given.update.topics =
        memory_allocate(sizeof *given.update.topics * ((size_t)command->argument_count + 1));
    if (parse_arguments(command, &given) < 0)
        goto end;
    if (given.help) {
        print_help();
        status = 0;
        goto end;
    }
    if (!given.token) {
        if (secret_from_environment("OPAL_CLIENT_TOKEN", &from_environment, &err) < 0) {
            fprintf(stderr, "opald: %s\n", err.text);
            goto end;
        }
        given.token = from_environment;
    }
    if (publish_update_build(&given.update, &body, &shown, &err) < 0)
        fprintf(stderr, "opald: %s\n", err.text);
    else
        status = publish(&given, text_slice(&body), shown.data);
end:
    free(from_environment);
    free(given.update.topics);
    text_free(&body);
    text_free(&shown);
    return status;
}
