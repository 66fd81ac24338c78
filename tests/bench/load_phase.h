/* One measured stretch: publish so many events in a mode, wait until the clients have them, print what it
 * took. */
#ifndef OPALD_BENCH_LOAD_PHASE_H
#define OPALD_BENCH_LOAD_PHASE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "tests/bench/load_process.h"
#include "tests/bench/load_publish.h"
#include "tests/bench/load_swarm.h"

enum phase_mode {
    /* `parameter` events in flight; 1 is lock step: the next event when all clients have the last */
    PHASE_BURST,
    /* `parameter` events a second */
    PHASE_RATE,
    /* somebody else publishes: wait for `events` of them */
    PHASE_LISTEN,
    /* `parameter` events at once; the paused process meets them all together, then all answers together:
     * what it does is the same every time, whatever the machine's load */
    PHASE_BATCH,
    /* all events are published while the paused process stands still; the clock runs from when it goes on */
    PHASE_DRAIN,
    /* nothing, for `parameter` seconds */
    PHASE_IDLE,
};

struct phase {
    /* as given */
    char name[32];
    enum phase_mode mode;
    double parameter;
    uint64_t events;
};

struct phase_bench {
    int loop;
    struct swarm *swarm;
    /* NULL when nothing is published here */
    struct publish *publish;
    struct process_group servers;
    /* for batch and drain; 0 without */
    pid_t paused;
    /* batch: the clients that this process serves */
    unsigned paused_clients;
    /* a program that counts what the servers do, or NULL */
    const char *hook;
    unsigned slow_clients;
    /* read the servers' memory while a phase runs */
    bool watch_memory;
    uint64_t pss_start;
    /* the most until half of the events were there */
    uint64_t pss_first_half;
    uint64_t pss_peak;
    /* ns, of the last reading */
    uint64_t pss_read;
    /* the next event's */
    uint64_t sequence;
    /* seconds without a delivery after which a phase is given up */
    double stall;
};

/* "lockstep:EVENTS", "burst:K:EVENTS", "rate:R:EVENTS", "listen:EVENTS", "idle:SECONDS", "batch:K:EVENTS",
 * "drain:EVENTS". */
bool phase_parse(const char *text, struct phase *phase);
/* Turns the loop until the servers use no more CPU than at rest; at most two seconds. */
void phase_settle(struct phase_bench *bench);
/* Runs it and prints a JSON object. False when it stalled, or clients lost anything. */
bool phase_run(struct phase_bench *bench, const struct phase *phase, FILE *out);

#endif
