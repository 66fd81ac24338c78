/* Under which names the options of the table go. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "server/options/options_table.h"

void option_flag_name(const struct option *option, char *out, size_t size)
{
    size_t length = (size_t)snprintf(out, size, "--%s", option->name);
    for (size_t i = 0; i < length && i < size; i++)
        out[i] = out[i] == '_' ? '-' : (char)tolower((unsigned char)out[i]);
}

void option_environment_name(const struct option *option, char *out, size_t size)
{
    snprintf(out, size, "OPAL_%s", option->name);
}

bool option_is_injected_port(const char *name, const char *value)
{
    size_t length = strlen(name);
    return length > 5 && strcmp(name + length - 5, "_PORT") == 0 &&
           (strncmp(value, "tcp://", 6) == 0 || strncmp(value, "udp://", 6) == 0);
}

const struct option *option_find(const char *name)
{
    for (size_t i = 0; i < options_table_count; i++) {
        if (strcmp(options_table[i].name, name) == 0)
            return &options_table[i];
    }
    return NULL;
}

size_t option_index(const struct option *option)
{
    return (size_t)(option - options_table);
}

static bool alias_matches(const char *aliases, const char *name, size_t length)
{
    while (aliases && *aliases) {
        size_t alias_length = strcspn(aliases, ",");
        if (alias_length == length && strncmp(aliases, name, length) == 0)
            return true;
        aliases += alias_length;
        aliases += *aliases == ',';
    }
    return false;
}

const struct option *option_find_flag(const char *name, size_t length)
{
    for (size_t i = 0; i < options_table_count; i++) {
        char flag[OPTION_NAME_SIZE];
        option_flag_name(&options_table[i], flag, sizeof flag);
        if ((strlen(flag + 2) == length && strncmp(flag + 2, name, length) == 0) ||
            alias_matches(options_table[i].flag_alias, name, length))
            return &options_table[i];
    }
    return NULL;
}
