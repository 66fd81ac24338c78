#include "broadcast/relay/relay_heartbeat.h"

#include "shm/common/clock.h"

/* per deadline */
#define HEARTBEAT_TICKS 4
/* until a heartbeat has come back: between two ticks, and how long one may be missing */
#define HEARTBEAT_FIRST_TICK_NS  (1 * CLOCK_SECOND)
#define HEARTBEAT_FIRST_LIMIT_NS (5 * CLOCK_SECOND)

void relay_heartbeat_init(struct relay_heartbeat *heartbeat, uint64_t deadline_ns, uint64_t now_ns)
{
    *heartbeat = (struct relay_heartbeat){.tick_ns = deadline_ns / HEARTBEAT_TICKS, .due_ns = now_ns};
}

void relay_heartbeat_live(struct relay_heartbeat *heartbeat, enum relay_side side, uint64_t now_ns)
{
    if (side == RELAY_LISTENER)
        heartbeat->heard_ns = now_ns;
    else
        heartbeat->progress_ns = now_ns;
}

void relay_heartbeat_lost(struct relay_heartbeat *heartbeat)
{
    heartbeat->missing_since_ns = 0;
}

void relay_heartbeat_heard(struct relay_heartbeat *heartbeat, uint64_t now_ns)
{
    heartbeat->heard_ns = now_ns;
}

void relay_heartbeat_progress(struct relay_heartbeat *heartbeat, uint64_t now_ns)
{
    heartbeat->progress_ns = now_ns;
}

void relay_heartbeat_acknowledged(struct relay_heartbeat *heartbeat, uint64_t now_ns)
{
    if (!heartbeat->missing_since_ns)
        heartbeat->missing_since_ns = now_ns;
}

void relay_heartbeat_arrived(struct relay_heartbeat *heartbeat)
{
    heartbeat->missing_since_ns = 0;
}

/* What was not heard until now is not the backbone's fault. */
static void heartbeat_excuse_listener(struct relay_heartbeat *heartbeat, uint64_t now_ns)
{
    heartbeat->heard_ns = now_ns;
    if (heartbeat->missing_since_ns)
        heartbeat->missing_since_ns = now_ns;
}

void relay_heartbeat_reading_changed(struct relay_heartbeat *heartbeat, uint64_t now_ns)
{
    heartbeat_excuse_listener(heartbeat, now_ns);
}

uint64_t relay_heartbeat_next(struct relay_heartbeat *heartbeat)
{
    return ++heartbeat->number;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t relay_heartbeat_delay(
    struct relay_heartbeat *heartbeat, struct relay_heartbeat_facts facts, uint64_t now_ns)
{
    bool first = facts.listener_live && facts.sender_live && !facts.proven;
    uint64_t delay_ns = first ? least(heartbeat->tick_ns, HEARTBEAT_FIRST_TICK_NS) : heartbeat->tick_ns;
    heartbeat->due_ns = now_ns + delay_ns;
    return delay_ns;
}

struct relay_heartbeat_decision relay_heartbeat_tick(
    struct relay_heartbeat *heartbeat, struct relay_heartbeat_facts facts, uint64_t now_ns)
{
    struct relay_heartbeat_decision decision = {0};
    uint64_t limit_ns = heartbeat->tick_ns * (HEARTBEAT_TICKS - 1);
    uint64_t missing_limit_ns = facts.proven ? limit_ns : least(limit_ns, HEARTBEAT_FIRST_LIMIT_NS);
    /* This process itself did not run: the answers that wait in the sockets get their turn first. */
    bool stood_still = now_ns > heartbeat->due_ns + heartbeat->tick_ns;
    if (stood_still || !facts.reading)
        heartbeat_excuse_listener(heartbeat, now_ns);
    if (stood_still)
        heartbeat->progress_ns = now_ns;

    decision.sender_silent_ns = now_ns - heartbeat->progress_ns;
    if (facts.sender_live && facts.in_flight && decision.sender_silent_ns >= limit_ns)
        decision.sender_lost = "no acknowledgement";

    bool missing = heartbeat->missing_since_ns && !decision.sender_lost;
    decision.listener_silent_ns = now_ns - heartbeat->heard_ns;
    if (facts.listener_live && decision.listener_silent_ns >= limit_ns) {
        decision.listener_lost = "no sign of life";
    } else if (facts.listener_live && missing && now_ns - heartbeat->missing_since_ns >= missing_limit_ns) {
        decision.listener_silent_ns = now_ns - heartbeat->missing_since_ns;
        decision.listener_lost = "deaf: the backbone took our heartbeat but did not deliver it";
        decision.deaf = true;
    }
    decision.probe = facts.listener_live && !decision.listener_lost;
    decision.beat = decision.probe && facts.sender_live && !decision.sender_lost;
    return decision;
}
