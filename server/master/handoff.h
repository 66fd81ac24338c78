/* Connections that workers give to each other travel through one SOCK_SEQPACKET pair per worker slot
 * (SCM_RIGHTS, unix(7)). */
#ifndef OPALD_SERVER_MASTER_HANDOFF_H
#define OPALD_SERVER_MASTER_HANDOFF_H

/* Master: gives the connections that wait in `from` (the receive end of a slot without a worker) to `to`
 * (the send end of a living worker's slot); with `to` < 0, or when it takes no more, they are closed.
 * Returns how many were moved or closed. Never blocks. */
unsigned handoff_rescue(int from, int to);

#endif
