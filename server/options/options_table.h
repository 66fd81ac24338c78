/* The table of options, for server/options*.c and its tests alone. */
#ifndef OPALD_SERVER_OPTIONS_OPTIONS_TABLE_H
#define OPALD_SERVER_OPTIONS_OPTIONS_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/error.h"
#include "shm/common/config.h"
#include "shm/common/object.h"

enum option_type {
    OPTION_STRING,
    OPTION_BOOL,
    OPTION_INT,
    /* usually seconds */
    OPTION_FLOAT,
    /* bytes; k, m, g are powers of 1024 */
    OPTION_SIZE,
    OPTION_LIST,
    OPTION_ENUM,
    OPTION_JSON,
    /* key=value, one a line; everything that is given counts: file, environment, each flag. Stored as text */
    OPTION_SETTINGS,
    OPTION_LOG_LEVEL,
    /* a number or "auto", which is 0 */
    OPTION_WORKERS,
};

enum option_status {
    OPTION_USED,
    /* the reference has it; accepted, not used by this version */
    OPTION_UNUSED,
    /* running on as if it weren't set would be unsafe: the start fails when it is not the default */
    OPTION_REFUSED,
};

enum option_secrecy {
    OPTION_OPEN,
    /* never shown */
    OPTION_SECRET,
    /* shown without userinfo and sensitive query values */
    OPTION_SECRET_URL,
};

/* The order is that of --help and deploy/guide/options.md. */
enum option_section {
    SECTION_PROCESS,
    SECTION_BACKBONE,
    SECTION_EVENTS,
    SECTION_HTTP,
    SECTION_CLIENTS,
    SECTION_POLICY,
    SECTION_AUTH,
    SECTION_MEMORY,
    SECTION_LOG,
    /* accepted for the reference's sake */
    SECTION_REFERENCE,
    SECTION_COUNT,
};

#define OPTION_NOWHERE SIZE_MAX

struct option {
    /* SERVER_HOST: the environment's OPAL_SERVER_HOST, the flag --server-host */
    const char *name;
    /* comma separated, without --; the first one is what the help shows */
    const char *flag_alias;
    /* all names in order of precedence, NULL at the end; NULL: OPAL_<name> alone */
    const char *const *environment;
    enum option_type type;
    enum option_status status;
    enum option_secrecy secrecy;
    enum option_section section;
    /* the reference's second object of print-config */
    bool common;
    /* OPTION_LIST: file extensions; one without its dot gets it */
    bool extensions;
    /* NULL: not set */
    const char *default_text;
    /* OPTION_ENUM: "A|B" */
    const char *choices;
    /* of numbers, inclusive */
    double minimum;
    double maximum;
    /* of the field in struct config; OPTION_NOWHERE: it has none */
    size_t offset;
    /* of the field, in bytes */
    size_t width;
    const char *help;
};

extern const struct option options_table[];
extern const size_t options_table_count;

/* What a text means. `canonical` is how Python would show it ("True", "['*']", "0.5"). */
struct option_meaning {
    bool boolean;
    int64_t integer;
    double number;
    enum log_level level;
    struct config_list list;
    char *canonical;
};

/* -1 with `err` saying what would be right ("a whole number from 0 to 65535"). The caller frees the meaning
 * on success. */
MUST_CHECK int option_parse(
    const struct option *option, const char *text, struct option_meaning *meaning, struct error *err);
void option_meaning_free(struct option_meaning *meaning);
void config_list_free(struct config_list *list);
/* "whole number", "seconds" ... for the help */
const char *option_type_name(const struct option *option);

/* What was given for a row of the table. */
struct option_value {
    /* the text; NULL: not given, the default counts */
    char *given;
    /* as Python would show it; NULL: None */
    char *canonical;
    /* the flag or the variable; NULL: not given */
    char *source;
    /* from the default */
    bool differs;
};

/* Bytes that hold the name of each flag and variable. */
#define OPTION_NAME_SIZE 96

/* "--broadcast-uri" for BROADCAST_URI */
void option_flag_name(const struct option *option, char *out, size_t size);
/* "OPAL_BROADCAST_URI" */
void option_environment_name(const struct option *option, char *out, size_t size);
/* Whether a variable is a port that Kubernetes gives to each pod for a service of that name, not the user's:
 * OPAL_STATSD_PORT=tcp://10.0.0.1:8125 for a service called opal-statsd. */
bool option_is_injected_port(const char *name, const char *value);
/* NULL: there is none. */
const struct option *option_find(const char *name);
/* By its flag or an alias, `name` without the dashes, `length` bytes long. */
const struct option *option_find_flag(const char *name, size_t length);
/* Its row. */
size_t option_index(const struct option *option);

#endif
