/* obtain-token and generate-secret: the reference's flags and output. */
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "server/command/command.h"
#include "shm/common/identity.h"
#include "shm/common/json.h"
#include "shm/common/log_redact.h"
#include "shm/common/memory.h"
#include "server/command/http_call.h"
#include "worker/jose/base64url.h"
#include "server/options/secret_file.h"
#include "shm/common/python.h"

#define EXIT_USAGE       2
#define JSON_DEPTH       200
#define JSON_TOKENS      1000000
#define SECRET_MAX_BYTES (1024 * 1024)

/* ---- flags ---- */

/* The value of `--name value` or `--name=value` at arguments[*at], which then stands on its last word; NULL
 * when it is not that flag, or has no value (`*wrong` is set then). */
static const char *flag_value(const struct options_command *command, int *at, const char *name, bool *wrong)
{
    const char *argument = command->arguments[*at];
    size_t length = strlen(name);
    if (strncmp(argument, name, length) != 0)
        return NULL;
    if (argument[length] == '=')
        return argument + length + 1;
    if (argument[length])
        return NULL;
    const char *value = command->arguments[*at + 1]; /* NULL behind the last one */
    if (!value) {
        fprintf(stderr, "opald: %s: a value is missing\n", name);
        *wrong = true;
        return NULL;
    }
    ++*at;
    return value;
}

static int unknown_flag(const char *command, const char *argument)
{
    fprintf(stderr, "opald: %s: no such option; 'opald %s --help' lists them\n", argument, command);
    return EXIT_USAGE;
}

static bool parse_number(const char *text, long long *out)
{
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return *text && !*end && !errno;
}

/* ---- obtain-token ---- */

struct obtain_token {
    const char *master;
    const char *server_url;
    const char *type;
    const char *claims;
    /* seconds */
    double ttl;
    /* the whole reply, not only the token */
    bool whole;
    bool help;
};

static const struct ttl_unit {
    const char *name;
    double seconds;
} ttl_units[] = {{"weeks", 604800}, {"days", 86400}, {"hours", 3600}, {"minutes", 60}, {"seconds", 1},
    {"milliseconds", 1e-3}, {"microseconds", 1e-6}};

static int print_obtain_help(void)
{
    printf(
        "Usage: opald obtain-token [OPTIONS] [MASTER_TOKEN]\n\n"
        "Has a server sign a token for a client, a data source or a listener.\n"
        "MASTER_TOKEN, or OPAL_MASTER_TOKEN in the environment, or the file that OPAL_MASTER_TOKEN_FILE "
        "names, is the\n"
        "server's OPAL_AUTH_MASTER_TOKEN.\n"
        "Exit status: 0 the token is on standard output, 1 no token, 2 wrong arguments.\n\n"
        "  --server-url URL       URL of the server [default: http://localhost:7002]\n"
        "  --type TYPE            client, datasource or listener [default: client]\n"
        "  --ttl NUMBER UNIT      how long it is good: weeks, days, hours, minutes, seconds, milliseconds, "
        "microseconds [default: 365 days]\n"
        "  --claims JSON          more claims, e.g. {\"permitted_topics\": [\"a\"]}\n"
        "  --just-the-token, --no-just-the-token\n"
        "                         the token alone or the whole reply [default: the token]\n");
    return 0;
}

static int parse_ttl(struct obtain_token *obtain, const char *number, const char *unit)
{
    long long count;
    if (!parse_number(number, &count)) {
        fprintf(stderr, "opald: --ttl=%s: must be a whole number and a unit (365 days)\n", number);
        return -1;
    }
    for (size_t i = 0; unit && i < sizeof ttl_units / sizeof *ttl_units; i++) {
        if (strcmp(unit, ttl_units[i].name) == 0) {
            obtain->ttl = (double)count * ttl_units[i].seconds;
            return 0;
        }
    }
    fprintf(stderr,
        "opald: --ttl %s %s: the unit must be weeks, days, hours, minutes, seconds, milliseconds or "
        "microseconds\n",
        number, unit ? unit : "");
    return -1;
}

static int parse_obtain(const struct options_command *command, struct obtain_token *obtain)
{
    bool wrong = false;
    for (int i = 0; i < command->argument_count && !wrong; i++) {
        const char *argument = command->arguments[i];
        const char *value;
        if ((value = flag_value(command, &i, "--server-url", &wrong)))
            obtain->server_url = value;
        else if ((value = flag_value(command, &i, "--type", &wrong)))
            obtain->type = value;
        else if ((value = flag_value(command, &i, "--claims", &wrong)))
            obtain->claims = value;
        else if ((value = flag_value(command, &i, "--ttl", &wrong)))
            wrong = parse_ttl(
                        obtain, value, i + 1 < command->argument_count ? command->arguments[++i] : NULL) < 0;
        else if (strcmp(argument, "--just-the-token") == 0)
            obtain->whole = false;
        else if (strcmp(argument, "--no-just-the-token") == 0)
            obtain->whole = true;
        else if (strcmp(argument, "--help") == 0)
            obtain->help = true;
        else if (!wrong && argument[0] == '-' && argument[1])
            wrong = unknown_flag("obtain-token", argument);
        else if (!wrong && obtain->master) {
            fprintf(stderr, "opald: only one MASTER_TOKEN can be given\n");
            wrong = true;
        } else if (!wrong) {
            obtain->master = argument;
        }
    }
    return wrong ? -1 : 0;
}

static int check_obtain(const struct obtain_token *obtain)
{
    struct json_document document = {0};
    if (!obtain->master || !*obtain->master) {
        fprintf(stderr,
            "opald: MASTER_TOKEN is missing (or OPAL_MASTER_TOKEN or OPAL_MASTER_TOKEN_FILE in the "
            "environment)\n");
        return -1;
    }
    if (strcmp(obtain->type, "client") != 0 && strcmp(obtain->type, "datasource") != 0 &&
        strcmp(obtain->type, "listener") != 0) {
        fprintf(stderr, "opald: --type=%s: must be client, datasource or listener\n", obtain->type);
        return -1;
    }
    if (json_check(&document, obtain->claims, strlen(obtain->claims), JSON_DEPTH) != JSON_OK) {
        fprintf(stderr, "opald: --claims: not JSON (%s)\n", document.message ? document.message : "bad text");
        return -1;
    }
    return 0;
}

static void build_request(const struct obtain_token *obtain, struct text *out)
{
    struct identity id = identity_make();
    char hex[IDENTITY_HEX];
    identity_format(&id, hex);
    text_append_format(out, "{\"id\": \"%.32s\", \"type\": \"%s\", \"ttl\": %.6f, \"claims\": %s}", hex,
        obtain->type, obtain->ttl, obtain->claims);
}

/* The token, or the reply as Python shows it. */
static int print_reply(const struct obtain_token *obtain, const char *body)
{
    struct json_document document = {0};
    struct text shown = {0};
    int status = 1;
    if (json_parse(&document, body, strlen(body), JSON_DEPTH, JSON_TOKENS) == JSON_OK &&
        document.tokens[0].type == JSON_OBJECT) {
        uint32_t token = json_member(&document, 0, "token");
        if (token != JSON_ABSENT && document.tokens[token].type == JSON_STRING) {
            if (obtain->whole)
                python_append_value(&shown, &document, 0, SIZE_MAX);
            else
                json_string_decode(&document, token, &shown);
            printf("%s\n", shown.data);
            status = 0;
        }
    }
    if (status)
        fprintf(stderr, "opald: the server's answer has no token\n");
    text_free(&shown);
    json_free(&document);
    return status;
}

static int obtain(const struct obtain_token *obtain)
{
    struct text address = {0}, body = {0};
    struct http_result result = {0};
    int status = 1;
    text_append_format(&address, "%s/token", obtain->server_url);
    build_request(obtain, &body);
    if (http_call_post(address.data, obtain->master, text_slice(&body), &result) < 0) {
        status = EXIT_USAGE;
    } else if (result.status == 200) {
        status = print_reply(obtain, result.body);
    } else if (result.status) {
        fprintf(stderr, "opald: no token: status %d: %s\n", result.status, result.body);
    } else {
        struct text shown = {0};
        log_redact(&shown, text_slice(&address));
        fprintf(stderr, "opald: %s: %s\n", shown.data, result.failure);
        text_free(&shown);
    }
    http_result_free(&result);
    text_free(&address);
    text_free(&body);
    return status;
}

int command_obtain_token(const struct options_command *command)
{
    struct obtain_token given = {
        .server_url = "http://localhost:7002", .type = "client", .claims = "{}", .ttl = 365 * 86400.0};
    if (parse_obtain(command, &given) < 0)
        return EXIT_USAGE;
    if (given.help)
        return print_obtain_help();
    char *from_environment = NULL;
    if (!given.master) {
        struct error err = {0};
        if (secret_from_environment("OPAL_MASTER_TOKEN", &from_environment, &err) < 0) {
            fprintf(stderr, "opald: %s\n", err.text);
            return EXIT_USAGE;
        }
        given.master = from_environment;
    }
    int status = check_obtain(&given) < 0 ? EXIT_USAGE : obtain(&given);
    if (from_environment)
        OPENSSL_cleanse(from_environment, strlen(from_environment));
    free(from_environment);
    return status;
}

/* ---- generate-secret ---- */

/* Python's repr() of bytes. */
static void append_python_bytes(struct text *out, const unsigned char *bytes, size_t length)
{
    char quote = memchr(bytes, '\'', length) && !memchr(bytes, '"', length) ? '"' : '\'';
    text_append_format(out, "b%c", quote);
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = bytes[i];
        if (byte == '\\' || byte == (unsigned char)quote)
            text_append_format(out, "\\%c", byte);
        else if (byte == '\n' || byte == '\r' || byte == '\t')
            text_append_string(out, byte == '\n' ? "\\n" : byte == '\r' ? "\\r" : "\\t");
        else if (byte < ' ' || byte >= 0x7f)
            text_append_format(out, "\\x%02x", byte);
        else
            text_append_char(out, (char)byte);
    }
    text_append_char(out, quote);
}

static int print_secret(long long size, const char *format)
{
    unsigned char *bytes = memory_allocate((size_t)size + 1);
    struct text out = {0};
    if (size && RAND_bytes(bytes, (int)size) != 1) {
        fprintf(stderr, "opald: no random bytes to be had\n");
        free(bytes);
        return 1;
    }
    if (strcmp(format, "hex") == 0) {
        for (long long i = 0; i < size; i++)
            text_append_format(&out, "%02x", bytes[i]);
    } else if (strcmp(format, "bytes") == 0) {
        append_python_bytes(&out, bytes, (size_t)size);
    } else {
        base64url_encode(bytes, (size_t)size, &out);
    }
    printf("%s\n", out.data ? out.data : "");
    OPENSSL_cleanse(bytes, (size_t)size);
    if (out.data)
        OPENSSL_cleanse(out.data, out.capacity);
    text_free(&out);
    free(bytes);
    return 0;
}

int command_generate_secret(const struct options_command *command)
{
    long long size = 32;
    const char *format = "urlsafe";
    bool wrong = false;
    for (int i = 0; i < command->argument_count; i++) {
        const char *argument = command->arguments[i];
        const char *value;
        if (strcmp(argument, "--help") == 0) {
            printf("Usage: opald generate-secret [--size 32] [--format urlsafe|hex|bytes]\n\n"
                   "Prints a random secret, fit for OPAL_AUTH_MASTER_TOKEN.\n");
            return 0;
        }
        if ((value = flag_value(command, &i, "--size", &wrong))) {
            if (!parse_number(value, &size) || size < 0 || size > SECRET_MAX_BYTES) {
                fprintf(stderr, "opald: --size=%s: must be a whole number from 0 to %d\n", value,
                    SECRET_MAX_BYTES);
                return EXIT_USAGE;
            }
        } else if ((value = flag_value(command, &i, "--format", &wrong))) {
            format = value;
        } else if (wrong) {
            return EXIT_USAGE;
        } else {
            return unknown_flag("generate-secret", argument);
        }
    }
    if (strcmp(format, "hex") != 0 && strcmp(format, "bytes") != 0 && strcmp(format, "urlsafe") != 0) {
        fprintf(stderr, "opald: --format=%s: must be urlsafe, hex or bytes\n", format);
        return EXIT_USAGE;
    }
    return print_secret(size, format);
}
