/* Which websocket clients this worker has: for itself, and for the workers that ask. Worker's loop only. */
#ifndef OPALD_WORKER_CLIENT_CLIENT_ROSTER_H
#define OPALD_WORKER_CLIENT_CLIENT_ROSTER_H

#include <stddef.h>
#include "shm/common/text.h"
#include "worker/client/connections.h"
#include "worker/client/peers.h"

struct client_roster;

/* Pointers must outlive it. */
struct client_roster_settings {
    struct connections *connections;
    struct peers *peers;
    /* this worker's */
    unsigned slot;
    /* of an answer, in bytes */
    size_t answer_max_bytes;
};

/* Answers HANDOFF_ASK_CLIENTS from now on. */
struct client_roster *client_roster_open(const struct client_roster_settings *settings);
/* NULL is allowed. */
void client_roster_close(struct client_roster *roster);
/* Appends the list (client_list.h) of the open websockets. */
void client_roster_list(const struct connections *connections, struct text *list);

#endif
