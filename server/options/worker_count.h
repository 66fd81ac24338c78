/* How many workers "auto" means. */
#ifndef OPALD_SERVER_OPTIONS_WORKER_COUNT_H
#define OPALD_SERVER_OPTIONS_WORKER_COUNT_H

/* Processors this process may use: its affinity mask, cut down to the cgroup's quota (rounded up). At least
 * 1. */
int worker_count_auto(void);

/*
 * The quota part, with the places as parameters for tests: the smallest cpu.max (cgroup v2) from the
 * process's own group up to the root, in processors, rounded up; 0 when there is no limit. `self_path` is a
 * file as /proc/self/cgroup; `root` as /sys/fs/cgroup.
 */
int worker_count_cgroup_limit(const char *self_path, const char *root);

#endif
