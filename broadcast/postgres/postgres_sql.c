#include "broadcast/postgres/postgres_sql.h"

#include <stdlib.h>
#include <string.h>

#include "broadcast/postgres/postgres_limits.h"
#include "shm/common/utf8.h"

void postgres_append_identifier(struct text *out, const char *name)
{
    text_append_char(out, '"');
    for (; *name; name++) {
        if (*name == '"')
            text_append_char(out, '"');
        text_append_char(out, *name);
    }
    text_append_char(out, '"');
}

void postgres_append_literal(struct text *out, const char *value)
{
    text_append_string(out, "E'");
    for (; *value; value++) {
        if (*value == '\'' || *value == '\\')
            text_append_char(out, *value);
        text_append_char(out, *value);
    }
    text_append_char(out, '\'');
}

void postgres_append_error(struct text *out, const PGresult *result)
{
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    if (!message) { /* libpq's own, about the connection */
        message = PQresultErrorMessage(result);
        text_append(out, message, strcspn(message, "\n"));
        return;
    }
    text_append_format(out, "%s: %s", severity ? severity : "ERROR", message);
    /* A prepared statement is not there, or there already: it went to another session than this one's. */
    const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (code && (strcmp(code, "26000") == 0 || strcmp(code, "42P05") == 0))
        text_append_string(out, "; " POSTGRES_POOLER_HINT);
}

int postgres_result_backend(const PGresult *result)
{
    if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1 ||
        strcmp(PQfname(result, 0), "opald_backend") != 0)
        return 0;
    return (int)strtol(PQgetvalue(result, 0, 0), NULL, 10);
}

void postgres_append_message(struct text *out, const char *message)
{
    struct slice trimmed = slice_trim(slice_from_string(message), TEXT_SPACES);
    for (size_t i = 0; i < trimmed.length; i++) {
        bool space = text_is_space(trimmed.data[i]);
        if (space && out->length && out->data[out->length - 1] == ' ')
            continue;
        text_append_char(out, space ? ' ' : trimmed.data[i]);
    }
}

struct slice postgres_escape_json(struct text *out, struct slice json)
{
    text_clear(out);
    for (size_t i = 0, used; i < json.length; i += used) {
        uint32_t point;
        used = utf8_decode((struct slice){json.data + i, json.length - i}, &point);
        if (point < 0x80 || point == UTF8_ILL_FORMED)
            text_append(out, json.data + i, used);
        else
            text_append_json_escape(out, point);
    }
    return text_slice(out);
}
