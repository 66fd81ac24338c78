#include "server/master/service_notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"

static int notify_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    /* '@' stands for the NUL of an abstract name. */
    if ((path[0] != '/' && path[0] != '@') || length < 2 || length >= sizeof address.sun_path) {
        errno = EINVAL;
        return -1;
    }
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0)
        return -1;
    if (connect(descriptor, (struct sockaddr *)&address,
            (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) < 0) {
        int saved = errno;
        close(descriptor);
        errno = saved;
        return -1;
    }
    return descriptor;
}

void service_notify_open(struct service_notify *notify)
{
    const char *path = getenv("NOTIFY_SOCKET");
    const char *watchdog = getenv("WATCHDOG_USEC");
    const char *watchdog_pid = getenv("WATCHDOG_PID");
    *notify = (struct service_notify){.socket = -1};
    if (path) {
        notify->socket = notify_connect(path);
        if (notify->socket < 0)
            log_write(LOG_WARNING, LOGGER_MASTER,
                "cannot reach the service manager at NOTIFY_SOCKET=%s: %s; going on without", path,
                strerror(errno));
    }
    if (notify->socket >= 0 && watchdog &&
        (!watchdog_pid || strtol(watchdog_pid, NULL, 10) == (long)getpid()))
        notify->watchdog_ns = strtoull(watchdog, NULL, 10) * 1000;
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

void service_notify_send(const struct service_notify *notify, const char *state)
{
    if (notify->socket < 0)
        return;
    if (send(notify->socket, state, strlen(state), MSG_NOSIGNAL) < 0)
        log_write(
            LOG_DEBUG, LOGGER_MASTER, "the service manager did not take '%s': %s", state, strerror(errno));
}

void service_notify_close(struct service_notify *notify)
{
    if (notify->socket >= 0)
        close(notify->socket);
    notify->socket = -1;
}
