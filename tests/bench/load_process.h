/* What the measured servers use: CPU time and memory of processes and all their descendants, read from
 * outside. */
#ifndef OPALD_BENCH_LOAD_PROCESS_H
#define OPALD_BENCH_LOAD_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

#define PROCESS_ROOTS_MAX 16
#define PROCESS_MAX       1024

struct process_group {
    pid_t roots[PROCESS_ROOTS_MAX];
    unsigned root_count;
};

struct process_usage {
    /* user and system time of all threads, nanosecond resolution */
    uint64_t cpu_ns;
    /* of that, the first root's own */
    uint64_t first_cpu_ns;
    /* proportional set size: shared pages are divided among those that map them */
    uint64_t pss_bytes;
    unsigned processes;
    pid_t pids[PROCESS_MAX];
    /* held by each of them */
    unsigned sockets[PROCESS_MAX];
};

/* How many sockets the process that got most of them between two readings got. */
unsigned process_sockets_gained(const struct process_usage *before, const struct process_usage *after);

/* Looks the descendants up anew at each call. Processes that ended in between are not counted. `memory`:
 * also PSS and sockets, which cost the kernel milliseconds. */
struct process_usage process_group_read(const struct process_group *group, int memory);
/* How many sockets `pid` got between them; all processes with 0. */
unsigned process_sockets_got(
    const struct process_usage *before, const struct process_usage *after, pid_t pid);
/* Stops a process where it is, waits until it has stopped; lets it go on. */
void process_pause(pid_t pid);
void process_resume(pid_t pid);
/* Waits until the process sleeps and uses no CPU time for some milliseconds. */
void process_wait_idle(pid_t pid);
/* CPU time of this process. */
uint64_t process_own_cpu(void);

#endif
