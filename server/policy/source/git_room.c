#include "server/policy/source/git_room.h"

/* With less left of the limit, another clone is made. A new clone may take in that much beyond the limit. */
#define ROOM_LEAST (64u * 1024u)

struct git_room git_room_of_new_clone(uint64_t bytes_max)
{
    return (struct git_room){.bytes_max = bytes_max, .fresh = true};
}

struct git_room git_room_of_found_clone(uint64_t bytes_max)
{
    return (struct git_room){.bytes_max = bytes_max};
}

void git_room_fetched(struct git_room *room)
{
    room->fresh = false;
    room->measured = false;
}

void git_room_packed(struct git_room *room)
{
    room->measured = false;
}

void git_room_measured(struct git_room *room, uint64_t bytes)
{
    room->measured = true;
    room->bytes = bytes;
}

enum git_room_step git_room_next(const struct git_room *room, uint64_t *pack_bytes_max)
{
    *pack_bytes_max = 0;
    if (room->bytes_max == 0)
        return GIT_ROOM_FETCH;
    if (!room->measured)
        return GIT_ROOM_MEASURE;
    uint64_t left = room->bytes < room->bytes_max ? room->bytes_max - room->bytes : 0;
    if (left < ROOM_LEAST && !room->fresh)
        return GIT_ROOM_CLONE;
    *pack_bytes_max = left < ROOM_LEAST ? ROOM_LEAST : left;
    return GIT_ROOM_FETCH;
}
