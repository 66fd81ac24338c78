#include "shm/common/passed_descriptor.h"

#include <stddef.h>
#include <string.h>
#include <unistd.h>

int passed_descriptor_take(struct msghdr *message)
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
