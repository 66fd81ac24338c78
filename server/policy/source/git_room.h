/*
 * How much a clone may still take in: OPAL_POLICY_REPO_MAX_BYTES. The size of a clone is measured before a
 * fetch whenever it may have changed since the last measurement. Pure.
 */
#ifndef OPALD_SERVER_POLICY_SOURCE_GIT_ROOM_H
#define OPALD_SERVER_POLICY_SOURCE_GIT_ROOM_H

#include <stdbool.h>
#include <stdint.h>

struct git_room {
    /* The limit of the clone; 0: none. */
    uint64_t bytes_max;
    /* Nothing was fetched since the clone was made: another clone would be no smaller. */
    bool fresh;
    /* `bytes` is what the clone has now. */
    bool measured;
    uint64_t bytes;
};

enum git_room_step {
    /* Measure the clone, then ask again. */
    GIT_ROOM_MEASURE,
    GIT_ROOM_FETCH,
    /* There is no room: make another clone, which has nothing that the remote has taken back. */
    GIT_ROOM_CLONE,
};

/* A clone was made or found. */
struct git_room git_room_of_new_clone(uint64_t bytes_max);
struct git_room git_room_of_found_clone(uint64_t bytes_max);
/* A fetch has brought something. */
void git_room_fetched(struct git_room *room);
/* git has packed the clone again. */
void git_room_packed(struct git_room *room);
/* The clone has so many bytes. */
void git_room_measured(struct git_room *room, uint64_t bytes);

/* What to do to look for changes. With GIT_ROOM_FETCH: `*pack_bytes_max` is how large the pack that comes may
 * get; 0: no limit. */
enum git_room_step git_room_next(const struct git_room *room, uint64_t *pack_bytes_max);

#endif
