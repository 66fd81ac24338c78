/* What may not appear in a log line. Pure: bytes in, bytes out. */
#ifndef OPALD_SHM_COMMON_LOG_REDACT_H
#define OPALD_SHM_COMMON_LOG_REDACT_H

#include "shm/common/text.h"

// Appends `line` to `out` with
//   scheme://user:password@host      as scheme://***@host
//   ?token=x&a=1 (also & and #)      as ?token=***&a=1, for the names in log_redact.c, in any case
// The reference does the first for every line and the second for URLs it knows; here both are done wherever
// they stand.
void log_redact(struct text *out, struct slice line);

#endif
