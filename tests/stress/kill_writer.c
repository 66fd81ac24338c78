/* Scene of ring_kill: the ring's writer is a child that is killed and stopped; another one takes over from
 * its position. */
#include "tests/stress/kill_stage.h"

#include <errno.h>

static void writer_run(void)
{
    struct ring_writer *writer = ring_writer_open(segment);
    uint64_t since = clock_monotonic_ns();
    while (!atomic_load(&stage->stop)) {
        bool room = true;
        for (uint32_t i = stress_random(&seed, 30); i > 0 && room; i--) {
            room = writer_put(writer);
            if (room)
                since = clock_monotonic_ns();
        }
        writer_wake(writer);
        if (clock_monotonic_ns() - since > STUCK_NS)
            STRESS_FAIL("readers that run hold up the writer");
        stress_pause(stress_random(&seed, 60)); /* readers fall asleep */
    }
    _exit(0);
}

static pid_t writer_start(void)
{
    pid_t pid = actor_fork(WRITER);
    if (pid == 0)
        writer_run();
    return pid;
}

static void check_worker_alive(pid_t pid)
{
    int status;
    if (waitpid(pid, &status, WNOHANG) == pid)
        check_end("a reader that nobody killed", status);
}

/* Waits for what was armed; a stopped writer goes on after a moment, a killed one is followed by another. */
static pid_t writer_event(pid_t writer, const char *what, uint64_t patience_ns)
{
    uint64_t until = clock_monotonic_ns() + patience_ns;
    int status;
    pid_t got;
    while ((got = waitpid(writer, &status, WNOHANG | WUNTRACED)) == 0) {
        if (clock_monotonic_ns() > until) {
            if (what != NULL)
                STRESS_FAIL("the writer never passes %s", what);
            return writer;
        }
        stress_pause(50);
    }
    if (got < 0)
        STRESS_FAIL("waitpid: %s", strerror(errno));
    if (WIFSTOPPED(status)) {
        stress_pause(stress_random(&seed, 3000));
        kill(writer, SIGCONT);
        return writer;
    }
    check_end("the writer", status);
    return writer_start();
}

void scene_writer(double seconds)
{
    struct ring_writer *own;
    scene_open(&own);
    ring_writer_close(own);
    pid_t workers[WORKERS];
    for (unsigned slot = 0; slot < WORKERS; slot++)
        workers[slot] = worker_start(slot, false);
    pid_t writer = writer_start();
    for (int point = SHM_POINT_WRITER_PADDED; point <= SHM_POINT_WRITER_WOKE; point++)
        for (int repeat = 0; repeat < 12; repeat++) {
            arm(WRITER, point, (int)stress_random(&seed, 5) + 1, repeat % 2 ? SIGKILL : SIGSTOP);
            writer = writer_event(writer, point_names[point], STUCK_NS);
        }
    uint64_t until = clock_monotonic_ns() + (uint64_t)(seconds * (double)CLOCK_SECOND);
    while (clock_monotonic_ns() < until) {
        int signal_number = stress_random(&seed, 2) ? SIGKILL : SIGSTOP;
        if (stress_random(&seed, 2)) {
            arm(WRITER, (int)stress_random(&seed, SHM_POINT_WRITER_WOKE + 1),
                (int)stress_random(&seed, 20) + 1, signal_number);
            writer = writer_event(writer, NULL, 20 * CLOCK_MILLISECOND);
        } else {
            stress_pause(stress_random(&seed, 2000));
            kill(writer, signal_number);
            signal_number == SIGKILL ? killed_anywhere++ : stopped_anywhere++;
            writer = writer_event(writer, "a signal", STUCK_NS);
        }
        for (unsigned slot = 0; slot < WORKERS; slot++)
            check_worker_alive(workers[slot]);
    }
    /* Ends it in peace, then the readers. */
    disarm(WRITER);
    atomic_store(&stage->stop, true);
    int status;
    while (waitpid(writer, &status, WUNTRACED) == writer && WIFSTOPPED(status))
        kill(writer, SIGCONT);
    if (WIFSIGNALED(status) ? WTERMSIG(status) != SIGKILL : WEXITSTATUS(status) != 0)
        check_end("the writer", status);
    own = ring_writer_open(segment);
    readers_end(own, workers);
    uint64_t read = atomic_load(&stage->actors[0].read);
    for (unsigned slot = 1; slot < WORKERS; slot++)
        if (atomic_load(&stage->actors[slot].read) != read)
            STRESS_FAIL("reader %u read %llu records, reader 0 %llu", slot,
                (unsigned long long)atomic_load(&stage->actors[slot].read), (unsigned long long)read);
    printf("ok writer: %llu records read by each of %u readers\n", (unsigned long long)read, WORKERS);
    ring_writer_close(own);
    segment_close(segment);
}
