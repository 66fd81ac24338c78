#include "server/policy/bundle/child_environment.h"

#include <stddef.h>
#include <string.h>

#include "shm/common/config.h"

/* NAME, or the beginning of names with a '*' behind it. GIT_... is listed one by one: GIT_DIR,
 * GIT_OBJECT_DIRECTORY and others would lead git to another repository, GIT_TRACE... would write files.
 * LC_ALL is set for the child, since opald reads its messages. */
static const char *const kept[] = {
    /* where programs and files are, and who runs them; libnss_wrapper is how images give a random uid a name
     * */
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "LANG", "LC_CTYPE", "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH", "LD_PRELOAD", "NSS_WRAPPER_PASSWD", "NSS_WRAPPER_GROUP",
    /* how ssh is called and gets keys */
    "SSH_AUTH_SOCK", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "KRB5CCNAME", "KRB5_CONFIG",
    /* git's settings */
    "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_*",
    "GIT_CONFIG_VALUE_*", "GIT_EXEC_PATH", "GIT_ALLOW_PROTOCOL",
    /* proxies and certificates */
    "http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",
    "NO_PROXY", "GIT_PROXY_COMMAND", "GIT_PROXY_SSL_*", "GIT_HTTP_*", "GIT_SSL_*", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "CURL_CA_BUNDLE", "OPENSSL_CONF"};

static bool matches(const char *variable, const char *name)
{
    size_t length = strlen(name);
    if (length > 0 && name[length - 1] == '*')
        return strncmp(variable, name, length - 1) == 0;
    return length > 0 && strncmp(variable, name, length) == 0 && variable[length] == '=';
}

bool child_environment_keeps(const char *variable, const void *more)
{
    const struct config_list *list = more;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (matches(variable, kept[i]))
            return true;
    for (size_t i = 0; list && i < list->count; i++)
        if (matches(variable, list->items[i]))
            return true;
    return false;
}
