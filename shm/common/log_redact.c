#include "shm/common/log_redact.h"

#include <string.h>
#include <strings.h>

static const char *const sensitive_names[] = {"token", "access_token", "refresh_token", "id_token",
    "private_token", "api_key", "apikey", "key", "password", "passwd", "passphrase", "secret",
    "client_secret", "sig", "signature", "x-amz-signature", "x-amz-credential", "x-amz-security-token",
    "sasl.password", "ssl.key.password"};

static bool is_scheme_char(char byte)
{
    char lower = (char)(byte | 0x20);
    return (lower >= 'a' && lower <= 'z') || (byte >= '0' && byte <= '9') || byte == '+' || byte == '.' ||
           byte == '-';
}

/* `at` is behind "://". Where the userinfo's last '@' is, NULL when there is none. Up to the first '@'
 * anything but white space and '/' counts (a password with odd characters must not slip through); after it,
 * for passwords with an '@' inside, the search ends at what can't be part of a URL. */
static const char *find_userinfo_end(const char *at, const char *end)
{
    const char *found = NULL;
    for (; at < end && !text_is_space(*at) && *at != '/'; at++) {
        if (*at == '@')
            found = at;
        else if (found && strchr("'\"<>,;()[]{}?#", *at))
            break;
    }
    return found;
}

/* `at` is behind '?', '&' or '#'. Length of "name=" when the value must be hidden, else 0. */
static size_t sensitive_name_length(const char *at, const char *end)
{
    for (size_t i = 0; i < sizeof sensitive_names / sizeof *sensitive_names; i++) {
        size_t length = strlen(sensitive_names[i]);
        if ((size_t)(end - at) > length && at[length] == '=' &&
            strncasecmp(at, sensitive_names[i], length) == 0)
            return length + 1;
    }
    return 0;
}

static const char *find_value_end(const char *at, const char *end)
{
    while (at < end && !text_is_space(*at) && !strchr("&#'\"<>`\\", *at))
        at++;
    return at;
}

void log_redact(struct text *out, struct slice line)
{
    const char *at = line.data;
    const char *end = at + line.length;
    const char *plain = at; /* start of what is not copied yet */
    while (at < end) {
        if (*at == ':' && end - at > 3 && at[1] == '/' && at[2] == '/' && at > line.data &&
            is_scheme_char(at[-1])) {
            at += 3;
            const char *userinfo_end = find_userinfo_end(at, end);
            if (userinfo_end && userinfo_end > at) {
                text_append(out, plain, (size_t)(at - plain));
                text_append_string(out, "***");
                plain = at = userinfo_end;
            }
        } else if (*at == '?' || *at == '&' || *at == '#') {
            at++;
            size_t name = sensitive_name_length(at, end);
            if (name) {
                at += name;
                text_append(out, plain, (size_t)(at - plain));
                text_append_string(out, "***");
                plain = at = find_value_end(at, end);
            }
        } else {
            at++;
        }
    }
    text_append(out, plain, (size_t)(end - plain));
}
