#include "tests/unit/server/policy/source/source_harness.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <ftw.h>
#include <git2.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/common/clock.h"
#include "shm/common/memory.h"
#include "shm/ring_event.h"
#include "shm/ring.h"
#include "server/policy/source/job.h"
#include "shm/uplink.h"

#define SLOT 1

static void on_head_changed(void *context)
{
    struct source_harness *harness = context;
    harness->heads++;
    if (harness->on_head)
        harness->on_head(harness);
}

static void open_segment(struct source_harness *harness)
{
    const struct segment_settings settings = {.ring_bytes = 1 << 20, .uplink_bytes = 1 << 16, .slots = 2};
    struct error err = {0};
    harness->master = segment_create(&settings, &err);
    assert_non_null(harness->master);
    assert_int_equal(uplink_prepare(harness->master, SLOT, &err), 0);
    worker_table_next_incarnation(harness->master, SLOT);
    event_limit_write(harness->master, 20000);
    struct segment_descriptors descriptors = segment_descriptors(harness->master, SLOT);
    descriptors.memory = dup(descriptors.memory);
    descriptors.doorbell = dup(descriptors.doorbell);
    descriptors.wake = dup(descriptors.wake);
    harness->policy.segment = segment_attach(&descriptors, SLOT, &err);
    assert_non_null(harness->policy.segment);
    harness->uplink = uplink_open(harness->master, SLOT);
}

void source_harness_open(struct source_harness *harness, size_t queue_max)
{
    static char *extensions[] = {".rego", ".json"};
    *harness = (struct source_harness){.folder = "/tmp/opald-test-source-XXXXXX"};
    assert_non_null(mkdtemp(harness->folder));
    snprintf(harness->clones, sizeof harness->clones, "%s/clones", harness->folder);
    git_libgit2_init();
    git_libgit2_opts(GIT_OPT_SET_OWNER_VALIDATION, 0);
    harness->config.policy_source_type = "GIT";
    harness->config.policy_repo_main_branch = "master";
    harness->config.policy_repo_clone_path = harness->clones;
    harness->config.policy_repo_clone_folder_prefix = "clone";
    harness->config.policy_repo_ssh_host_keys = "accept-new";
    harness->config.policy_repo_stall_seconds = 30;
    harness->config.bundle_files_max = 1000;
    harness->config.filter_file_extensions = (struct config_list){extensions, 2};
    harness->policy.config = &harness->config;
    harness->policy.slot = SLOT;
    harness->policy.base = event_base_new();
    harness->policy.head_changed = on_head_changed;
    harness->policy.context = harness;
    open_segment(harness);
    harness->policy.publisher = publisher_open(harness->policy.segment, SLOT, queue_max);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status;
    (void)type;
    (void)where;
    return remove(path);
}

void source_harness_close(struct source_harness *harness)
{
    job_kill_all(&harness->policy);
    publisher_close(harness->policy.publisher);
    uplink_close(harness->uplink);
    segment_close(harness->policy.segment);
    segment_close(harness->master);
    event_base_free(harness->policy.base);
    free(harness->policy.repository);
    for (size_t i = 0; i < harness->event_count; i++)
        free(harness->events[i]);
    nftw(harness->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    git_libgit2_shutdown();
}

static void run_once(struct source_harness *harness)
{
    const struct timeval most = {0, 10 * 1000};
    event_base_loopexit(harness->policy.base, &most);
    event_base_loop(harness->policy.base, EVLOOP_ONCE);
}

bool source_harness_run(struct source_harness *harness, const bool *flag)
{
    uint64_t end = clock_monotonic_ns() + 10 * CLOCK_SECOND;
    while (!*flag && clock_monotonic_ns() < end)
        run_once(harness);
    return *flag;
}

void source_harness_run_for(struct source_harness *harness, unsigned milliseconds)
{
    uint64_t end = clock_monotonic_ns() + milliseconds * CLOCK_MILLISECOND;
    while (clock_monotonic_ns() < end)
        run_once(harness);
}

void source_harness_take_events(struct source_harness *harness)
{
    struct uplink_record record;
    struct ring_event event;
    bool corrupt = false;
    publisher_flush(harness->policy.publisher);
    while (uplink_next(harness->uplink, &record, &corrupt)) {
        assert_int_equal(record.type, RING_EVENT);
        assert_true(ring_event_decode(record.body, record.length, &event));
        assert_true(harness->event_count < SOURCE_EVENTS_MAX);
        harness->events[harness->event_count++] = memory_copy(event.data.data, event.data.length);
        uplink_release(harness->uplink);
        publisher_flush(harness->policy.publisher);
    }
    assert_false(corrupt);
}

const char *source_harness_reference(const char *repository, const char *name)
{
    static char hash[41];
    git_repository *git = NULL;
    git_oid oid;
    hash[0] = '\0';
    if (git_repository_open_ext(&git, repository, GIT_REPOSITORY_OPEN_NO_SEARCH, NULL) == 0 &&
        git_reference_name_to_id(&oid, git, name) == 0)
        git_oid_tostr(hash, sizeof hash, &oid);
    git_repository_free(git);
    return hash;
}
