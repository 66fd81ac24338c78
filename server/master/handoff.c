#include "server/master/handoff.h"

#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shm/link/handoff_message.h"

#define HANDOFF_MESSAGE_MAX 256 /* bytes beside the descriptor; passed on as they are */

union handoff_control {
    struct cmsghdr header; /* for alignment */
    char bytes[CMSG_SPACE(sizeof(int))];
};

unsigned handoff_rescue(int from, int to)
{
    unsigned count = 0;
    for (;;) {
        char payload[HANDOFF_MESSAGE_MAX];
        union handoff_control control;
        struct iovec part = {payload, sizeof payload};
        struct msghdr message = {
            .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
        ssize_t received = recvmsg(from, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (received <= 0)
            return count;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        /* questions and answers die with who was to get them */
        bool connection = received != sizeof(struct handoff_message) || payload[0] == HANDOFF_CONNECTION;
        if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        int descriptor;
        memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
        part.iov_len = (size_t)received;
        message.msg_controllen = CMSG_SPACE(sizeof(int));
        if (to >= 0 && connection)
            (void)!sendmsg(to, &message,
                MSG_DONTWAIT | MSG_NOSIGNAL); /* not taken: closed below, the client comes back */
        close(descriptor);
        count += connection;
    }
}
