/* The packets of policy_link.h over a socket: the part that both sides share. Never blocks. */
#ifndef OPALD_SHM_LINK_POLICY_SOCKET_H
#define OPALD_SHM_LINK_POLICY_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "shm/common/error.h"
#include "shm/common/object.h"
#include "shm/common/text.h"
#include "shm/link/policy_link.h"

/* Master: a listening socket at an address that the kernel chooses, written to `address` as text.
 * Close-on-exec, non-blocking. -1 with `err`. */
MUST_CHECK int policy_socket_listen(char address[POLICY_ADDRESS_MAX], struct error *err);
/* Worker: a connection, or -1 with errno (EAGAIN: the backlog is full, try again). */
MUST_CHECK int policy_socket_connect(const char *address);
/* The peer's process; -1 when it is not of this process's user (or not there any more). For a connection made
 * by policy_socket_connect it is who called listen: the master. */
pid_t policy_socket_peer(int socket);

enum policy_sent { POLICY_SENT, POLICY_SEND_LATER, POLICY_SEND_FAILED };
/* `descriptor` < 0: none; it stays the caller's. POLICY_SEND_LATER: the peer's queue is full. */
MUST_CHECK enum policy_sent policy_socket_send(
    int socket, enum policy_message_type type, uint64_t id, struct slice body, int descriptor);

struct policy_message {
    struct policy_message_head head;
    /* view into the buffer given, 8-byte aligned when that is */
    struct slice body;
    /* -1: none; else the receiver's, close-on-exec */
    int descriptor;
};
enum policy_received { POLICY_RECEIVED, POLICY_NOTHING_NOW, POLICY_CLOSED };
/* `buffer`: POLICY_PACKET_MAX bytes. POLICY_CLOSED also for what makes no sense. */
#define POLICY_PACKET_MAX (sizeof(struct policy_message_head) + POLICY_BODY_MAX)
MUST_CHECK enum policy_received policy_socket_receive(
    int socket, void *buffer, struct policy_message *message);

#endif
