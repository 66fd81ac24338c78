/* What one client and all of them consist of: for load_swarm.c and load_slow.c alone. */
#ifndef OPALD_BENCH_LOAD_CLIENT_H
#define OPALD_BENCH_LOAD_CLIENT_H

#include "tests/bench/load_loop.h"
#include "tests/bench/load_swarm.h"

#define CLIENT_MAGIC        0x636c6e74U
#define READ_BYTES          (256U * 1024U)
#define CLIENTS_PER_ADDRESS 20000U
/* receive buffer of a slow client: what waits is the server's to keep */
#define SLOW_ROOM (64 * 1024)
#define NOTHING   UINT64_MAX

enum client_state { CLIENT_CONNECTING, CLIENT_SHAKING, CLIENT_SUBSCRIBING, CLIENT_READY, CLIENT_GONE };

struct client {
    struct source source;
    uint32_t magic;
    int descriptor;
    struct swarm *swarm;
    enum client_state state;
    unsigned index;
    bool slow;
    bool elsewhere;
    /* events that came to this client last */
    unsigned last_count;
    /* ns: what it may read is counted from here */
    uint64_t slow_since;
    /* sequence that must come now */
    uint64_t next;
    /* a frame that is not whole */
    unsigned char *partial;
    size_t partial_length;
    unsigned char *unsent;
    size_t unsent_length;
};

struct swarm {
    struct swarm_settings settings;
    int loop;
    struct client *clients;
    unsigned opened;
    unsigned ready;
    unsigned failed;
    /* ns, for the rate */
    uint64_t opened_first;
    /* ns, of the last swarm_slow_turn */
    uint64_t slow_turned;
    /* clients that are ready, by group */
    unsigned *group_size;
    /* clients that still wait, by sequence */
    uint32_t *remaining;
    uint64_t announced;
    uint64_t announced_room;
    uint64_t events_open;
    uint64_t deliveries_open;
    struct swarm_tally tally;
    bool stamp;
    /* CLOCK_REALTIME less CLOCK_MONOTONIC */
    uint64_t stamp_offset;
    /* the kernel's stamp on what is being taken, monotonic; 0 without */
    uint64_t arrived;
    /* READ_BYTES */
    unsigned char *input;
    /* replies to one read */
    unsigned char *output;
    size_t output_length;
    size_t output_room;
};

/* The connection is gone: counts it, and what it still should have got. */
void client_end(struct client *client);

#endif
