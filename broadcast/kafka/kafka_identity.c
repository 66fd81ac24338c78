#include "broadcast/kafka/kafka_identity.h"

#include <stdlib.h>

#include "broadcast/kafka/kafka_marks.h"
#include "shm/common/memory.h"

/* Refusals further apart than this are not one lasting refusal: nobody answered in between. */
#define KAFKA_REFUSALS_APART_NS CLOCK_SECOND
/* A doubt ends after this time, however far apart the refusals are. */
#define KAFKA_DOUBT_MOST_NS (30 * CLOCK_SECOND)

static const char *const why_removed = "the place where we stopped is not in Kafka's log any more";
static const char *const why_shorter = "Kafka's log ends before the place where we stopped";
static const char *const why_other = "Kafka's log has other events than those that we read";
static const char *const why_recreated = "the Kafka topic was deleted and created again";
static const char *const why_holes = "events are missing in Kafka's log";

enum kafka_phase { KAFKA_LOCATING, KAFKA_READING, KAFKA_CHECKING };

/* Where reading was asked to begin. */
enum kafka_question {
    KAFKA_ASK_MARKS,
    KAFKA_ASK_POSITION,
    KAFKA_ASK_END,
};

struct kafka_identity {
    enum kafka_phase phase;
    /* Everything before it was read, or was there before we began. */
    int64_t position;
    struct kafka_marks marks;
    enum kafka_holes holes;
    /* Whose log `position` was found in last, and the epoch of its last message. */
    int32_t broker;
    int32_t epoch;
    /* What is asked at present, and what is to be asked at `due_ns` (0: nothing). */
    enum kafka_question question;
    enum kafka_question next_question;
    uint64_t due_ns;
    /* The present check: whose log is read, how many known messages are to be found in it, and were. */
    int32_t check_broker;
    size_t expected;
    size_t found;
    /* The last messages before the position were looked for since it was located. */
    bool learned;
    /* The present refusal: since when by the same broker without a pause, the last one, and by whom. */
    uint64_t refused_since_ns;
    uint64_t refused_last_ns;
    int32_t refusing_broker;
    /* Since the log was last recognised: who refused the marks, when the position was refused first (0: it
     * was not), and whether the topic was reported missing. */
    int32_t refused_broker;
    uint64_t position_refused_ns;
    bool denied;
    /* Who said since then that its log goes on to the position. */
    int32_t beyond_broker;
    uint64_t missing_since_ns;
    /* Reported missing for KAFKA_GONE_NS: what is there next is a new log, unless its marks say otherwise. */
    bool gone;
    /* A gap is to be told when the END is known; NULL: none. */
    const char *gap_why;
    uint64_t gap_since_ns;
    uint64_t unsettled_ns;
};

static const struct kafka_decision read_on = {.step = KAFKA_READ_ON};
static const struct kafka_decision wait_for_more = {.step = KAFKA_WAIT};

/* ---- questions ---- */

static int64_t identity_first_mark(const struct kafka_identity *identity)
{
    return identity->position > KAFKA_CHECK_OFFSETS ? identity->position - KAFKA_CHECK_OFFSETS : 0;
}

static struct kafka_decision identity_ask(struct kafka_identity *identity, enum kafka_question question)
{
    struct kafka_decision ask = {.step = KAFKA_ASK, .offset = KAFKA_IDENTITY_END};
    identity->question = question;
    identity->due_ns = 0;
    identity->check_broker = KAFKA_UNKNOWN;
    if (question == KAFKA_ASK_POSITION)
        ask.offset = identity->position;
    if (question == KAFKA_ASK_MARKS) {
        ask.offset = identity_first_mark(identity);
        identity->expected = kafka_marks_count(&identity->marks, ask.offset, identity->position);
        identity->found = 0;
    }
    return ask;
}

static struct kafka_decision identity_ask_later(
    struct kafka_identity *identity, enum kafka_question question, uint64_t now_ns)
{
    if (!identity->due_ns || identity->next_question != question)
        identity->due_ns = now_ns + KAFKA_ASK_AGAIN_NS;
    identity->next_question = question;
    return wait_for_more;
}

static void identity_unsettle(struct kafka_identity *identity, enum kafka_phase phase, uint64_t now_ns)
{
    identity->phase = phase;
    if (!identity->unsettled_ns)
        identity->unsettled_ns = now_ns;
}

static struct kafka_decision identity_check(struct kafka_identity *identity, uint64_t now_ns)
{
    identity_unsettle(identity, KAFKA_CHECKING, now_ns);
    return identity_ask(identity, KAFKA_ASK_MARKS);
}

static struct kafka_decision identity_go_to_end(
    struct kafka_identity *identity, const char *why, uint64_t now_ns)
{
    if (!identity->gap_why)
        identity->gap_since_ns = identity->missing_since_ns   ? identity->missing_since_ns
                                 : identity->refused_since_ns ? identity->refused_since_ns
                                                              : now_ns;
    identity->gap_why = identity->denied ? why_recreated : why;
    identity_unsettle(identity, KAFKA_LOCATING, now_ns);
    return identity_ask(identity, KAFKA_ASK_END);
}

/* ---- answers ---- */

/* The position is in the log of the broker that sent this. */
static void identity_settle(struct kafka_identity *identity, const struct kafka_seen *seen)
{
    identity->phase = KAFKA_READING;
    if (seen->broker != KAFKA_UNKNOWN)
        identity->broker = seen->broker;
    if (seen->epoch != KAFKA_UNKNOWN)
        identity->epoch = seen->epoch;
    identity->refused_since_ns = 0;
    identity->position_refused_ns = 0;
    identity->denied = false;
    identity->refused_broker = identity->beyond_broker = KAFKA_UNKNOWN;
    identity->missing_since_ns = 0;
    identity->gone = false;
    identity->unsettled_ns = 0;
    identity->due_ns = 0;
}

static struct kafka_decision identity_see_located(
    struct kafka_identity *identity, const struct kafka_seen *seen, uint64_t now_ns)
{
    struct kafka_decision gap = {
        .step = KAFKA_GAP, .why = identity->gap_why, .gap_ns = now_ns - identity->gap_since_ns};
    /* What was read at and behind this offset may appear again, from a leader that was away: it must not be
     * delivered twice. */
    kafka_marks_drop(&identity->marks, seen->offset);
    identity->epoch = KAFKA_UNKNOWN;
    identity->gap_why = NULL;
    identity->position = seen->offset;
    identity->learned = false;
    identity_settle(identity, seen);
    return gap.why ? gap : kafka_identity_see(identity, seen, now_ns);
}

/* A message before the position, in a check. */
static struct kafka_decision identity_compare(
    struct kafka_identity *identity, const struct kafka_seen *seen, uint64_t now_ns)
{
    uint64_t known = kafka_marks_get(&identity->marks, seen->offset);
    if (known == KAFKA_MARK_NONE) { /* from before we began: learned, unless it may be of another log */
        if (!identity->refused_since_ns && !identity->denied)
            kafka_marks_put(&identity->marks, seen->offset, seen->mark);
    } else if (known == seen->mark) {
        identity->found++;
    } else {
        return identity_go_to_end(identity, why_other, now_ns);
    }
    return wait_for_more;
}

/* A check got to the position. */
static struct kafka_decision identity_arrive(
    struct kafka_identity *identity, const struct kafka_seen *seen, uint64_t now_ns)
{
    if (identity->question == KAFKA_ASK_MARKS && identity->found < identity->expected &&
        identity->holes != KAFKA_HOLES_COMPACTED)
        return identity_go_to_end(identity, why_other, now_ns);
    /* The position without the marks: that may be any log. Only a broker that refuses the marks again, after
     * it had the position, has the known one, whose beginning was removed. */
    if (identity->question == KAFKA_ASK_POSITION && identity->expected &&
        (identity->refused_broker != seen->broker || identity->beyond_broker != seen->broker)) {
        identity->beyond_broker = seen->broker;
        return identity_ask(identity, KAFKA_ASK_MARKS);
    }
    /* Nothing of it was recognised, and there is reason to believe that it is another one. */
    if (!identity->found && (identity->position_refused_ns || identity->denied))
        return identity_go_to_end(identity, why_other, now_ns);
    identity_settle(identity, seen);
    return kafka_identity_see(identity, seen, now_ns);
}

static struct kafka_decision identity_see_check(
    struct kafka_identity *identity, const struct kafka_seen *seen, uint64_t now_ns)
{
    if (identity->check_broker == KAFKA_UNKNOWN)
        identity->check_broker = seen->broker;
    else if (seen->broker != identity->check_broker && seen->broker != KAFKA_UNKNOWN)
        return identity_ask(identity, identity->question);
    if (identity->question == KAFKA_ASK_MARKS)
        identity->refused_broker = KAFKA_UNKNOWN;
    if (identity->question == KAFKA_ASK_END) {
        bool beyond = seen->offset >= identity->position;
        identity->beyond_broker = beyond ? seen->broker : KAFKA_UNKNOWN;
        return beyond ? identity_ask(identity, KAFKA_ASK_MARKS)
                      : identity_ask_later(identity, KAFKA_ASK_MARKS, now_ns);
    }
    if (seen->offset < identity->position && seen->mark != KAFKA_MARK_NONE)
        return identity_compare(identity, seen, now_ns);
    if (seen->offset < identity->position) {
        /* The visible log ends too early. A leader whose followers are away shows its last messages later;
         * one that does not have them says so when it is asked for them. */
        return identity_ask_later(identity, KAFKA_ASK_POSITION, now_ns);
    }
    /* Epochs never fall within a log. */
    if (seen->epoch != KAFKA_UNKNOWN && seen->epoch < identity->epoch)
        return identity_go_to_end(identity, why_recreated, now_ns);
    return identity_arrive(identity, seen, now_ns);
}

static bool identity_is_lost(const struct kafka_identity *identity, int64_t passed_over)
{
    if (passed_over <= 0 || identity->holes == KAFKA_HOLES_TRANSACTIONS)
        return false;
    return identity->holes == KAFKA_HOLES_COMPACTED || passed_over > 1;
}

static bool identity_differs(int32_t a, int32_t b)
{
    return a != KAFKA_UNKNOWN && b != KAFKA_UNKNOWN && a != b;
}

static struct kafka_decision identity_see_next(
    struct kafka_identity *identity, const struct kafka_seen *seen, uint64_t now_ns)
{
    if (identity_differs(seen->broker, identity->broker) || identity_differs(seen->epoch, identity->epoch))
        return identity_check(identity, now_ns);
    if (seen->mark == KAFKA_MARK_NONE) {
        /* A quiet moment: learn the last messages before us, by which this log can be recognised. */
        int64_t first = identity_first_mark(identity);
        if (identity->learned || kafka_marks_count(&identity->marks, first, identity->position))
            return read_on;
        identity->learned = true;
        return first < identity->position ? identity_check(identity, now_ns) : read_on;
    }
    if (seen->offset < identity->position)
        return wait_for_more;
    if (identity_is_lost(identity, seen->offset - identity->position))
        return identity_go_to_end(identity, why_holes, now_ns);
    if (kafka_marks_get(&identity->marks, seen->offset) == seen->mark) {
        identity->position = seen->offset + 1;
        return wait_for_more;
    }
    /* From here on it is another log than the one that was read; the gap that led here covers it. */
    kafka_marks_cut(&identity->marks, seen->offset);
    return read_on;
}

struct kafka_decision kafka_identity_see(
    struct kafka_identity *identity, const struct kafka_seen *seen, uint64_t now_ns)
{
    switch (identity->phase) {
    case KAFKA_LOCATING:
        return identity_see_located(identity, seen, now_ns);
    case KAFKA_CHECKING:
        return identity_see_check(identity, seen, now_ns);
    case KAFKA_READING:
    default:
        return identity_see_next(identity, seen, now_ns);
    }
}

void kafka_identity_taken(struct kafka_identity *identity, const struct kafka_seen *seen)
{
    identity->position = seen->offset + 1;
    if (seen->epoch != KAFKA_UNKNOWN)
        identity->epoch = seen->epoch;
    kafka_marks_put(&identity->marks, seen->offset, seen->mark);
}

/* ---- refusals ---- */

static void identity_count_refusal(struct kafka_identity *identity, int32_t broker, uint64_t now_ns)
{
    if (!identity->refused_since_ns || broker != identity->refusing_broker ||
        now_ns - identity->refused_last_ns > KAFKA_REFUSALS_APART_NS) {
        identity->refused_since_ns = now_ns;
        identity->beyond_broker = KAFKA_UNKNOWN;
    }
    identity->refused_last_ns = now_ns;
    identity->refusing_broker = broker;
    identity->refused_broker = broker;
}

/* The broker does not have the position. */
static struct kafka_decision identity_refuse_position(
    struct kafka_identity *identity, int32_t broker, uint64_t now_ns)
{
    if (!identity->position_refused_ns)
        identity->position_refused_ns = now_ns;
    if (identity->beyond_broker != KAFKA_UNKNOWN && identity->beyond_broker == broker)
        return identity_go_to_end(identity, why_removed, now_ns);
    if (now_ns - identity->refused_since_ns >= KAFKA_DOUBT_NS ||
        now_ns - identity->position_refused_ns >= KAFKA_DOUBT_MOST_NS)
        return identity_go_to_end(identity, why_shorter, now_ns);
    return identity_ask_later(identity, KAFKA_ASK_END, now_ns);
}

struct kafka_decision kafka_identity_refused(struct kafka_identity *identity, int32_t broker, uint64_t now_ns)
{
    if (identity->phase != KAFKA_READING && identity->question == KAFKA_ASK_END)
        return identity_ask_later(identity, KAFKA_ASK_END, now_ns); /* the END could not be looked up */
    identity_count_refusal(identity, broker, now_ns);
    if (identity->phase == KAFKA_READING) {
        identity_unsettle(identity, KAFKA_CHECKING, now_ns);
        return identity_ask_later(identity, KAFKA_ASK_MARKS, now_ns);
    }
    if (identity->gone)
        return identity_go_to_end(identity, why_recreated, now_ns);
    if (identity->question == KAFKA_ASK_MARKS && identity_first_mark(identity) < identity->position)
        return identity_ask(identity, KAFKA_ASK_POSITION);
    return identity_refuse_position(identity, broker, now_ns);
}

/* ---- reports ---- */

struct kafka_decision kafka_identity_start(struct kafka_identity *identity, const char *why, uint64_t now_ns)
{
    identity->gap_why = why;
    identity->gap_since_ns = now_ns;
    identity_unsettle(identity, KAFKA_LOCATING, now_ns);
    return identity_ask(identity, KAFKA_ASK_END);
}

struct kafka_decision kafka_identity_doubt(struct kafka_identity *identity, uint64_t now_ns)
{
    return identity->phase == KAFKA_READING ? identity_check(identity, now_ns) : wait_for_more;
}

struct kafka_decision kafka_identity_repeat(struct kafka_identity *identity)
{
    if (identity->phase == KAFKA_READING)
        return (struct kafka_decision){.step = KAFKA_ASK, .offset = identity->position};
    return identity_ask(identity, identity->question);
}

static void identity_note_missing(struct kafka_identity *identity, uint64_t now_ns)
{
    /* A log that can be read is there, whatever this broker says. */
    if (identity->phase != KAFKA_READING && now_ns - identity->missing_since_ns >= KAFKA_GONE_NS)
        identity->gone = true;
}

struct kafka_decision kafka_identity_missing(struct kafka_identity *identity, uint64_t now_ns)
{
    if (identity->missing_since_ns) {
        identity_note_missing(identity, now_ns);
        return wait_for_more;
    }
    identity->missing_since_ns = now_ns;
    identity->denied = true;
    return kafka_identity_doubt(identity, now_ns);
}

struct kafka_decision kafka_identity_there(struct kafka_identity *identity, uint64_t now_ns)
{
    if (!identity->missing_since_ns)
        return wait_for_more;
    identity_note_missing(identity, now_ns);
    if (!identity->gone)
        identity->missing_since_ns = 0;
    return identity->gone && identity->phase == KAFKA_CHECKING ? identity_check(identity, now_ns)
                                                               : wait_for_more;
}

struct kafka_decision kafka_identity_recreated(struct kafka_identity *identity, uint64_t now_ns)
{
    return identity_go_to_end(identity, why_recreated, now_ns);
}

struct kafka_decision kafka_identity_tick(struct kafka_identity *identity, uint64_t now_ns)
{
    if (!identity->due_ns || now_ns < identity->due_ns)
        return wait_for_more;
    return identity_ask(identity, identity->next_question);
}

uint64_t kafka_identity_due(const struct kafka_identity *identity)
{
    return identity->due_ns;
}

void kafka_identity_set_holes(struct kafka_identity *identity, enum kafka_holes holes)
{
    identity->holes = holes;
}

int64_t kafka_identity_position(const struct kafka_identity *identity)
{
    return identity->phase == KAFKA_LOCATING ? KAFKA_IDENTITY_END : identity->position;
}

uint64_t kafka_identity_unsettled_ns(const struct kafka_identity *identity)
{
    return identity->unsettled_ns;
}

/* ---- life cycle ---- */

struct kafka_identity *kafka_identity_make(void)
{
    struct kafka_identity *identity = memory_allocate(sizeof *identity);
    identity->phase = KAFKA_LOCATING;
    identity->question = KAFKA_ASK_END;
    identity->broker = identity->epoch = KAFKA_UNKNOWN;
    identity->check_broker = identity->refusing_broker = KAFKA_UNKNOWN;
    identity->refused_broker = identity->beyond_broker = KAFKA_UNKNOWN;
    return identity;
}

void kafka_identity_free(struct kafka_identity *identity)
{
    kafka_marks_free(&identity->marks);
    free(identity);
}
