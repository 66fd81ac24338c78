/* What was given and does nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/options/options.h"
#include "server/options/options_table.h"
#include "shm/common/error.h"

/* A line for each variable of this option that is Kubernetes'. */
static void report_injected(const struct option *option, problem_report *report, void *context)
{
    char own[OPTION_NAME_SIZE];
    option_environment_name(option, own, sizeof own);
    const char *single[] = {own, NULL};
    for (const char *const *each = option->environment ? option->environment : single; *each; each++) {
        const char *value = getenv(*each);
        char line[ERROR_TEXT_MAX];
        if (!value || !option_is_injected_port(*each, value))
            continue;
        snprintf(line, sizeof line, "%s=%.100s is ignored: Kubernetes sets it for a service of that name",
            *each, value);
        report(context, line);
    }
}

void options_report_unused(const struct options *options, problem_report *report, void *context)
{
    for (size_t i = 0; i < options_table_count; i++) {
        const struct option_value *value = &options->values[i];
        char line[ERROR_TEXT_MAX];
        report_injected(&options_table[i], report, context);
        if (options_table[i].status != OPTION_UNUSED || !value->differs)
            continue;
        snprintf(line, sizeof line, "%s is accepted, not used by this version", value->source);
        report(context, line);
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
        char own[OPTION_NAME_SIZE];
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

size_t options_report_unknown(problem_report *report, void *context)
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
