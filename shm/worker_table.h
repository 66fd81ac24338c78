/* One entry a worker slot in shared memory: who is there, how it is, and its counters. */
#ifndef OPALD_SHM_WORKER_TABLE_H
#define OPALD_SHM_WORKER_TABLE_H

#include <stdint.h>
#include "shm/counters.h"
#include "shm/common/backbone_state.h"
#include "shm/segment.h"

enum worker_state {
    /* nobody */
    WORKER_FREE,
    /* forked, not yet accepting */
    WORKER_STARTING,
    /* accepts clients */
    WORKER_READY,
    /* closes its clients and ends */
    WORKER_DRAINING,
    /* ended; the master has yet to clear or replace it */
    WORKER_DEAD,
};

/* All accesses are atomic; any process may read, the named one writes. */
enum worker_state worker_table_state(const struct segment *segment, unsigned slot);
void worker_table_set_state(
    struct segment *segment, unsigned slot, enum worker_state state); /* master and that worker */
int32_t worker_table_pid(const struct segment *segment, unsigned slot);
void worker_table_set_pid(struct segment *segment, unsigned slot, int32_t pid); /* master */
/* The incarnation counts the workers that have lived in the slot; tickets of an older one are void. */
uint32_t worker_table_incarnation(const struct segment *segment, unsigned slot);
void worker_table_next_incarnation(struct segment *segment, unsigned slot); /* master, before each start */
/* Heartbeat: CLOCK_MONOTONIC ns, written by the worker's loop at least once a second. */
uint64_t worker_table_heartbeat(const struct segment *segment, unsigned slot);
void worker_table_beat(struct segment *segment, unsigned slot, uint64_t now_ns);
/* Connections now open in that worker; written by it, read by others to spread the load. */
uint32_t worker_table_connections(const struct segment *segment, unsigned slot);
void worker_table_set_connections(struct segment *segment, unsigned slot, uint32_t count);
/* The process group of a child that the slot's process has running; 0: none. Written by it, read by the
 * master when it has died. */
int32_t worker_table_child_group(const struct segment *segment, unsigned slot);
void worker_table_set_child_group(struct segment *segment, unsigned slot, int32_t group);

/* ---- counters ----
 * Each process adds only to its own block (worker: its slot; master: COUNTER_MASTER), relaxed. A slot's
 * counters survive its worker, so that sums never go down. */
#define COUNTER_MASTER UINT32_MAX
void counter_add(struct segment *segment, uint32_t block, enum counter counter, uint64_t amount);
uint64_t counter_read(const struct segment *segment, uint32_t block, enum counter counter);
uint64_t counter_sum(const struct segment *segment, enum counter counter); /* all slots and the master */
const char *counter_name(enum counter counter);                            /* with its labels */
const char *counter_help(enum counter counter); /* "" for all but the first of a name */

/* The state of the backbone; written by the master, read by workers (health checks). */
enum backbone_state backbone_state_read(const struct segment *segment);
void backbone_state_write(struct segment *segment, enum backbone_state state);
/* Each figure by itself; together they may be of two moments. */
struct backbone_health backbone_health_read(const struct segment *segment);
void backbone_health_write(struct segment *segment, const struct backbone_health *health);
/*
 * When the master's loop last ran (CLOCK_MONOTONIC ns): written by the master several times a second, read by
 * workers (health checks). 0: it has not run yet.
 */
uint64_t master_heartbeat_read(const struct segment *segment);
void master_heartbeat_write(struct segment *segment, uint64_t now_ns);
/* The largest frame (bytes, envelope included) that may enter; the backbone may lower the configured one.
 * Master writes. */
uint64_t event_limit_read(const struct segment *segment);
void event_limit_write(struct segment *segment, uint64_t bytes);
/* What one event may become on the backbone, all its messages together (bytes); 0: no limit, as without a
 * backbone. Master writes. */
uint64_t messages_limit_read(const struct segment *segment);
void messages_limit_write(struct segment *segment, uint64_t bytes);

#endif
