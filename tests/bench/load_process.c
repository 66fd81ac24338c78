#include "tests/bench/load_process.h"

#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t cpu_of(pid_t pid)
{
    clockid_t clock;
    struct timespec used;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0) {
        return 0;
    }
    return (uint64_t)used.tv_sec * 1000000000U + (uint64_t)used.tv_nsec;
}

static uint64_t pss_of(pid_t pid)
{
    char path[64];
    char line[256];
    unsigned long long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "Pss: %llu kB", &kib) == 1) {
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return kib * 1024U;
}

static unsigned sockets_of(pid_t pid)
{
    char path[64];
    unsigned count = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *folder = opendir(path);
    if (folder == NULL) {
        return 0;
    }
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        char target[16];
        const ssize_t length = readlinkat(dirfd(folder), entry->d_name, target, sizeof target);
        count += length > 7 && memcmp(target, "socket:", 7) == 0;
    }
    closedir(folder);
    return count;
}

/* State and parent of a process; false when there is none. */
static bool state_of(pid_t pid, char *state, pid_t *parent)
{
    char path[64];
    char text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    const size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = '\0';
    const char *end = strrchr(text, ')'); /* the name in front may itself hold blanks and brackets */
    int number = 0;
    if (end == NULL || sscanf(end + 1, " %c %d", state, &number) != 2) {
        return false;
    }
    *parent = (pid_t)number;
    return true;
}

static pid_t parent_of(pid_t pid)
{
    char state;
    pid_t parent = 0;
    return state_of(pid, &state, &parent) ? parent : 0;
}

static void wait_a_millisecond(void)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    nanosleep(&pause, NULL);
}

void process_pause(pid_t pid)
{
    char state = 'T';
    pid_t parent;
    if (kill(pid, SIGSTOP) != 0) {
        return;
    }
    while (state_of(pid, &state, &parent) && state != 'T' && state != 'Z') {
        wait_a_millisecond();
    }
}

void process_resume(pid_t pid)
{
    kill(pid, SIGCONT);
}

void process_wait_idle(pid_t pid)
{
    unsigned quiet = 0;
    for (uint64_t used = cpu_of(pid); quiet < 4;) {
        char state = 'Z';
        pid_t parent;
        wait_a_millisecond();
        const bool alive = state_of(pid, &state, &parent);
        const uint64_t now = cpu_of(pid);
        if (!alive || state == 'Z') {
            return;
        }
        quiet = state == 'S' && now == used ? quiet + 1 : 0;
        used = now;
    }
}

/* Fills `found` with the roots and their descendants. */
static unsigned find_all(const struct process_group *group, pid_t *found)
{
    unsigned count = 0;
    pid_t all[8192];
    pid_t parents[8192];
    unsigned total = 0;
    DIR *folder = opendir("/proc");
    if (folder == NULL) {
        return 0;
    }
    for (struct dirent *entry = readdir(folder); entry != NULL && total < 8192; entry = readdir(folder)) {
        const pid_t pid = (pid_t)atoi(entry->d_name);
        if (pid > 0) {
            all[total] = pid;
            parents[total++] = parent_of(pid);
        }
    }
    closedir(folder);
    for (unsigned i = 0; i < group->root_count && count < PROCESS_MAX; i++) {
        found[count++] = group->roots[i];
    }
    for (unsigned at = 0; at < count; at++) {
        for (unsigned i = 0; i < total && count < PROCESS_MAX; i++) {
            bool known = parents[i] != found[at];
            for (unsigned j = 0; j < count && !known; j++) {
                known = found[j] == all[i];
            }
            if (!known) {
                found[count++] = all[i];
            }
        }
    }
    return count;
}

struct process_usage process_group_read(const struct process_group *group, int memory)
{
    struct process_usage usage = {0};
    usage.processes = group->root_count == 0 ? 0 : find_all(group, usage.pids);
    for (unsigned i = 0; i < usage.processes; i++) {
        const uint64_t used = cpu_of(usage.pids[i]);
        usage.cpu_ns += used;
        usage.first_cpu_ns = i == 0 ? used : usage.first_cpu_ns;
    }
    for (unsigned i = 0; memory && i < usage.processes; i++) {
        usage.sockets[i] = sockets_of(usage.pids[i]);
        usage.pss_bytes += pss_of(usage.pids[i]);
    }
    return usage;
}

unsigned process_sockets_gained(const struct process_usage *before, const struct process_usage *after)
{
    unsigned most = 0;
    for (unsigned i = 0; i < after->processes; i++) {
        unsigned had = 0;
        for (unsigned j = 0; j < before->processes; j++) {
            had = before->pids[j] == after->pids[i] ? before->sockets[j] : had;
        }
        if (after->sockets[i] > had && after->sockets[i] - had > most) {
            most = after->sockets[i] - had;
        }
    }
    return most;
}

unsigned process_sockets_got(const struct process_usage *before, const struct process_usage *after, pid_t pid)
{
    int got = 0;
    for (unsigned i = 0; i < after->processes; i++) {
        got += pid == 0 || after->pids[i] == pid ? (int)after->sockets[i] : 0;
    }
    for (unsigned i = 0; i < before->processes; i++) {
        got -= pid == 0 || before->pids[i] == pid ? (int)before->sockets[i] : 0;
    }
    return got < 0 ? 0 : (unsigned)got;
}

uint64_t process_own_cpu(void)
{
    return cpu_of(getpid());
}
