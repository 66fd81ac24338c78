/* The master process: owns the listening sockets, the shared memory and the backbone connection, starts the
 * workers and keeps them alive. */
#ifndef OPALD_SERVER_MASTER_MASTER_H
#define OPALD_SERVER_MASTER_MASTER_H

#include "shm/common/config.h"

/*
 * Runs the server until it is told to stop; returns the exit status (0 after an orderly stop, 1 when it
 * could not start or go on). `argc`/`argv` are the process's own: each worker is this program executed
 * again with the same arguments, so that it comes to the same configuration. Call once, from a process that
 * has no threads yet.
 */
int master_run(const struct config *config, int argc, char **argv);

#endif
