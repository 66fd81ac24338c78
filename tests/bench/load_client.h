/* What one client and all of them consist of: for load_swarm.c and load_slow.c alone. */
#ifndef OPALD_BENCH_LOAD_CLIENT_H
#define OPALD_BENCH_LOAD_CLIENT_H

#include "tests/bench/load_loop.h"
#include "tests/bench/load_swarm.h"

#define CLIENT_MAGIC        0x636c6e74U
#define READ_BYTES          (256U * 1024U)
#define CLIENTS_PER_ADDRESS 20000U
#define SLOW_ROOM           (64 * 1024) /* receive buffer of a slow client: what waits is the server's to keep */
#define NOTHING             UINT64_MAX

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
    unsigned last_count;    /* events that came to this client last */
    uint64_t slow_since;    /* ns: what it may read is counted from here */
    uint64_t next;          /* sequence that must come now */
    unsigned char *partial; /* a frame that is not whole */
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
    uint64_t opened_first; /* ns, for the rate */
    uint64_t slow_turned;  /* ns, of the last swarm_slow_turn */
    unsigned *group_size;  /* clients that are ready, by group */
    uint32_t *remaining;   /* clients that still wait, by sequence */
    uint64_t announced;
    uint64_t announced_room;
    uint64_t events_open;
    uint64_t deliveries_open;
    struct swarm_tally tally;
    bool stamp;
    uint64_t stamp_offset; /* CLOCK_REALTIME less CLOCK_MONOTONIC */
    uint64_t arrived;      /* the kernel's stamp on what is being taken, monotonic; 0 without */
    unsigned char *input;  /* READ_BYTES */
    unsigned char *output; /* replies to one read */
    size_t output_length;
    size_t output_room;
};

/* The connection is gone: counts it, and what it still should have got. */
void client_end(struct client *client);

#endif
