/*
 * ring_kill [seconds [seed]]: processes that are killed (SIGKILL) and stopped (SIGSTOP, SIGCONT) at every
 * point between two stores, first each point by itself, then at random points and at any instruction.
 *
 *   writer    the ring's writer is a child here; another one takes over from its position. Readers: no gap,
 *             no bad byte, no lost wake-up.
 *   workers   the master (this process) writes the ring and drains the uplinks; workers read and commit.
 *             Readers as above; no committed uplink record is lost or doubled; a dead worker is replaced at
 *             the tail; a stopped one holds the writer up, nothing is overwritten, and it is killed and
 *             replaced, or goes on where it was.
 *   doorbell  a worker stopped in the middle of ringing doesn't keep another from waking the master.
 *
 * The points are SHM_POINT in shm/, which this build (-DSHM_POINTS) turns into calls of shm_point in
 * kill_stage.c.
 */
#include "tests/stress/kill_stage.h"

static void report_points(void)
{
    printf("%-18s %12s %8s %8s\n", "point", "passed", "killed", "stopped");
    for (unsigned point = 0; point < SHM_POINT_COUNT; point++) {
        uint64_t killed = atomic_load(&stage->killed[point]);
        uint64_t stopped = atomic_load(&stage->stopped[point]);
        printf("%-18s %12llu %8llu %8llu\n", point_names[point],
            (unsigned long long)atomic_load(&stage->passed[point]), (unsigned long long)killed,
            (unsigned long long)stopped);
        if (killed == 0 || stopped == 0)
            STRESS_FAIL("nobody was killed or nobody was stopped at %s", point_names[point]);
    }
    printf("%-18s %12s %8llu %8llu\n", "anywhere", "", (unsigned long long)killed_anywhere,
        (unsigned long long)stopped_anywhere);
    printf("ok points: somebody was killed and somebody stopped at each of %d\n", (int)SHM_POINT_COUNT);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 12;
    seed = argc > 2 ? strtoull(argv[2], NULL, 0) : clock_monotonic_ns();
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("seed %llu\n", (unsigned long long)seed);
    stage_open();
    scene_doorbell();
    scene_writer(seconds * 0.4);
    scene_workers(seconds * 0.6);
    report_points();
    return 0;
}
