#include "shm/common/backoff.h"

#define BACKOFF_LEAST_SECONDS 0.01
/* Doublings after which every sensible maximum is reached; keeps the shift defined. */
#define BACKOFF_DOUBLINGS_MAX 40u

void backoff_init(struct backoff *backoff, double minimum, double maximum)
{
    *backoff = (struct backoff){.minimum = minimum, .maximum = maximum};
    /* Written so that NaN falls into the branch as well. */
    if (!(backoff->minimum >= BACKOFF_LEAST_SECONDS))
        backoff->minimum = BACKOFF_LEAST_SECONDS;
    if (!(backoff->maximum >= backoff->minimum))
        backoff->maximum = backoff->minimum;
}

uint64_t backoff_fail(struct backoff *backoff, uint64_t random)
{
    if (backoff->attempt < UINT32_MAX)
        backoff->attempt++;
    unsigned doublings = backoff->attempt - 1;
    if (doublings > BACKOFF_DOUBLINGS_MAX)
        doublings = BACKOFF_DOUBLINGS_MAX;
    double base = backoff->minimum * (double)(UINT64_C(1) << doublings);
    if (base > backoff->maximum)
        base = backoff->maximum;
    double share = (double)(random >> 11) / (double)(UINT64_C(1) << 53); /* [0, 1) */
    return (uint64_t)((base / 2 + share * base / 2) * 1e9);
}

void backoff_reset(struct backoff *backoff)
{
    backoff->attempt = 0;
}
