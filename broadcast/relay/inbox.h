/*
 * What came from the backbone and could not be passed on yet, in the order it came. Two reasons: the ring is
 * full just now, or the content of a message is still being fetched (a Postgres row); whatever came after it
 * has to wait for it.
 *
 * Pure: no I/O. The caller stops reading from the backbone while the inbox is above its bounds
 * (`inbox_is_full`).
 */
#ifndef OPALD_BROADCAST_RELAY_INBOX_H
#define OPALD_BROADCAST_RELAY_INBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/object.h"
#include "shm/common/text.h"

struct inbox;

enum inbox_front { INBOX_EMPTY, INBOX_READY, INBOX_AWAITS_ROW, INBOX_ROW_MISSING };

struct inbox *inbox_make(size_t max_messages, size_t max_bytes);
void inbox_free(struct inbox *inbox);
bool inbox_is_full(const struct inbox *inbox);
size_t inbox_count(const struct inbox *inbox);

/* Copies the message to the end. */
void inbox_append(struct inbox *inbox, struct slice message);
/* A place for the content of row `row`, which comes later. */
void inbox_append_row(struct inbox *inbox, uint64_t row);
/* The next place whose row has not been asked for since it was made or since inbox_ask_again; marks it as
 * asked for. */
MUST_CHECK bool inbox_next_row(struct inbox *inbox, uint64_t *row);
/* The connection that the rows were asked on is gone: all that are not here must be asked for again. */
void inbox_ask_again(struct inbox *inbox);
/* The oldest asked-for place of this row gets its content; an absent slice says that the row does not exist.
 * False when nobody waits for it. */
MUST_CHECK bool inbox_fill_row(struct inbox *inbox, uint64_t row, struct slice message);

/* The oldest; `message` is set for INBOX_READY and valid until inbox_pop, `row` for the two row states. */
enum inbox_front inbox_front(const struct inbox *inbox, struct slice *message, uint64_t *row);
/* Removes the oldest; there must be one. */
void inbox_pop(struct inbox *inbox);

#endif
