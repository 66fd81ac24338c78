/*
 * Random histories of a simulated cluster, against what must hold whatever happens:
 *   - no event is delivered twice, and none after a later one;
 *   - after the clients were asked to fetch again, no event is delivered that they could fetch then;
 *   - an acknowledged event is delivered, or the clients are asked to fetch again after it;
 *   - as long as the cluster loses nothing, nobody is asked to fetch again.
 * KAFKA_HISTORIES in the environment: how many (10,000). KAFKA_SEED: only that one, with a line per step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broadcast/kafka/kafka_identity.h"
#include "broadcast/kafka/kafka_marks.h"

#define BROKERS     3
#define MIN_INSYNC  2
#define MOST        4096
#define STEP_NS     (20 * CLOCK_MILLISECOND)
#define STEPS       800
#define CALM_STEPS  300
#define SURVEY      50
#define STALE_STEPS 75
#define HOLE        0

static bool verbose;
#define SAY(...) (verbose ? (void)printf(__VA_ARGS__) : (void)0)

/* ---- random numbers ---- */

static uint64_t random_state;

static unsigned random_below(unsigned limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)((random_state >> 33) % limit);
}

static bool chance(unsigned in)
{
    return random_below(in) == 0;
}

/* ---- the cluster ---- */

struct record {
    /* The number of an event, from 1 on; HOLE: a transaction's marker. */
    uint32_t event;
    int32_t epoch;
    int64_t timestamp_ms;
};

struct broker {
    bool alive;
    bool frozen;
    /* It takes itself for the leader until then, although another one leads. */
    unsigned stale_until;
    bool leads;
    struct record log[MOST];
    int64_t begin;
    int64_t end;
    int64_t high_watermark;
    /* Up to here its records are noted as acknowledged, when it leads. */
    int64_t noted;
    /* Up to here the present leader knows that it has the log. */
    int64_t replicated;
    /* Its end when it became the leader: before its watermark gets there, it does not say where its log ends
     * (KIP-207). */
    int64_t epoch_start;
};

static struct cluster {
    unsigned step;
    struct broker brokers[BROKERS];
    bool in_sync[BROKERS];
    int leader; /* -1: none */
    int32_t epoch;
    bool there;
    unsigned incarnation;
    uint32_t events;
    unsigned acknowledged_step[MOST * 4];
    bool acknowledged[MOST * 4];
    /* Lost by the cluster before the reader could see it: no reader can know of it. */
    bool unknowable[MOST * 4];
    /* The highest number of an event that a consumer could see. */
    uint32_t visible;
    bool lossy; /* acknowledged events were lost, or removed */
} cluster;

static bool serves(int number)
{
    return cluster.brokers[number].alive && !cluster.brokers[number].frozen;
}

static unsigned in_sync_count(void)
{
    unsigned count = 0;
    for (int i = 0; i < BROKERS; i++)
        count += cluster.in_sync[i];
    return count;
}

/* A follower takes over the leader's log, and drops what differs. */
static void follow(int number)
{
    struct broker *leader = &cluster.brokers[cluster.leader];
    struct broker *own = &cluster.brokers[number];
    int64_t same = own->end < leader->end ? own->end : leader->end;
    for (int64_t i = own->replicated ? same : leader->begin; i < same; i++)
        if (own->log[i].event != leader->log[i].event || own->log[i].epoch != leader->log[i].epoch) {
            same = i;
            break;
        }
    memcpy(own->log + same, leader->log + same, (size_t)(leader->end - same) * sizeof(*leader->log));
    own->begin = leader->begin;
    own->end = leader->end;
    own->high_watermark = leader->high_watermark < own->end ? leader->high_watermark : own->end;
    own->replicated = own->end;
}

static void note_acknowledged(struct broker *leader)
{
    if (leader->noted < leader->begin)
        leader->noted = leader->begin;
    for (; leader->noted < leader->high_watermark; leader->noted++) {
        uint32_t event = leader->log[leader->noted].event;
        if (event > cluster.visible)
            cluster.visible = event;
        if (event != HOLE && !cluster.acknowledged[event]) {
            cluster.acknowledged[event] = true;
            cluster.acknowledged_step[event] = cluster.step;
        }
    }
}

static void replicate(void)
{
    if (cluster.leader < 0 || !serves(cluster.leader))
        return;
    struct broker *leader = &cluster.brokers[cluster.leader];
    int64_t least = leader->end;
    for (int i = 0; i < BROKERS; i++) {
        if (i == cluster.leader || !serves(i) || cluster.brokers[i].stale_until > cluster.step)
            continue;
        if (!chance(4)) {
            follow(i);
            cluster.in_sync[i] = true;
        }
    }
    for (int i = 0; i < BROKERS; i++)
        if (i != cluster.leader && cluster.in_sync[i] && cluster.brokers[i].replicated < least)
            least = cluster.brokers[i].replicated;
    if (in_sync_count() >= MIN_INSYNC && least > leader->high_watermark)
        leader->high_watermark = least;
    note_acknowledged(leader);
}

static void append(uint32_t event)
{
    struct broker *leader = &cluster.brokers[cluster.leader];
    if (leader->end == MOST)
        return;
    /* Some writers' clocks are hours fast. */
    int64_t timestamp = (int64_t)cluster.step * 20 + (chance(50) ? 7200000 : 0);
    leader->log[leader->end++] =
        (struct record){.event = event, .epoch = cluster.epoch, .timestamp_ms = timestamp};
}

static void publish(unsigned most)
{
    if (cluster.leader < 0 || !serves(cluster.leader) || !cluster.there || in_sync_count() < MIN_INSYNC)
        return;
    for (unsigned i = random_below(most + 1); i; i--) {
        append(++cluster.events);
        if (chance(30))
            append(HOLE);
    }
}

static uint32_t reader_last(void);

static void lose_behind(int number)
{
    const struct broker *broker = &cluster.brokers[number];
    bool kept[MOST * 4] = {false};
    for (int64_t i = broker->begin; i < broker->end; i++)
        kept[broker->log[i].event] = true;
    for (uint32_t event = reader_last() + 1; event <= cluster.events; event++)
        cluster.unknowable[event] |= !kept[event];
}

/* Without regard to what is lost when `unclean`. */
static void elect(bool unclean)
{
    int candidates[BROKERS];
    unsigned count = 0;
    for (int i = 0; i < BROKERS; i++)
        if (serves(i) && i != cluster.leader && cluster.brokers[i].stale_until <= cluster.step &&
            (cluster.in_sync[i] || unclean))
            candidates[count++] = i;
    if (!count)
        return;
    int old = cluster.leader;
    int chosen = candidates[random_below(count)];
    if (!cluster.in_sync[chosen]) {
        lose_behind(chosen);
        cluster.lossy = true;
        memset(cluster.in_sync, 0, sizeof cluster.in_sync);
        cluster.in_sync[chosen] = true;
        for (int i = 0; i < BROKERS; i++) /* nobody keeps a watermark beyond its log */
            if (cluster.brokers[i].high_watermark > cluster.brokers[i].end)
                cluster.brokers[i].high_watermark = cluster.brokers[i].end;
    }
    SAY("%u: leader %d -> %d%s\n", cluster.step, old, chosen, unclean ? " (unclean)" : "");
    if (old >= 0)
        cluster.brokers[old].leads = cluster.brokers[old].frozen;
    cluster.leader = chosen;
    cluster.brokers[chosen].leads = true;
    cluster.brokers[chosen].epoch_start = cluster.brokers[chosen].end;
    cluster.brokers[chosen].noted = cluster.brokers[chosen].begin;
    for (int i = 0; i < BROKERS; i++)
        cluster.brokers[i].replicated = 0;
    cluster.epoch++;
}

/* The controller notices that a broker is away: it leaves the set of those in sync, unless it is the last
 * one. */
static void expel(int number)
{
    if (!cluster.in_sync[number])
        return;
    if (in_sync_count() > 1)
        cluster.in_sync[number] = false;
    if (cluster.leader != number)
        return;
    elect(false);
    if (cluster.leader == number) {
        cluster.leader = -1;
        cluster.in_sync[number] = true;
    }
}

static void kill_broker(int number)
{
    struct broker *broker = &cluster.brokers[number];
    if (!broker->alive || broker->frozen)
        return;
    SAY("%u: broker %d is killed\n", cluster.step, number);
    broker->alive = broker->leads = false;
    /* The checkpoint of the watermark is some seconds old. */
    broker->high_watermark -= random_below(20);
    if (broker->high_watermark < broker->begin)
        broker->high_watermark = broker->begin;
    expel(number);
}

static void start_broker(int number)
{
    struct broker *broker = &cluster.brokers[number];
    if (broker->alive)
        return;
    SAY("%u: broker %d starts\n", cluster.step, number);
    broker->alive = true;
    if (cluster.leader < 0 && cluster.in_sync[number])
        elect(false);
}

static void wake_broker(int number)
{
    struct broker *broker = &cluster.brokers[number];
    if (!broker->frozen)
        return;
    broker->frozen = false;
    if (broker->leads && cluster.leader != number)
        broker->stale_until = cluster.step + 1 + random_below(STALE_STEPS);
    if (cluster.leader < 0 && cluster.in_sync[number]) {
        broker->leads = false;
        elect(false);
    }
    SAY("%u: broker %d wakes%s\n", cluster.step, number, broker->stale_until > cluster.step ? ", stale" : "");
}

static void make_topic(void)
{
    cluster.there = true;
    cluster.incarnation++;
    for (int i = 0; i < BROKERS; i++) {
        struct broker *broker = &cluster.brokers[i];
        broker->begin = broker->end = broker->high_watermark = 0;
        broker->leads = false;
        broker->stale_until = 0;
        cluster.in_sync[i] = serves(i);
    }
    cluster.leader = -1;
    cluster.epoch = 0;
    elect(false);
    SAY("%u: the topic is created\n", cluster.step);
}

/* ---- the reader: librdkafka's part in it, and what acts on the decisions ---- */

enum item_kind { ITEM_MESSAGE, ITEM_END, ITEM_REFUSED, ITEM_MISSING, ITEM_THERE, ITEM_DOUBT, ITEM_RECREATED };

struct item {
    enum item_kind kind;
    struct kafka_seen seen;
    uint32_t event;
    /* What consumers could see when the END was looked up for this reading. */
    uint32_t visible;
};

static struct reader {
    struct kafka_identity *identity;
    bool knows_epochs;
    bool knows_ids;
    bool started;
    bool active;
    int belief;
    int64_t fetch; /* KAFKA_IDENTITY_END: to be looked up */
    int64_t told_end;
    uint32_t lookup_visible;
    unsigned known_incarnation;
    unsigned noticed_step;
    bool was_missing;
    struct item queue[MOST];
    unsigned head;
    unsigned tail;
    uint32_t delivered_last;
    bool delivered[MOST * 4];
    uint32_t refetched;
    unsigned first_step;
    unsigned gap_step;
    unsigned gaps;
    bool failed;
} reader;

static uint32_t reader_last(void)
{
    return reader.delivered_last;
}

static void enqueue(struct item item)
{
    if (reader.tail == MOST) {
        memmove(
            reader.queue, reader.queue + reader.head, (reader.tail - reader.head) * sizeof(*reader.queue));
        reader.tail -= reader.head;
        reader.head = 0;
    }
    assert_true(reader.tail < MOST);
    item.seen.epoch = reader.knows_epochs && item.kind == ITEM_MESSAGE ? item.seen.epoch : KAFKA_UNKNOWN;
    item.visible = reader.lookup_visible;
    reader.queue[reader.tail++] = item;
}

static void ask(int64_t offset)
{
    unsigned kept = 0;
    /* Reports are no part of the reading: they stay. */
    for (unsigned i = reader.head; i < reader.tail; i++)
        if (reader.queue[i].kind >= ITEM_MISSING)
            reader.queue[reader.head + kept++] = reader.queue[i];
    reader.tail = reader.head + kept;
    reader.active = true;
    reader.fetch = offset;
    reader.told_end = -1;
    SAY("%u:   ask %ld\n", cluster.step, (long)offset);
}

static void refuse(int broker)
{
    reader.active = false;
    enqueue((struct item){.kind = ITEM_REFUSED, .seen = {.broker = broker}});
}

static bool find_leader(void)
{
    int stale = -1;
    for (int i = 0; i < BROKERS; i++)
        if (cluster.brokers[i].stale_until > cluster.step && cluster.brokers[i].leads && serves(i))
            stale = i;
    /* The metadata may come from the stale leader itself; with epochs, older metadata are not believed. */
    reader.belief = stale >= 0 && !reader.knows_epochs && chance(2) ? stale : cluster.leader;
    return reader.belief >= 0;
}

static void fetch(void)
{
    if (!reader.active || !cluster.there)
        return;
    bool lost = reader.belief < 0 || !serves(reader.belief) || !cluster.brokers[reader.belief].leads;
    if ((lost || chance(40)) && !find_leader())
        return;
    struct broker *broker = &cluster.brokers[reader.belief];
    if (!serves(reader.belief) || !broker->leads)
        return;
    if (reader.fetch == KAFKA_IDENTITY_END) {
        if (chance(10) || broker->high_watermark < broker->epoch_start) {
            refuse(KAFKA_UNKNOWN);
            return;
        }
        reader.fetch = broker->high_watermark;
        reader.lookup_visible = cluster.visible;
        return;
    }
    if (reader.fetch < broker->begin || reader.fetch > broker->end) {
        refuse(reader.belief);
        return;
    }
    for (unsigned most = 1 + random_below(10); most && reader.fetch < broker->high_watermark;
         reader.fetch++) {
        struct record *record = &broker->log[reader.fetch];
        if (record->event == HOLE)
            continue;
        most--;
        enqueue((struct item){.kind = ITEM_MESSAGE,
            .event = record->event,
            .seen = {.offset = reader.fetch,
                .mark = kafka_mark_make(record->timestamp_ms, &record->event, sizeof record->event),
                .broker = reader.belief,
                .epoch = record->epoch}});
    }
    if (reader.fetch == broker->high_watermark && reader.told_end != reader.fetch) {
        reader.told_end = reader.fetch;
        enqueue((struct item){.kind = ITEM_END, .seen = {.offset = reader.fetch, .broker = reader.belief}});
    }
}

static void broken(const char *what, uint32_t event)
{
    SAY("%u: BROKEN: %s (event %u)\n", cluster.step, what, event);
    if (!verbose && !reader.failed)
        printf("%s (event %u, step %u)\n", what, event, cluster.step);
    reader.failed = true;
}

static void deliver(const struct item *item)
{
    SAY("%u:   deliver %u at %ld\n", cluster.step, item->event, (long)item->seen.offset);
    if (item->event < reader.delivered_last)
        broken("an event after a later one", item->event);
    if (reader.delivered[item->event])
        broken("an event twice", item->event);
    if (item->event <= reader.refetched)
        broken("an event that the clients have fetched already", item->event);
    reader.delivered_last = item->event;
    reader.delivered[item->event] = true;
}

static struct kafka_decision judge(const struct item *item, uint64_t now)
{
    switch (item->kind) {
    case ITEM_REFUSED:
        return kafka_identity_refused(reader.identity, item->seen.broker, now);
    case ITEM_MISSING:
        return kafka_identity_missing(reader.identity, now);
    case ITEM_THERE:
        return kafka_identity_there(reader.identity, now);
    case ITEM_DOUBT:
        return kafka_identity_doubt(reader.identity, now);
    case ITEM_RECREATED:
        return kafka_identity_recreated(reader.identity, now);
    case ITEM_MESSAGE:
    case ITEM_END:
    default:
        return kafka_identity_see(reader.identity, &item->seen, now);
    }
}

static void process(const struct item *item, uint64_t now)
{
    struct kafka_decision decision = judge(item, now);
    if (decision.step == KAFKA_GAP) {
        SAY("%u:   gap: %s\n", cluster.step, decision.why);
        reader.gaps++;
        reader.gap_step = cluster.step;
        reader.refetched = item->visible;
        if (!cluster.lossy)
            broken(decision.why, 0);
        decision = judge(item, now);
    }
    if (decision.step == KAFKA_ASK)
        ask(decision.offset);
    if (decision.step == KAFKA_READ_ON && item->kind == ITEM_MESSAGE) {
        deliver(item);
        kafka_identity_taken(reader.identity, &item->seen);
    }
    if (!reader.started && kafka_identity_position(reader.identity) != KAFKA_IDENTITY_END) {
        reader.started = true;
        reader.first_step = cluster.step;
    }
}

/* What other parts of the reader learn about the topic and the connection. */
static void survey(void)
{
    if (cluster.step % SURVEY == 0 && cluster.there && reader.was_missing) {
        reader.was_missing = false;
        enqueue((struct item){.kind = ITEM_THERE});
    }
    if (!cluster.there && (cluster.step % SURVEY == 0 || !reader.was_missing)) {
        reader.was_missing = true;
        enqueue((struct item){.kind = ITEM_MISSING});
    }
    if (cluster.incarnation != reader.known_incarnation && cluster.step % SURVEY == 0 && reader.knows_ids) {
        reader.known_incarnation = cluster.incarnation;
        enqueue((struct item){.kind = ITEM_RECREATED});
    }
    if (chance(300))
        enqueue((struct item){.kind = ITEM_DOUBT});
}

static void read_some(uint64_t now)
{
    fetch();
    survey();
    if (chance(3))
        return; /* the loop is busy */
    for (unsigned i = random_below(40); i && reader.head < reader.tail; i--) {
        struct item item = reader.queue[reader.head++];
        process(&item, now);
    }
    uint64_t due = kafka_identity_due(reader.identity);
    if (due && now >= due) {
        struct kafka_decision decision = kafka_identity_tick(reader.identity, now);
        if (decision.step == KAFKA_ASK)
            ask(decision.offset);
    }
}

/* ---- histories ---- */

/* What this history may contain. */
struct mischief {
    bool kills;
    bool freezes;
    bool unclean;
    bool recreation;
    bool retention;
};

static void trouble(const struct mischief *mischief)
{
    int number = (int)random_below(BROKERS);
    if (mischief->kills && chance(120))
        kill_broker(number);
    if (chance(100))
        start_broker(number);
    if (mischief->freezes && chance(200) && serves(number)) {
        SAY("%u: broker %d is frozen\n", cluster.step, number);
        cluster.brokers[number].frozen = true;
    }
    if (cluster.brokers[number].frozen && chance(30))
        expel(number);
    if (chance(150))
        wake_broker(number);
    if (chance(60) && cluster.there)
        elect(false);
    if (mischief->unclean && chance(300) && cluster.there)
        elect(true);
    if (mischief->recreation && cluster.there && chance(500)) {
        SAY("%u: the topic is deleted\n", cluster.step);
        cluster.there = false;
        cluster.lossy = true;
    } else if (!cluster.there && chance(150)) {
        make_topic();
    }
    if (mischief->retention && cluster.leader >= 0 && chance(200)) {
        struct broker *leader = &cluster.brokers[cluster.leader];
        note_acknowledged(leader);
        leader->begin += (int64_t)random_below((unsigned)(leader->high_watermark - leader->begin) + 1);
        /* Without the messages by which the log is recognised, a reader that was in doubt can't be sure. */
        if (leader->begin > kafka_identity_position(reader.identity) - KAFKA_CHECK_OFFSETS)
            cluster.lossy = true;
        SAY("%u: the log begins at %ld\n", cluster.step, (long)leader->begin);
    }
}

static void calm_down(void)
{
    for (int i = 0; i < BROKERS; i++) {
        start_broker(i);
        wake_broker(i);
    }
    if (!cluster.there)
        make_topic();
    if (cluster.leader < 0)
        elect(true);
}

static void check_rest(void)
{
    for (uint32_t event = 1; event <= cluster.events; event++)
        if (cluster.acknowledged[event] && cluster.acknowledged_step[event] > reader.first_step &&
            !reader.delivered[event] && !cluster.unknowable[event] &&
            reader.gap_step < cluster.acknowledged_step[event])
            broken("an event was lost, and the clients do not fetch again", event);
}

static bool run_history(uint64_t seed)
{
    memset(&cluster, 0, sizeof cluster);
    memset(&reader, 0, sizeof reader);
    random_state = seed * 0x9e3779b97f4a7c15u + 1;
    for (int i = 0; i < 8; i++)
        random_below(2);
    struct mischief mischief = {chance(2), chance(2), chance(3), chance(3), chance(3)};
    unsigned rate = 1 + random_below(4);
    for (int i = 0; i < BROKERS; i++)
        cluster.brokers[i].alive = true;
    cluster.leader = -1;
    make_topic();
    reader.knows_epochs = chance(2);
    reader.knows_ids = reader.knows_epochs && chance(2);
    reader.known_incarnation = cluster.incarnation;
    reader.belief = -1;
    reader.identity = kafka_identity_make();
    kafka_identity_set_holes(reader.identity, KAFKA_HOLES_TRANSACTIONS);
    for (unsigned i = random_below(20); i; i--)
        publish(5);
    for (int i = 0; i < 20; i++)
        replicate();
    ask(kafka_identity_start(reader.identity, NULL, 1).offset);
    for (cluster.step = 1; cluster.step <= STEPS + CALM_STEPS && !reader.failed; cluster.step++) {
        if (cluster.step < STEPS)
            trouble(&mischief);
        else
            calm_down();
        if (!chance(3))
            publish(chance(100) ? 40 : rate);
        replicate();
        for (int i = 0; i < BROKERS; i++)
            if (i != cluster.leader && cluster.brokers[i].stale_until <= cluster.step &&
                !cluster.brokers[i].frozen)
                cluster.brokers[i].leads = false;
        read_some(cluster.step * STEP_NS);
    }
    for (int i = 0; i < 300; i++, cluster.step++) { /* nothing new is written: it must come to rest */
        replicate();
        read_some(cluster.step * STEP_NS);
    }
    check_rest();
    kafka_identity_free(reader.identity);
    return !reader.failed;
}

static void test_random_histories(void **state)
{
    const char *count = getenv("KAFKA_HISTORIES");
    const char *seed = getenv("KAFKA_SEED");
    unsigned long last = count ? strtoul(count, NULL, 10) : 10000;
    unsigned long failed = 0;
    unsigned long gaps = 0;
    unsigned long delivered = 0;
    (void)state;
    if (seed) {
        verbose = true;
        assert_true(run_history(strtoul(seed, NULL, 10)));
        return;
    }
    for (unsigned long i = 1; i <= last; i++) {
        if (!run_history(i)) {
            printf("  KAFKA_SEED=%lu\n", i);
            failed++;
        }
        gaps += reader.gaps;
        for (uint32_t event = 1; event <= cluster.events; event++)
            delivered += reader.delivered[event];
        if (failed == 10)
            break;
    }
    printf("%lu histories, %lu events delivered, %lu gaps, %lu histories broke a rule\n", last, delivered,
        gaps, failed);
    assert_int_equal(failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_histories)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
