#include "shm/common/passed_descriptor.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for one. It ends in padding for alignment, in which the kernel puts a second one if it was sent. */
union control {
    /* for alignment */
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
};

ssize_t passed_descriptor_send(int socket, const struct iovec *parts, size_t count, int descriptor, int flags)
{
    union control control = {.bytes = {0}};
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)parts, .msg_iovlen = count};
    if (descriptor >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof descriptor);
        memcpy(CMSG_DATA(rights), &descriptor, sizeof descriptor);
    }
    ssize_t sent;
    do
        sent = sendmsg(socket, &message, MSG_NOSIGNAL | flags);
    while (sent < 0 && errno == EINTR);
    return sent;
}

/* The one that came, or -1 after closing whatever came. */
static int take(struct msghdr *message)
{
    int taken = -1;
    size_t count = 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t here = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < here; i++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
            if (count++ == 0)
                taken = descriptor;
            else
                close(descriptor);
        }
    }
    if (count > 1)
        message->msg_flags |= MSG_CTRUNC;
    if (taken >= 0 && (message->msg_flags & MSG_CTRUNC)) {
        close(taken);
        taken = -1;
    }
    return taken;
}

ssize_t passed_descriptor_receive(
    int socket, void *buffer, size_t size, int flags, int *descriptor, bool *cut)
{
    union control control;
    struct iovec part = {buffer, size};
    struct msghdr message = {.msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes};
    ssize_t length;
    do
        length = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags);
    while (length < 0 && errno == EINTR);
    *descriptor = length > 0 ? take(&message) : -1;
    if (cut)
        *cut = length > 0 && (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC));
    return length;
}
