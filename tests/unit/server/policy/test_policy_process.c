/* The whole policy process, forked: its signs of life, its ends, and what makes it look for changes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/link/policy_socket.h"
#include "shm/uplink.h"
#include "shm/worker_table.h"
#include "server/policy/policy_process.h"
#include "tests/unit/server/policy/bundle/bundle_harness.h"

#define SLOT 1

static struct {
    struct harness_repository remote;
    char clones[64];
    struct config config;
    struct segment *master;
    int lifeline;
    int poke;
    int log;
    pid_t pid;
} process;

static void run_child(const struct policy_descriptors *descriptors)
{
    char *argv[] = {(char[]){"opald"}, (char[]){"--as-policy"}, NULL};
    close(process.lifeline);
    dup2(process.log, STDERR_FILENO);
    log_configure(&(struct log_settings){.level = LOG_INFO});
    _exit(policy_process_main(&process.config, descriptors, 2, argv));
}

static void start(void)
{
    const struct segment_settings settings = {.ring_bytes = 1 << 20, .uplink_bytes = 1 << 16, .slots = 2};
    struct error err = {0};
    char address[POLICY_ADDRESS_MAX];
    int ends[2];
    process.master = segment_create(&settings, &err);
    assert_non_null(process.master);
    assert_int_equal(uplink_prepare(process.master, SLOT, &err), 0);
    worker_table_next_incarnation(process.master, SLOT);
    event_limit_write(process.master, 20000);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    process.lifeline = ends[1];
    process.poke = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    process.log = memfd_create("log", MFD_CLOEXEC);
    int listener = policy_socket_listen(address, &err);
    assert_true(listener >= 0);
    const struct policy_descriptors descriptors = {.segment = segment_descriptors(process.master, SLOT),
        .slot = SLOT,
        .lifeline = ends[0],
        .listener = listener,
        .poke = process.poke};
    process.pid = fork();
    if (process.pid == 0)
        run_child(&descriptors);
    close(ends[0]);
    close(listener);
}

/* Whether the child has logged that, within ten seconds. */
static bool logged(const char *words)
{
    static char text[100000];
    for (unsigned i = 0; i < 500; i++) {
        ssize_t length = pread(process.log, text, sizeof text - 1, 0);
        text[length > 0 ? length : 0] = '\0';
        if (strstr(text, words))
            return true;
        usleep(20000);
    }
    return false;
}

/* The exit status; -1: it does not end within ten seconds. */
static int end_status(void)
{
    int status;
    for (unsigned i = 0; i < 500; i++) {
        if (waitpid(process.pid, &status, WNOHANG) == process.pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
        usleep(20000);
    }
    kill(process.pid, SIGKILL);
    waitpid(process.pid, &status, 0);
    return -1;
}

static int begin(void **state)
{
    static char *extensions[] = {".rego"};
    (void)state;
    harness_repository_open(&process.remote);
    harness_repository_commit(
        &process.remote, (const struct harness_file[]){{"a.rego", "a", 0, 0}, {NULL, NULL, 0, 0}});
    snprintf(process.clones, sizeof process.clones, "/tmp/opald-test-clones-XXXXXX");
    assert_non_null(mkdtemp(process.clones));
    process.config = (struct config){.policy_source_type = "GIT",
        .policy_repo_url = process.remote.folder,
        .policy_repo_main_branch = "master",
        .policy_repo_clone_path = process.clones,
        .policy_repo_clone_folder_prefix = "clone",
        .policy_repo_ssh_host_keys = "accept-new",
        .policy_repo_stall_seconds = 30,
        .bundle_files_max = 100,
        .bundle_waiting_max = 10,
        .bundle_build_seconds = 10,
        .filter_file_extensions = {extensions, 1}};
    start();
    return 0;
}

static int end(void **state)
{
    char command[128];
    (void)state;
    segment_close(process.master);
    close(process.lifeline);
    close(process.poke);
    close(process.log);
    harness_repository_close(&process.remote);
    snprintf(command, sizeof command, "rm -rf %s", process.clones);
    return system(command);
}

static void test_signs_of_life_and_the_end(void **state)
{
    (void)state;
    assert_true(logged("Clone succeeded"));
    uint64_t before = worker_table_heartbeat(process.master, SLOT);
    for (unsigned i = 0; i < 500 && worker_table_heartbeat(process.master, SLOT) == before; i++)
        usleep(20000);
    assert_true(worker_table_heartbeat(process.master, SLOT) > before);
    assert_int_equal(kill(process.pid, SIGTERM), 0);
    assert_int_equal(end_status(), 0);
    assert_true(logged("Stopping policy watcher"));
}

static void test_other_signals(void **state)
{
    (void)state;
    assert_true(logged("Launching policy watcher"));
    assert_true(logged("listening on webhook topic"));
    assert_int_equal(kill(process.pid, SIGINT), 0);
    assert_int_equal(end_status(), 0);
}

/* The master wrote: an event on the webhook topic has passed. */
static void test_poke(void **state)
{
    const uint64_t one = 1;
    (void)state;
    assert_true(logged("Clone succeeded"));
    assert_int_equal(write(process.poke, &one, sizeof one), sizeof one);
    assert_true(logged("Webhook listener triggered (0)"));
    assert_true(logged("No new commits: HEAD is at"));
    kill(process.pid, SIGTERM);
    assert_int_equal(end_status(), 0);
}

static void test_the_master_is_gone(void **state)
{
    (void)state;
    assert_true(logged("Clone succeeded"));
    close(process.lifeline);
    process.lifeline = dup(STDIN_FILENO);
    assert_int_equal(end_status(), 1);
    assert_true(logged("the master is gone: the policy process ends"));
}

/* A source that gives up ends the process with status 1, so that the master starts another. */
static void test_a_source_that_gives_up(void **state)
{
    (void)state;
    kill(process.pid, SIGTERM);
    end_status();
    process.config.policy_repo_url = "/nowhere/at/all";
    process.config.policy_repo_clone_timeout = 1;
    segment_close(process.master);
    close(process.lifeline);
    close(process.poke);
    close(process.log);
    start();
    assert_int_equal(end_status(), 1);
    assert_true(logged("no clone within OPAL_POLICY_REPO_CLONE_TIMEOUT=1"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {TEST(test_signs_of_life_and_the_end), TEST(test_other_signals),
        TEST(test_poke), TEST(test_the_master_is_gone), TEST(test_a_source_that_gives_up)};
    return cmocka_run_group_tests_name("server/policy/policy_process", tests, NULL, NULL);
}
