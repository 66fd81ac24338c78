#include "server/master/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SYSTEMD_FIRST_DESCRIPTOR 3

static int listener_prepare(int descriptor)
{
    int flags = fcntl(descriptor, F_GETFL);
    if (flags < 0 || fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) < 0)
        return -1;
    return fcntl(descriptor, F_SETFD, FD_CLOEXEC);
}

/* 0 when systemd passed none, 1 when its sockets were taken, -1 on error. */
static int listeners_from_systemd(struct listeners *listeners, struct error *err)
{
    const char *pid = getenv("LISTEN_PID");
    const char *count_text = getenv("LISTEN_FDS");
    if (!pid || !count_text || strtol(pid, NULL, 10) != (long)getpid())
        return 0;
    long count = strtol(count_text, NULL, 10);
    /* The workers inherit the environment; the sockets are not meant for them. */
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    if (count < 1)
        return 0;
    if (count > LISTENERS_MAX)
        return error_set(
            err, E2BIG, "LISTEN_FDS passes %ld sockets, at most %d are supported", count, LISTENERS_MAX);
    for (int i = 0; i < (int)count; i++) {
        int descriptor = SYSTEMD_FIRST_DESCRIPTOR + i;
        int listening = 0;
        socklen_t size = sizeof listening;
        if (getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0 || !listening)
            return error_set(
                err, EINVAL, "descriptor %d of LISTEN_FDS is not a listening socket", descriptor);
        if (listener_prepare(descriptor) < 0)
            return error_set_errno(err, errno, "descriptor %d of LISTEN_FDS", descriptor);
        listeners->descriptors[listeners->count++] = descriptor;
    }
    return 1;
}

/* Accepted sockets inherit both. A small frame must leave at once. And what a client does not take must
 * wait in our memory, once for all clients, counted and limited: by itself the kernel keeps up to
 * tcp_wmem's 4 MiB for each, and copying that for a thousand slow clients holds up the fast ones. Fails
 * harmlessly on other sockets than TCP's, which systemd may pass. */
static void listener_tune(int descriptor, int unsent_max_bytes)
{
    int on = 1;
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(descriptor, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_max_bytes, sizeof unsent_max_bytes);
}

static int listener_bind(const struct addrinfo *address, const struct config *config)
{
    int on = 1;
    int descriptor = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return -1;
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->ai_family == AF_INET6)
        setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    listener_tune(descriptor, config->client_unsent_max_bytes);
    if (bind(descriptor, address->ai_addr, address->ai_addrlen) < 0 ||
        listen(descriptor, config->listen_backlog) < 0) {
        int saved = errno;
        close(descriptor);
        errno = saved;
        return -1;
    }
    return descriptor;
}

int listeners_open(struct listeners *listeners, const struct config *config, struct error *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    char service[16];
    *listeners = (struct listeners){0};
    int systemd = listeners_from_systemd(listeners, err);
    for (int i = 0; i < listeners->count; i++)
        listener_tune(listeners->descriptors[i], config->client_unsent_max_bytes);
    if (systemd)
        return systemd < 0 ? -1 : 0;

    snprintf(service, sizeof service, "%d", config->port);
    int failure = getaddrinfo(config->host, service, &hints, &found);
    if (failure)
        return error_set(err, EINVAL, "cannot resolve the address to listen on, '%s': %s", config->host,
            gai_strerror(failure));
    for (struct addrinfo *address = found; address && listeners->count < LISTENERS_MAX;
         address = address->ai_next) {
        int descriptor = listener_bind(address, config);
        if (descriptor < 0) {
            /* "localhost" may resolve to ::1 on a machine without IPv6: no reason to fail while another
             * address works. */
            if ((errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL) && (listeners->count || address->ai_next))
                continue;
            error_set_errno(err, errno, "cannot listen on %s port %d", config->host, config->port);
            freeaddrinfo(found);
            listeners_close(listeners);
            return -1;
        }
        listeners->descriptors[listeners->count++] = descriptor;
    }
    freeaddrinfo(found);
    if (!listeners->count)
        return error_set(
            err, EADDRNOTAVAIL, "cannot listen on %s port %d: no usable address", config->host, config->port);
    return 0;
}

void listeners_close(struct listeners *listeners)
{
    for (int i = 0; i < listeners->count; i++)
        close(listeners->descriptors[i]);
    listeners->count = 0;
}

void listeners_describe(const struct listeners *listeners, int index, char *out, size_t size)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    char host[NI_MAXHOST];
    char port[NI_MAXSERV];
    snprintf(out, size, "?");
    if (getsockname(listeners->descriptors[index], (struct sockaddr *)&address, &length) < 0)
        return;
    if (getnameinfo((struct sockaddr *)&address, length, host, sizeof host, port, sizeof port,
            NI_NUMERICHOST | NI_NUMERICSERV))
        return;
    int written = snprintf(out, size, address.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    if (written < 0)
        out[0] = '\0';
}
