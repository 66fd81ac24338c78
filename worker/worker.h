/*
 * One worker process: it serves websocket and HTTP clients on the shared listening sockets and reads events
 * in place from the ring. The master starts it as a new program (fork and exec) with the descriptors of
 * worker_descriptors.h inherited; nothing of the master's memory is carried over.
 */
#ifndef OPALD_WORKER_WORKER_H
#define OPALD_WORKER_WORKER_H

#include "shm/common/config.h"
#include "shm/common/object.h"
#include "worker/worker_descriptors.h"

/*
 * Runs the worker until it is told to end; returns the process's exit code: 0 after a stop that was asked
 * for, 1 when it could not start (the reason is in the log). Takes ownership of all descriptors. `config`
 * must live as long as the process. Signals: HUP reads the certificate again; TERM stops accepting, closes
 * websockets with 1012 spread within the grace time, finishes HTTP requests and ends; a second TERM, INT or
 * QUIT end at once.
 */
MUST_CHECK int worker_main(const struct config *config, const struct worker_descriptors *descriptors);

#endif
