#include "tests/unit/shm/common/random_seed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "shm/common/clock.h"

unsigned random_seed(unsigned usual)
{
    const char *wanted = getenv("OPALD_TEST_SEED");
    unsigned seed = usual;
    if (wanted && strcmp(wanted, "random") == 0)
        seed = (unsigned)clock_monotonic_ns();
    else if (wanted)
        seed = (unsigned)strtoul(wanted, NULL, 10);
    print_message("OPALD_TEST_SEED=%u\n", seed);
    return seed;
}
