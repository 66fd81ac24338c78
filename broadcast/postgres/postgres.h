/* postgres://, postgresql://: NOTIFY and LISTEN. */
#ifndef OPALD_BROADCAST_POSTGRES_POSTGRES_H
#define OPALD_BROADCAST_POSTGRES_POSTGRES_H

#include "broadcast/backend/backend.h"

extern const struct broadcast_backend broadcast_postgres;

#endif
