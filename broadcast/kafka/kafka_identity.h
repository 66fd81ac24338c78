/*
 * One partition's log: is it still the log that this server has read, and where does reading go on?
 *
 * Pure: what was seen and the time go in, a decision comes out. No clock, no librdkafka, no event loop.
 *
 * The rule: an event older than what a client may have fetched again is never delivered. So:
 *   - nothing is delivered while it is in doubt whether the log is the known one;
 *   - a message that was read before is recognised by its mark (kafka_marks.h) and passed over, wherever
 *     reading starts;
 *   - whenever events may have been lost, reading goes on at the log's END, and the clients fetch again from
 *     then on.
 *
 *   LOCATING  asked for the log's END, no answer yet
 *   READING   everything before `position` was read
 *   CHECKING  reads the last messages before `position` again and compares their marks. Each new broker, each
 *             lost connection and each report that the topic is missing is a reason to do so.
 *
 * When a broker refuses the offset that is read, it is asked three questions in turn: for the last messages,
 * for `position`, and for the END. A stale leader (one that was frozen, say) refuses for a moment, so only
 * what lasts for KAFKA_DOUBT_NS counts, unless the answers prove that the position was removed by retention.
 * No answer at all proves nothing: the reader waits, however long it takes.
 *
 *   READING  -- other broker, connection lost, missing, refused --> CHECKING
 *   CHECKING -- the same marks up to `position` ------------------> READING    nothing lost, nothing twice
 *   CHECKING -- another message at a known offset --+
 *            -- refused for long, or removed -------+--> LOCATING, then a gap, then READING from the END
 *   any      -- the topic has another id -----------+
 */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_IDENTITY_H
#define OPALD_BROADCAST_KAFKA_KAFKA_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>
#include "shm/common/clock.h"

struct kafka_identity;

/* The log's end, as an offset to read from. */
#define KAFKA_IDENTITY_END (-1)
/* So many offsets before the position are read again in a check. */
#define KAFKA_CHECK_OFFSETS 8
/* For so long a leader may give answers that a newer one would not give. */
#define KAFKA_DOUBT_NS (3 * CLOCK_SECOND)
/* A topic that was reported missing for so long is gone; brokers that start up deny topics that they have for
 * a moment. */
#define KAFKA_GONE_NS (3 * CLOCK_SECOND)
/* Between two questions. */
#define KAFKA_ASK_AGAIN_NS (100 * CLOCK_MILLISECOND)
/* The broker or its epoch is not known. */
#define KAFKA_UNKNOWN (-1)

struct kafka_seen {
    int64_t offset;
    /* kafka_mark_make; KAFKA_MARK_NONE for the log's end at `offset` */
    uint64_t mark;
    int32_t broker;
    int32_t epoch;
};

enum kafka_step {
    /* A message is new: deliver it, then call kafka_identity_taken. Anything else: reading goes on. */
    KAFKA_READ_ON,
    /* A message is known, or can't be judged yet: drop it. Anything else: nothing to do now. */
    KAFKA_WAIT,
    /* Read from `offset` from now on (drop what is queued). */
    KAFKA_ASK,
    /* Clients must fetch again, now. Then offer what was seen once more. */
    KAFKA_GAP,
};

struct kafka_decision {
    enum kafka_step step;
    /* KAFKA_ASK: an offset or KAFKA_IDENTITY_END */
    int64_t offset;
    /* KAFKA_GAP: static text, and for how long nothing may have been heard */
    const char *why;
    uint64_t gap_ns;
};

/* What can make holes in the offsets of this topic. */
enum kafka_holes {
    /* not known: a single offset is taken for a transaction's marker, more for lost messages */
    KAFKA_HOLES_UNKNOWN,
    /* transactions only */
    KAFKA_HOLES_TRANSACTIONS,
    /* The topic is or was compacted: what is missing may be events that were not read. */
    KAFKA_HOLES_COMPACTED,
};

struct kafka_identity *kafka_identity_make(void);
void kafka_identity_free(struct kafka_identity *identity);

/* Reading begins, at the log's end. `why` not NULL: events may have been there before, so that a gap follows
 * (static text). */
struct kafka_decision kafka_identity_start(struct kafka_identity *identity, const char *why, uint64_t now_ns);
/* A message, or the log's end. Messages come in the order of their offsets from where reading was asked to
 * begin. */
struct kafka_decision kafka_identity_see(
    struct kafka_identity *identity, const struct kafka_seen *seen, uint64_t now_ns);
/* The message of a KAFKA_READ_ON was delivered. */
void kafka_identity_taken(struct kafka_identity *identity, const struct kafka_seen *seen);
/* The broker does not have the offset that was asked for, or could not answer where the log ends. */
struct kafka_decision kafka_identity_refused(
    struct kafka_identity *identity, int32_t broker, uint64_t now_ns);
/* The log may be another one: a connection was lost, the leader changed, partitions disappeared. */
struct kafka_decision kafka_identity_doubt(struct kafka_identity *identity, uint64_t now_ns);
/* The present question once more, or where reading is. */
struct kafka_decision kafka_identity_repeat(struct kafka_identity *identity);
/* A broker says that the topic does not exist (may be called as often as it says so) / that it exists. */
struct kafka_decision kafka_identity_missing(struct kafka_identity *identity, uint64_t now_ns);
struct kafka_decision kafka_identity_there(struct kafka_identity *identity, uint64_t now_ns);
/* The topic has another id than before: it was deleted and created again. */
struct kafka_decision kafka_identity_recreated(struct kafka_identity *identity, uint64_t now_ns);
/* To be called when kafka_identity_due has passed. */
struct kafka_decision kafka_identity_tick(struct kafka_identity *identity, uint64_t now_ns);
/* 0: nothing is due. */
uint64_t kafka_identity_due(const struct kafka_identity *identity);
void kafka_identity_set_holes(struct kafka_identity *identity, enum kafka_holes holes);

/* The offset of the next message to be read, KAFKA_IDENTITY_END when it is not known. */
int64_t kafka_identity_position(const struct kafka_identity *identity);
/* Since when nothing can be delivered because the log's identity or end is not known; 0: messages are
 * delivered. */
uint64_t kafka_identity_unsettled_ns(const struct kafka_identity *identity);

#endif
