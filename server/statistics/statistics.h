/*
 * The clients that announced themselves to statistics, on all servers of the backbone: the state, without
 * its documents (statistics_document.h), timers and messages (statistics_service.h). The master has it, one
 * place on the host: it sees every event in order and outlives the workers.
 *
 * Each channel (websocket of a client) knows whom it depends on: a worker of this host, or another server
 * by the id under which that one speaks on the backbone. When these go, their channels go. Pure.
 */
#ifndef OPALD_SERVER_STATISTICS_STATISTICS_H
#define OPALD_SERVER_STATISTICS_STATISTICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include "server/statistics/named.h"
#include "shm/common/config.h"
#include "shm/common/object.h"
#include "shm/common/text.h"

/* bytes of an rpc id, a client id, a server's id */
#define STATISTICS_NAME_MAX 1024

struct statistics;

/* Another server (in the reference: a worker process), by the id under which it speaks on the backbone. */
struct statistics_source {
    struct named named;
    TAILQ_ENTRY(statistics_source) link;
    uint64_t seen_ns;
    bool dead;
};

/* A websocket of a client; named by its rpc id. */
struct statistics_channel {
    struct named named;
    TAILQ_ENTRY(statistics_channel) in_client;
    TAILQ_ENTRY(statistics_channel) in_all;
    struct statistics_client *client;
    /* another server; NULL: see `slot` */
    struct statistics_source *source;
    /* the worker of this host; -1: nobody knows (learned from the reference's state) */
    int slot;
    /* of memory */
    size_t bytes;
    /* as /statistics shows it, a JSON object */
    struct text shown;
};

struct statistics_client {
    struct named named;
    TAILQ_ENTRY(statistics_client) link;
    TAILQ_HEAD(statistics_client_channels, statistics_channel) channels;
    size_t count;
};

/* Whom a channel depends on. */
struct statistics_owner {
    /* worker slot of this host, or -1: */
    int slot;
    /* another server's id on the backbone; absent: nobody knows */
    struct slice source;
};

/* A channel as it was announced. Views. */
struct statistics_announcement {
    struct slice rpc_id;
    struct slice client_id;
    struct slice shown;
};

enum statistics_verdict {
    STATISTICS_TAKEN,
    /* not an announcement */
    STATISTICS_INVALID,
    /* channels of that client */
    STATISTICS_TOO_MANY,
    /* the memory limit is reached */
    STATISTICS_FULL,
};

struct statistics *statistics_make(const struct statistics_settings *settings);
void statistics_free(struct statistics *statistics);

/* What is there already under that rpc id is replaced. `now_ns`: for a server that is new. */
MUST_CHECK enum statistics_verdict statistics_put(struct statistics *statistics,
    const struct statistics_announcement *announcement, struct statistics_owner owner, uint64_t now_ns);
bool statistics_has(const struct statistics *statistics, struct slice rpc_id);
/* Whether that server is known and taken for dead. */
bool statistics_is_dead(const struct statistics *statistics, struct slice source);
/* False when there was no such channel. */
bool statistics_remove(struct statistics *statistics, struct slice rpc_id);
/* A server's sign of life. True when it had been taken for dead: its clients have to be asked for again. */
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
/* workers of other servers */
size_t statistics_servers(const struct statistics *statistics);
/* About how many bytes all clients and servers take when they are shown. Kept up with each change: it costs
 * nothing. */
size_t statistics_shown_bytes(const struct statistics *statistics);
/* In the order in which they came; NULL at the end. `client` NULL: the first one. */
const struct statistics_client *statistics_next_client(
    const struct statistics *statistics, const struct statistics_client *client);
/* Ids of the workers of other servers; as above. */
const struct named *statistics_next_server(const struct statistics *statistics, const struct named *server);

#endif
