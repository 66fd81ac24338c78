/* The inside of the Postgres backend; only postgres.c, postgres_listener.c, postgres_sender.c and postgres_start.c include it. */
#ifndef OPALD_BROADCAST_POSTGRES_POSTGRES_INTERNAL_H
#define OPALD_BROADCAST_POSTGRES_POSTGRES_INTERNAL_H

#include "broadcast/postgres/postgres_connection.h"
#include "broadcast/relay/relay.h"
#include "shm/common/log.h"

#define POSTGRES_MAGIC      0x70677371u
#define POSTGRES_TABLE_NAME "events"
/* NOTIFY takes payloads shorter than 8000 bytes (src/backend/commands/async.c, NOTIFY_PAYLOAD_MAX_LENGTH with the usual block size). */
#define POSTGRES_NOTIFY_MAX 7999
/* NAMEDATALEN - 1: pg_notify refuses longer channel names, LISTEN would cut them. */
#define POSTGRES_NAME_MAX 63
/* A row of the table: far below what a text value can be, far above the largest event. */
#define POSTGRES_ROW_MAX ((uint64_t)256 * 1024 * 1024)

/* What the sender has asked and Postgres has not answered yet, oldest first. */
enum postgres_ask_kind {
    POSTGRES_ASK_MESSAGE, /* pg_notify, with or without a row; part of a batch */
    POSTGRES_ASK_BATCH,   /* the sync that ends a batch: committed, or not */
    POSTGRES_ASK_ROW,     /* with a sync of its own, like the next one */
    POSTGRES_ASK_CLEAN,
};

struct postgres_ask {
    enum postgres_ask_kind kind;
    uint64_t row;
};

#define POSTGRES_BATCH_MAX 256
#define POSTGRES_ASKS_MAX  512

/* The messages of one transaction; at most one batch at a time. */
struct postgres_batch {
    unsigned count;
    size_t bytes;
    bool sent;       /* its sync is out */
    bool no_table;   /* its only message needs the table that is not there; nothing was sent */
    bool data_error; /* the first error is the message's own fault */
    bool too_long;
    unsigned singles; /* so many of the next messages go in batches of one: a batch with several has failed */
    struct text error;
    uint64_t hashes[POSTGRES_BATCH_MAX];
};

struct postgres {
    uint32_t magic;
    struct relay *relay;
    struct postgres_uri uri;
    char *channel;
    char *schema;
    struct postgres_connection *listener;
    struct postgres_connection *sender;

    /* listener */
    bool listener_live;
    bool probing; /* the answer to a probe is awaited */

    /* sender */
    unsigned start_step;  /* of postgres_start.c */
    bool start_failed;    /* the statement of this step */
    bool schema_is_there; /* seen by step 1 or 3 */
    bool table_is_there;
    bool sender_live;
    bool table_usable;
    bool table_told;                             /* the log has the line about the missing table */
    bool escape;                                 /* the database's encoding can't hold all of UTF-8 */
    struct text table_why;                       /* why it can't be had */
    char *table;                                 /* quoted, schema and name */
    struct postgres_ask asks[POSTGRES_ASKS_MAX]; /* a ring */
    unsigned ask_first;
    unsigned ask_count;
    unsigned rows_asked;
    struct postgres_batch batch;
    bool broken;      /* libpq refused a statement: the connection is lost, told from the loop */
    PGresult *result; /* of the oldest ask with a sync of its own, until that comes */
    struct text row_prefix;
    struct text row_suffix;
    struct text escaped;
    struct event *again; /* a batch that needs no answer */
    struct event *clean;
    uint64_t clean_ns;     /* how often */
    uint64_t retention_ns; /* how old a row must be */
};

/* postgres_listener.c */
extern const struct postgres_connection_callbacks postgres_listener_callbacks;
void postgres_listener_probe(struct postgres *postgres);
void postgres_listener_close(struct postgres *postgres);

/* postgres_sender.c */
extern const struct postgres_connection_callbacks postgres_sender_callbacks;
void postgres_sender_make(struct postgres *postgres, struct event_base *base, uint64_t deadline_ns);
void postgres_sender_free(struct postgres *postgres);
bool postgres_sender_send(struct postgres *postgres, struct slice message);
void postgres_sender_flush(struct postgres *postgres); /* ends the batch */
void postgres_sender_fetch_rows(struct postgres *postgres);
void postgres_sender_close(struct postgres *postgres);
void postgres_sender_ready(struct postgres *postgres);

/* postgres_start.c: what a fresh sender does before it is of use */
void postgres_start_begin(struct postgres *postgres);
void postgres_start_input(struct postgres *postgres);
/* "name" with quotes doubled, as SQL wants an identifier. */
void postgres_append_identifier(struct text *out, const char *name);
void postgres_append_literal(struct text *out, const char *value);
/* One line of why a statement failed. Appended. */
void postgres_append_error(struct text *out, const PGresult *result);

#endif
