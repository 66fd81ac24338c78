#include "server/options/worker_count.h"

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_SIZE 4096

/* Two numbers with blanks before them. */
static bool read_pair(const char *text, uint64_t *first, uint64_t *second)
{
    char *first_end, *second_end;
    *first = strtoull(text, &first_end, 10);
    *second = strtoull(first_end, &second_end, 10);
    return first_end != text && second_end != first_end;
}

/* cpu.max: "max 100000" or "150000 100000" (quota and period in microseconds). 0: no limit. */
static int read_limit(const char *path)
{
    char line[128];
    uint64_t quota, period;
    int limit = 0;
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    if (fgets(line, sizeof line, file) && read_pair(line, &quota, &period) && period > 0 &&
        quota / period < 100000) {
        limit = (int)((quota + period - 1) / period);
        limit = limit > 0 ? limit : 1;
    }
    fclose(file);
    return limit;
}

/* The path in the line "0::/path", "" when there is none (then the root of what is mounted is looked at). */
static void read_own_group(const char *self_path, char *group, size_t size)
{
    char line[PATH_SIZE];
    FILE *file = fopen(self_path, "re");
    group[0] = '\0';
    if (!file)
        return;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        /* ".." in it: the group lies outside of this cgroup namespace and can't be looked at */
        if (strncmp(line, "0::/", 4) == 0 && !strstr(line, "/.."))
            snprintf(group, size, "%s", line + 3);
    }
    fclose(file);
}

int worker_count_cgroup_limit(const char *self_path, const char *root)
{
    char group[PATH_SIZE];
    char path[2 * PATH_SIZE + 16];
    int least = 0;
    read_own_group(self_path, group, sizeof group);
    for (;;) {
        snprintf(path, sizeof path, "%s%s/cpu.max", root, group);
        int limit = read_limit(path);
        if (limit && (!least || limit < least))
            least = limit;
        char *slash = strrchr(group, '/');
        if (!slash)
            return least;
        *slash = '\0';
    }
}

int worker_count_auto(void)
{
    cpu_set_t allowed;
    int count;
    /* Fails on hosts with more than 1024 processors, which have more than the most workers there can be
     * anyway. */
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0)
        count = CPU_COUNT(&allowed);
    else
        count = (int)sysconf(_SC_NPROCESSORS_ONLN);
    int limit = worker_count_cgroup_limit("/proc/self/cgroup", "/sys/fs/cgroup");
    if (limit && limit < count)
        count = limit;
    return count > 0 ? count : 1;
}
