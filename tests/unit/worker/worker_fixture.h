/*
 * A whole worker in a process of its own, with the test as its master: the test owns the segment and moves
 * events from the uplink to the ring. Everything is on loopback and ends with the test. fixture_client.h
 * is a client of the worker.
 */
#ifndef OPALD_TESTS_WORKER_FIXTURE_H
#define OPALD_TESTS_WORKER_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "shm/common/config.h"
#include "shm/common/text.h"
#include "shm/ring_event.h"
#include "shm/ring.h"
#include "shm/uplink.h"
#include "shm/worker_table.h"

struct fixture {
    struct config config;
    struct segment *segment;
    struct ring_writer *ring;
    struct uplink *uplink;
    int listener;
    uint16_t port;
    int lifeline[2];
    /* by slot: receive end, send end */
    int pairs[2][2];
    pid_t pid;
    /* that would answer the last event pumped, and the flags of that event */
    struct ring_acknowledgement acknowledgement;
    uint32_t flags;
    /* the master refuses what is published */
    bool refuse;
    /* the master does not look at the uplink */
    bool hold;
};

/* Settings that suit most tests. Change them between this and fixture_start. */
void fixture_config(struct fixture *fixture);

/* Starts the worker and returns when it is ready. */
void fixture_start(struct fixture *fixture);

/* Starts the worker, which may fail to open. */
void fixture_launch(struct fixture *fixture);

/* Waits for the worker's end; returns its exit status, or 128 + signal. */
int fixture_wait(struct fixture *fixture, int milliseconds);

/* Ends the worker, which must end with status 0, and frees everything. */
void fixture_stop(struct fixture *fixture);

uint64_t fixture_counter(const struct fixture *fixture, enum counter counter);

/* ---- the master's part ---- */

/* Room for a record in the ring; waits for the worker to make some. */
void *fixture_reserve(struct fixture *fixture, enum ring_type type, uint32_t length);

/* Moves what the worker published to the ring. */
void fixture_pump(struct fixture *fixture);

/* A JSON string of `length` bytes, quotes included. */
struct text filler(size_t length);

/* An event of another server that a sleeping worker is not told of: so several can be put into a batch. */
void fixture_event_quiet(struct fixture *fixture, const char *topic, const char *notifier, struct slice data);

/* The same, and the worker is told. */
void fixture_event(struct fixture *fixture, const char *topic, const char *notifier, struct slice data);

#endif
