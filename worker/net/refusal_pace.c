#include "worker/net/refusal_pace.h"

static uint64_t hash_address(struct slice address)
{
    uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */
    for (size_t i = 0; i < address.length; i++)
        hash = (hash ^ (unsigned char)address.data[i]) * UINT64_C(1099511628211);
    return hash ? hash : 1;
}

bool refusal_pace_note(struct refusal_pace *pace, struct slice address, uint64_t now_ns)
{
    uint64_t hash = hash_address(address);
    struct refusal_slot *slot = &pace->slots[(hash ^ hash >> 32) % REFUSAL_PACE_SLOTS];
    if (slot->address != hash || now_ns - slot->since_ns >= REFUSAL_PACE_NS)
        *slot = (struct refusal_slot){.address = hash, .since_ns = now_ns};
    return ++slot->count > REFUSAL_PACE_FREE;
}
