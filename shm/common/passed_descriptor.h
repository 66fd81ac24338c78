/* A descriptor that comes with a message of a local socket (SCM_RIGHTS, unix(7)). */
#ifndef OPALD_SHM_COMMON_PASSED_DESCRIPTOR_H
#define OPALD_SHM_COMMON_PASSED_DESCRIPTOR_H

#include <sys/socket.h>

/* For a message that carries one at most. The buffer ends in padding for alignment, in which the kernel puts a second one if it was sent: so
 * passed_descriptor_take must be called after every recvmsg. */
union passed_descriptor_buffer {
    struct cmsghdr header; /* for alignment */
    char bytes[CMSG_SPACE(sizeof(int))];
};

/* After recvmsg: the one descriptor that came, the caller's; -1: none. When several came, or the kernel could not give all (no room, or none left
 * for this process), all are closed, the result is -1, and MSG_CTRUNC is set in msg_flags. */
int passed_descriptor_take(struct msghdr *message);

#endif
