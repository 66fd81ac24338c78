/*
 * When a process that has ended is started again: at once when it had lived a while, after a growing delay
 * when it died young again and again. Pure. Master.
 */
#ifndef OPALD_SERVER_MASTER_RESTART_PACE_H
#define OPALD_SERVER_MASTER_RESTART_PACE_H

#include <stdint.h>

struct restart_pace {
    /* the delay after the second early death in a row; it doubles with each further one */
    uint64_t first_ns;
    uint64_t most_ns;
    /* early deaths in a row, failed starts included */
    unsigned young_deaths;
};

/* The process lived for `lived_ns`; 0: it could not be started. Returns the delay until the next start. One
 * early death is bad luck (or somebody's kill): only a second one in a row waits. */
uint64_t restart_pace_ended(struct restart_pace *pace, uint64_t lived_ns);

#endif
