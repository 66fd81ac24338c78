/*
 * The clients that announced themselves to statistics, on all servers of the backbone: the state, without its timers and messages
 * (server/statistics/statistics_service.h). One place on the host has it, the master: it sees every event in order and outlives the workers.
 *
 * Each channel (websocket of a client) knows whom it depends on: a worker of this host, or another server by the id under which that one
 * speaks on the backbone. When these go, their channels go: a client is shown as long as somebody can vouch for it. Pure.
 */
#ifndef OPALD_SERVER_STATISTICS_STATISTICS_H
#define OPALD_SERVER_STATISTICS_STATISTICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/text.h"

#define STATISTICS_NAME_MAX 1024 /* bytes of an rpc id, a client id, a server's id */

struct statistics;

struct statistics_settings {
    size_t bytes_max;    /* of memory for channels and servers */
    size_t channels_max; /* of one client id */
    double timeout;      /* seconds; a server that is silent for longer is gone */
};

/* Whom a channel depends on. */
struct statistics_owner {
    int slot; /* worker slot of this host, or -1: */
    struct slice
        source; /* another server's id on the backbone; absent: nobody knows (learned from the reference's state) */
};

enum statistics_verdict {
    STATISTICS_TAKEN,
    STATISTICS_INVALID,  /* not an announcement */
    STATISTICS_TOO_MANY, /* channels of that client */
    STATISTICS_FULL,     /* bytes_max */
};

struct statistics *statistics_make(const struct statistics_settings *settings);
void statistics_free(struct statistics *statistics);

/* An announcement's `data`. The rpc_id that is there already is replaced. `rpc_id` (may be NULL) gets a copy of it. */
enum statistics_verdict statistics_add(
    struct statistics *statistics, struct slice data, struct statistics_owner owner, struct text *rpc_id);
/* False when nobody had it. */
bool statistics_remove(struct statistics *statistics, struct slice rpc_id);
/* Another server's whole state: channels that are not known yet are added. `self`: our own id on the backbone, whose channels are not taken
 * from others. `requester` gets the id of who asked for it. -1: not a state. */
int statistics_merge(struct statistics *statistics, struct slice data, struct slice self, uint64_t now_ns,
    struct text *requester);
/* A server's sign of life. True when it had been taken for dead: its clients have to be asked for anew. */
bool statistics_server_seen(
    struct statistics *statistics, struct slice worker_id, struct slice source, uint64_t now_ns);
/* Drops the servers that were silent for too long, and their channels. */
void statistics_expire(struct statistics *statistics, uint64_t now_ns);
/* Drops all that is not this host's own. */
void statistics_forget_others(struct statistics *statistics);
/* Drops the channels of the worker in `slot`; `dropped` is called for each. */
void statistics_drop_worker(struct statistics *statistics, int slot,
    void (*dropped)(void *context, struct slice rpc_id), void *context);

/* Changes whenever what is shown does. */
uint64_t statistics_version(const struct statistics *statistics);
size_t statistics_clients(const struct statistics *statistics);
size_t statistics_channels(const struct statistics *statistics);
size_t statistics_servers(const struct statistics *statistics); /* other servers' workers */
/* "name":[{...},...],... of all clients, and "id",... of the other servers' workers: what stands within the braces and brackets. */
void statistics_write_clients(const struct statistics *statistics, struct text *out);
void statistics_write_servers(const struct statistics *statistics, bool after_other, struct text *out);
/* The state as messages of at most `part_max` bytes each; `part` is called for each. `self` owns what is this host's. How many channels were left
 * out, because one alone is larger than a message. */
size_t statistics_write_state(const struct statistics *statistics, struct slice requester, struct slice self,
    size_t part_max, void (*part)(void *context, struct slice data), void *context);

#endif
