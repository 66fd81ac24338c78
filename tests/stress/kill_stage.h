/*
 * What the scenes of ring_kill share: the stage (memory beside the segment, where the test arms its actors
 * and sees what they did), the worker process, and how scenes begin and end.
 */
#ifndef OPALD_TESTS_STRESS_KILL_STAGE_H
#define OPALD_TESTS_STRESS_KILL_STAGE_H

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include "tests/stress/stress.h"
#include "shm/ring.h"
#include "shm/uplink.h"

#ifndef SHM_POINTS
#error "build with -DSHM_POINTS"
#endif

#define RING_BYTES   65536u
#define UPLINK_BYTES 4096u
#define WORKERS      4u
#define SALT         1u
#define TYPE_END     RING_RESYNC
#define WRITER       WORKERS /* index of the writer child among the actors */
#define ACTORS       (WORKERS + 1)
#define NO_POINT     (-1)
/* A running process gets nowhere for that long: something is lost. */
#define STUCK_NS (5 * CLOCK_SECOND)
/* A stopped reader holds up a full ring for that long: it is killed and replaced. */
#define STALL_NS (20 * CLOCK_MILLISECOND)

/* Shared by all processes of the test, beside the segment. */
struct actor {
    /* armed: the process gets `signal` when it passes it for the `countdown`th time */
    _Atomic int point;
    _Atomic int countdown;
    _Atomic int signal;
    /* uplink records, of this incarnation, whose commit returned */
    _Atomic uint64_t committed;
    /* uplink position after the last of them */
    _Atomic uint64_t committed_until;
    /* ring records, ever */
    _Atomic uint64_t read;
};

struct stage {
    struct actor actors[ACTORS];
    /* every wake-up for ring records before it is done */
    _Atomic uint64_t woken_through;
    _Atomic bool stop;
    _Atomic uint64_t passed[SHM_POINT_COUNT];
    _Atomic uint64_t killed[SHM_POINT_COUNT];
    _Atomic uint64_t stopped[SHM_POINT_COUNT];
};

extern struct stage *stage;
extern struct segment *segment; /* the master's view, in a worker its own */
extern struct actor *self;      /* NULL in the test's own process */
extern uint64_t seed;
extern const char *const point_names[SHM_POINT_COUNT];
/* Signals at any instruction, sent from outside. */
extern uint64_t killed_anywhere;
extern uint64_t stopped_anywhere;

void stage_open(void);
/* A new segment with all slots prepared and active; nothing is armed. */
void scene_open(struct ring_writer **writer);
void arm(unsigned actor, int point, int countdown, int signal_number);
void disarm(unsigned actor);
/* Forks an actor (0 in the child). The child dies with the test. */
pid_t actor_fork(unsigned actor);
/* A worker: reads the ring and, when it publishes, commits to its uplink, until the last record. */
pid_t worker_start(unsigned slot, bool publishes);
/* The worker's own view of the segment, from a copy of the descriptors, in a child. */
void worker_attach(unsigned slot);
/* One record whose content follows from its position; false while the ring is full. */
bool writer_put(struct ring_writer *writer);
void writer_wake(struct ring_writer *writer);
/* Fails unless `status` (of waitpid) says that it was killed by SIGKILL, which only the test sends. */
void check_end(const char *who, int status);
/* The last record; every reader must come to it and have been content all along. */
void readers_end(struct ring_writer *writer, const pid_t *workers);

void scene_doorbell(void);
void scene_writer(double seconds);
void scene_workers(double seconds);

#endif
