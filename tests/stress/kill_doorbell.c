/* Scene of ring_kill: a worker stopped in the middle of ringing doesn't keep another from waking the
 * master. */
#include "tests/stress/kill_stage.h"

static pid_t ringer_start(unsigned slot)
{
    pid_t pid = actor_fork(slot);
    if (pid == 0) {
        worker_attach(slot);
        struct uplink *uplink = uplink_open(segment, slot);
        while (atomic_load(&self->countdown) == 0)
            stress_pause(100);
        (void)!uplink_reserve(uplink, 1, 16);
        uplink_commit(uplink);
        _exit(0);
    }
    return pid;
}

/* At each point of the ringing: worker 0 is stopped there (or killed), then worker 1 commits. The master
 * sleeps from before until the doorbell, sees to worker 0's record if it was committed, and sleeps again
 * before worker 1 comes. */
void scene_doorbell(void)
{
    for (int point = SHM_POINT_UPLINK_COMMITTED; point <= SHM_POINT_UPLINK_DONE; point++)
        for (int again = 0; again < 2; again++) {
            struct ring_writer *writer;
            scene_open(&writer);
            struct uplink *uplinks[2] = {uplink_open(segment, 0), uplink_open(segment, 1)};
            arm(0, NO_POINT, 0, SIGSTOP);
            arm(1, NO_POINT, 0, SIGSTOP);
            pid_t first = ringer_start(0);
            pid_t second = ringer_start(1);
            if (!uplink_master_sleep(segment))
                STRESS_FAIL("doorbell: nothing was committed");
            arm(0, point, 1, SIGSTOP);
            int status;
            if (waitpid(first, &status, WUNTRACED) != first || !WIFSTOPPED(status))
                STRESS_FAIL("doorbell: the first worker doesn't stop at %s", point_names[point]);
            if (again) {
                /* The master woke for something else, took the record and sleeps anew: the late worker's
                 * clearing must not reach this sleep. */
                struct uplink_record record;
                bool corrupt;
                uplink_master_awake(segment);
                if (!uplink_next(uplinks[0], &record, &corrupt))
                    STRESS_FAIL("doorbell: the committed record isn't there");
                uplink_release(uplinks[0]);
                if (!uplink_master_sleep(segment))
                    STRESS_FAIL("doorbell: there is nothing to read");
                if (point >= SHM_POINT_UPLINK_RANG) {
                    kill(first, SIGCONT);
                    waitpid(first, &status, 0);
                    if (stress_readable(segment_own_eventfd(segment), 0))
                        STRESS_FAIL("doorbell: rung for nothing");
                }
            }
            arm(1, NO_POINT, 1, SIGSTOP);
            if (!stress_readable(segment_own_eventfd(segment), 5000))
                STRESS_FAIL("doorbell: a worker stopped at %s keeps another from waking the master",
                    point_names[point]);
            kill(first, SIGKILL);
            waitpid(first, &status, 0);
            waitpid(second, &status, 0);
            if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                STRESS_FAIL("doorbell: the second worker: wait status %x", (unsigned)status);
            uplink_close(uplinks[0]);
            uplink_close(uplinks[1]);
            ring_writer_close(writer);
            segment_close(segment);
        }
    printf("ok doorbell: rung past a stopped worker\n");
}
