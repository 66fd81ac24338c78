#include "server/master/restart_pace.h"

#include "shm/common/clock.h"

/* A process that ends sooner than this after its start died young. */
#define YOUNG_NS      (5 * CLOCK_SECOND)
#define DOUBLINGS_MAX 16

uint64_t restart_pace_ended(struct restart_pace *pace, uint64_t lived_ns)
{
    if (lived_ns >= YOUNG_NS) {
        pace->young_deaths = 0;
        return 0;
    }
    pace->young_deaths++;
    if (pace->young_deaths < 2)
        return 0;
    unsigned doublings = pace->young_deaths - 2 < DOUBLINGS_MAX ? pace->young_deaths - 2 : DOUBLINGS_MAX;
    uint64_t delay = pace->first_ns << doublings;
    return delay < pace->most_ns ? delay : pace->most_ns;
}
