/* Comparison of secrets that takes the same time whatever they are. Pure. */
#ifndef OPALD_WORKER_AUTH_SECRET_H
#define OPALD_WORKER_AUTH_SECRET_H

#include <stdbool.h>
#include "shm/common/object.h"
#include "shm/common/text.h"

/*
 * True when the two are equal. Both are hashed first, so the time depends on their lengths only: the sender
 * of a guess learns nothing about the secret. False also when no hash could be made.
 */
MUST_CHECK bool secret_equals(struct slice given, struct slice wanted);

#endif
