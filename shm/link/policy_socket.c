#include "shm/link/policy_socket.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/common/passed_descriptor.h"

#define LISTEN_BACKLOG 1024
/* Room for a few of the largest packets; the kernel may grant less (net.core.wmem_max), which still holds
 * one. */
#define SEND_BUFFER (4 * 1024 * 1024)

static int make_socket(void)
{
    int size = SEND_BUFFER;
    int made = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (made >= 0)
        setsockopt(made, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    return made;
}

int policy_socket_listen(char address[POLICY_ADDRESS_MAX], struct error *err)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t length = sizeof name;
    int listener = make_socket();
    /* An address of the family alone: the kernel makes up an abstract name (autobind). */
    if (listener < 0 || bind(listener, (struct sockaddr *)&name, sizeof name.sun_family) < 0 ||
        getsockname(listener, (struct sockaddr *)&name, &length) < 0 || listen(listener, LISTEN_BACKLOG) < 0)
        goto failed;
    size_t characters = length - offsetof(struct sockaddr_un, sun_path);
    if (characters < 2 || characters > POLICY_ADDRESS_MAX || name.sun_path[0] != '\0') {
        errno = EPROTO;
        goto failed;
    }
    memcpy(address, name.sun_path + 1, characters - 1);
    address[characters - 1] = '\0';
    return listener;
failed:
    error_set_errno(err, errno, "cannot make the socket of the policy process");
    if (listener >= 0)
        close(listener);
    return -1;
}

int policy_socket_connect(const char *address)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t characters = strlen(address);
    if (characters == 0 || characters >= POLICY_ADDRESS_MAX) {
        errno = EINVAL;
        return -1;
    }
    memcpy(name.sun_path + 1, address, characters);
    int made = make_socket();
    if (made < 0)
        return -1;
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + characters);
    if (connect(made, (struct sockaddr *)&name, length) < 0) {
        int failure = errno;
        close(made);
        errno = failure;
        return -1;
    }
    return made;
}

pid_t policy_socket_peer(int socket)
{
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0 || peer.uid != geteuid())
        return -1;
    return peer.pid > 0 ? peer.pid : -1;
}

enum policy_sent policy_socket_send(
    int socket, enum policy_message_type type, uint64_t id, struct slice body, int descriptor)
{
    struct policy_message_head head = {.type = (uint32_t)type, .version = POLICY_LINK_VERSION, .id = id};
    const struct iovec parts[2] = {{&head, sizeof head}, {(void *)(uintptr_t)body.data, body.length}};
    if (body.length > POLICY_BODY_MAX)
        return POLICY_SEND_FAILED;
    ssize_t sent = passed_descriptor_send(socket, parts, 2, descriptor, MSG_DONTWAIT);
    if (sent >= 0)
        return POLICY_SENT;
    /* ETOOMANYREFS: descriptors on their way that the peer has not taken yet; the limit is per user
     * (unix(7)). */
    return errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS ? POLICY_SEND_LATER
                                                                        : POLICY_SEND_FAILED;
}

enum policy_received policy_socket_receive(int socket, void *buffer, struct policy_message *message)
{
    bool cut;
    ssize_t length = passed_descriptor_receive(
        socket, buffer, POLICY_PACKET_MAX, MSG_DONTWAIT, &message->descriptor, &cut);
    if (length < 0 && errno == EAGAIN)
        return POLICY_NOTHING_NOW;
    if (length < (ssize_t)sizeof message->head || cut)
        goto nonsense;
    memcpy(&message->head, buffer, sizeof message->head);
    if (message->head.version != POLICY_LINK_VERSION)
        goto nonsense;
    message->body =
        (struct slice){(const char *)buffer + sizeof message->head, (size_t)length - sizeof message->head};
    return POLICY_RECEIVED;
nonsense:
    if (message->descriptor >= 0)
        close(message->descriptor);
    message->descriptor = -1;
    return POLICY_CLOSED;
}
