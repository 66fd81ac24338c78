/* SQL text and libpq's messages. Pure but for reading results. */
#ifndef OPALD_BROADCAST_POSTGRES_POSTGRES_SQL_H
#define OPALD_BROADCAST_POSTGRES_POSTGRES_SQL_H

#include <libpq-fe.h>
#include "shm/common/text.h"

/* "name" with quotes doubled, as SQL wants an identifier. */
void postgres_append_identifier(struct text *out, const char *name);
/* E'value': independent of standard_conforming_strings. */
void postgres_append_literal(struct text *out, const char *value);
/* Appends, on one line, why a statement failed. */
void postgres_append_error(struct text *out, const PGresult *result);
/* Asks for the server process of this session; postgres_result_backend reads the answer, and gives 0 for any
 * other result. */
#define POSTGRES_BACKEND_QUERY "SELECT pg_catalog.pg_backend_pid() AS opald_backend"
int postgres_result_backend(const PGresult *result);
/* libpq ends its messages with line feeds and uses several lines: appended as one. */
void postgres_append_message(struct text *out, const char *message);
/* `json` with everything beyond ASCII as \uXXXX: in valid JSON such bytes occur only inside strings, where
 * that means the same. It has been checked for UTF-8 before. Valid while `out` is not changed. */
struct slice postgres_escape_json(struct text *out, struct slice json);

#endif
