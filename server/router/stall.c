#include "server/router/stall.h"

#include "shm/common/clock.h"

/* A look that comes so late says that this process did not run (a paused container or machine): the readers
 * did not run either. */
#define STALL_PAUSED_NS (1 * CLOCK_SECOND)

bool stall_running(const struct stall *stall)
{
    return stall->since_ns != 0;
}

void stall_begin(struct stall *stall, unsigned slot, uint64_t cursor, uint64_t now_ns)
{
    *stall = (struct stall){.since_ns = now_ns, .looked_ns = now_ns, .cursor = cursor, .slot = slot};
}

bool stall_look(struct stall *stall, unsigned slot, uint64_t cursor, uint64_t now_ns, uint64_t limit_ns)
{
    bool paused = now_ns - stall->looked_ns > STALL_PAUSED_NS;
    if (paused || slot != stall->slot || cursor != stall->cursor) {
        stall_begin(stall, slot, cursor, now_ns);
        return false;
    }
    stall->looked_ns = now_ns;
    if (now_ns - stall->since_ns < limit_ns)
        return false;
    stall->since_ns = now_ns;
    return true;
}

void stall_end(struct stall *stall)
{
    stall->since_ns = 0;
}
