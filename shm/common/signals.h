/* Signals around the start of processes and threads. */
#ifndef OPALD_SHM_COMMON_SIGNALS_H
#define OPALD_SHM_COMMON_SIGNALS_H

#include <signal.h>

/*
 * Blocks every signal for this thread until signals_release. Between the two:
 *   - a thread that is started inherits the mask, so that signals go to the thread that runs the loop and to
 *   no other;
 *   - a child that is forked gets no signal before it has taken our handlers out (shm/common/child.c).
 * `before` is the caller's.
 */
void signals_hold(sigset_t *before);
void signals_release(const sigset_t *before);

#endif
