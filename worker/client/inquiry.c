#include "worker/client/inquiry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/worker_table.h"
#include "worker/client/client_list.h"
#include "worker/client/client_roster.h"
#include "worker/http/http_gzip.h"

#define INQUIRY_MAGIC   UINT32_C(0x1290121e)
#define INQUIRY_STEP    500 /* clients made JSON in one turn of the loop: about a millisecond */
#define INQUIRY_SECONDS 2   /* a worker that does not answer in this time hangs, and will be replaced */

struct asker {
    TAILQ_ENTRY(asker) link;
    struct http_exchange *exchange;
};
TAILQ_HEAD(askers, asker);

/* What is under way for one kind of question. */
struct round {
    /* wait for this round */
    struct askers now;
    /* came after it had begun */
    struct askers next;
    uint32_t number;
    bool under_way;
    /* answers */
    unsigned missing;
    /* of these slots */
    bool expected[SEGMENT_SLOTS_MAX];
    /* INQUIRY_CLIENTS; the others use the first */
    struct text answers[SEGMENT_SLOTS_MAX];
    bool failed;
};

struct inquiry {
    uint32_t magic;
    struct inquiry_settings settings;
    /* the last one given out */
    uint32_t number;
    struct round rounds[INQUIRY_COUNT];
    struct event *deadlines[INQUIRY_COUNT];
    /* under way; NULL: none */
    struct client_render *render;
    /* its next step */
    struct event *rendering;
    /* rounds begin from the loop, not from within a handler, so that many requests make one */
    struct event *begin;
    struct log_limiter limit_late;
    struct log_limiter limit_large;
};

static const enum handoff_kind inquiry_kinds[] = {HANDOFF_CLIENTS, HANDOFF_STATISTICS};

static uint64_t answer_max_bytes(const struct inquiry *inquiry)
{
    return inquiry->settings.config->client_info_max_bytes;
}

/* Others have no clients, or lose them now. */
static bool worker_answers(const struct segment *segment, unsigned slot)
{
    enum worker_state state = worker_table_state(segment, slot);
    return state == WORKER_READY || state == WORKER_DRAINING;
}

/* ---- replies ---- */

static void reply_late(struct inquiry *inquiry, struct http_reply *reply)
{
    (void)inquiry;
    http_reply_header(&reply->before, "retry-after", SLICE_LITERAL("1"));
    http_reply_detail(reply, 503, "a process of this server did not answer in time, retry shortly");
}

static void reply_too_large(struct inquiry *inquiry, struct http_reply *reply)
{
    long long most = (long long)answer_max_bytes(inquiry);
    log_write_limited(&inquiry->limit_large, LOG_WARNING, LOGGER_HTTP,
        "an answer above OPAL_CLIENT_INFO_MAX_BYTES (%lld) was not given", most);
    http_reply_detail(reply, 503, "the answer would be larger than OPAL_CLIENT_INFO_MAX_BYTES (%lld)", most);
}

/* Compressed once for all who accept it, with the first of them; the others' are left to http_gzip_apply,
 * which finds it done. */
static void reply_compress(struct inquiry *inquiry, struct http_exchange *exchange, struct text *packed)
{
    size_t least = inquiry->settings.config->http_gzip_min_bytes;
    struct http_reply *reply = &exchange->reply;
    if (least == 0 || reply->status != 200 || reply->body.length < least ||
        reply->body.length > HTTP_GZIP_MAX_BYTES || !http_gzip_accepted(exchange->request))
        return;
    if (packed->length == 0 && !gzip_compress(text_slice(&reply->body), packed))
        return;
    http_gzip_use(reply, text_slice(packed));
    http_reply_header(&reply->after, "vary", SLICE_LITERAL("Accept-Encoding"));
}

/* Everybody who waits gets the reply, which is freed. */
static void round_end(struct inquiry *inquiry, enum inquiry_question question, struct http_reply *reply)
{
    struct round *round = &inquiry->rounds[question];
    struct asker *asker;
    struct text packed = {0};
    event_del(inquiry->deadlines[question]);
    round->under_way = false;
    for (unsigned slot = 0; slot < SEGMENT_SLOTS_MAX; slot++)
        round->expected[slot] = false;
    while ((asker = TAILQ_FIRST(&round->now))) {
        struct http_exchange *exchange = asker->exchange;
        TAILQ_REMOVE(&round->now, asker, link);
        free(asker);
        exchange->cancel = NULL;
        exchange->waiting = NULL;
        text_append_slice(&exchange->reply.before, text_slice(&reply->before));
        http_reply_set(&exchange->reply, reply->status, reply->content_type, text_slice(&reply->body));
        reply_compress(inquiry, exchange, &packed);
        exchange->finished(exchange);                  /* may ask again: that begins the next round */
        memory_ledger_check(inquiry->settings.ledger); /* each holds a copy; may take others off the list */
    }
    text_free(&packed);
    http_reply_free(reply);
    if (question == INQUIRY_CLIENTS) {
        client_render_free(inquiry->render);
        inquiry->render = NULL;
    }
    for (unsigned slot = 0; slot < SEGMENT_SLOTS_MAX; slot++)
        text_free(&round->answers[slot]);
    if (!TAILQ_EMPTY(&round->next))
        event_active(inquiry->begin, EV_TIMEOUT, 0);
}

static void round_fail(struct inquiry *inquiry, enum inquiry_question question,
    void (*fill)(struct inquiry *, struct http_reply *))
{
    struct http_reply reply = {0};
    fill(inquiry, &reply);
    round_end(inquiry, question, &reply);
}

/* The clients' answers become JSON, a turn of the loop for each step. */
static void inquiry_on_render(evutil_socket_t fd, short what, void *argument)
{
    struct inquiry *inquiry = object_cast(struct inquiry, INQUIRY_MAGIC, argument);
    struct http_reply reply = {0};
    struct slice json;
    (void)fd;
    (void)what;
    switch (client_render_step(inquiry->render, INQUIRY_STEP, &json)) {
    case CLIENT_RENDER_MORE:
        event_add(inquiry->rendering, &(const struct timeval){0, 0});
        return;
    case CLIENT_RENDER_DONE:
        http_reply_set(&reply, 200, HTTP_JSON, json);
        round_end(inquiry, INQUIRY_CLIENTS, &reply);
        return;
    case CLIENT_RENDER_TOO_LARGE:
        round_fail(inquiry, INQUIRY_CLIENTS, reply_too_large);
        return;
    }
}

/* All answers are in. */
static void round_answered(struct inquiry *inquiry, enum inquiry_question question)
{
    struct round *round = &inquiry->rounds[question];
    struct http_reply reply = {0};
    struct slice lists[SEGMENT_SLOTS_MAX];
    event_del(inquiry->deadlines[question]);
    round->missing = 0; /* of those that have died meanwhile */
    if (round->failed) {
        round_fail(inquiry, question, reply_too_large);
    } else if (question != INQUIRY_CLIENTS) {
        http_reply_set(&reply, 200, HTTP_JSON, text_slice(&round->answers[0]));
        round_end(inquiry, question, &reply);
    } else {
        for (unsigned slot = 0; slot < SEGMENT_SLOTS_MAX; slot++)
            lists[slot] = text_slice(&round->answers[slot]);
        inquiry->render = client_render_begin(lists, SEGMENT_SLOTS_MAX, answer_max_bytes(inquiry));
        if (inquiry->render)
            inquiry_on_render(-1, 0, inquiry);
        else
            round_fail(inquiry, question, reply_too_large);
    }
}

/* ---- asking ---- */

static void ask_workers(struct inquiry *inquiry, struct round *round)
{
    const struct segment *segment = inquiry->settings.counters.segment;
    unsigned own = inquiry->settings.counters.slot;
    const struct handoff_message question = {
        .kind = HANDOFF_ASK_CLIENTS, .slot = (uint16_t)own, .number = round->number};
    client_roster_list(inquiry->settings.connections, &round->answers[own]);
    for (unsigned slot = 0; slot < segment_slot_count(segment); slot++) {
        if (slot == own || !worker_answers(segment, slot))
            continue;
        round->expected[slot] = true;
        round->missing++;
        if (!peers_send(inquiry->settings.peers, slot, &question, -1))
            continue; /* its buffer is full: it hangs, and this round ends at its deadline */
    }
}

static void round_begin(struct inquiry *inquiry, enum inquiry_question question)
{
    struct round *round = &inquiry->rounds[question];
    const struct timeval limit = {INQUIRY_SECONDS, 0};
    TAILQ_CONCAT(&round->now, &round->next, link);
    round->under_way = true;
    round->failed = false;
    round->missing = 0;
    round->number = ++inquiry->number;
    event_add(inquiry->deadlines[question], &limit);
    if (question == INQUIRY_CLIENTS) {
        ask_workers(inquiry, round);
        if (round->missing == 0)
            round_answered(inquiry, question);
        return;
    }
    round->missing = 1;
    if (!publisher_ask_master(inquiry->settings.publisher, round->number, question == INQUIRY_STATS))
        round_fail(inquiry, question, reply_late);
}

static void inquiry_on_begin(evutil_socket_t fd, short what, void *argument)
{
    struct inquiry *inquiry = object_cast(struct inquiry, INQUIRY_MAGIC, argument);
    (void)fd;
    (void)what;
    for (unsigned question = 0; question < INQUIRY_COUNT; question++)
        if (!inquiry->rounds[question].under_way && !TAILQ_EMPTY(&inquiry->rounds[question].next))
            round_begin(inquiry, (enum inquiry_question)question);
}

/* A worker that died meanwhile has no clients and need not be waited for. */
static void inquiry_on_deadline(evutil_socket_t fd, short what, void *argument)
{
    struct inquiry *inquiry = object_cast(struct inquiry, INQUIRY_MAGIC, argument);
    const struct segment *segment = inquiry->settings.counters.segment;
    (void)fd;
    (void)what;
    for (unsigned question = 0; question < INQUIRY_COUNT; question++) {
        struct round *round = &inquiry->rounds[question];
        bool late = false;
        if (!round->under_way || round->missing == 0 ||
            event_pending(inquiry->deadlines[question], EV_TIMEOUT, NULL))
            continue;
        for (unsigned slot = 0; slot < segment_slot_count(segment); slot++)
            late |= round->expected[slot] && worker_answers(segment, slot);
        late |= question != INQUIRY_CLIENTS;
        if (late)
            log_write_limited(&inquiry->limit_late, LOG_WARNING, LOGGER_HTTP,
                "a process of this server did not answer in %d s: /%s answers 503", INQUIRY_SECONDS,
                question == INQUIRY_CLIENTS ? "pubsub_client_info" : "statistics");
        if (late)
            round_fail(inquiry, (enum inquiry_question)question, reply_late);
        else
            round_answered(inquiry, (enum inquiry_question)question);
    }
}

static void take_answer(struct inquiry *inquiry, struct round *round, const struct handoff_message *message,
    unsigned into, int fd)
{
    if (message->failed || fd < 0) {
        round->failed = true;
        if (fd >= 0)
            close(fd);
    } else if (!handoff_memory_take(fd, answer_max_bytes(inquiry), &round->answers[into])) {
        round->failed = true;
    }
    round->missing--;
}

/* An answer came in. */
static void inquiry_received(void *context, const struct handoff_message *message, int fd)
{
    struct inquiry *inquiry = object_cast(struct inquiry, INQUIRY_MAGIC, context);
    for (unsigned question = 0; question < INQUIRY_COUNT; question++) {
        struct round *round = &inquiry->rounds[question];
        bool clients = question == INQUIRY_CLIENTS;
        if (!round->under_way || round->missing == 0 || round->number != message->number ||
            clients != (message->kind == HANDOFF_CLIENTS))
            continue;
        if (clients && (message->slot >= SEGMENT_SLOTS_MAX || !round->expected[message->slot]))
            continue;
        if (clients)
            round->expected[message->slot] = false;
        take_answer(inquiry, round, message, clients ? message->slot : 0, fd);
        if (round->missing == 0)
            round_answered(inquiry, (enum inquiry_question)question);
        return;
    }
    if (fd >= 0)
        close(fd); /* an answer that nobody waits for any more */
}

/* ---- who asks ---- */

/* The connection is gone. */
static void asker_cancel(struct http_exchange *exchange)
{
    struct inquiry *inquiry = exchange->services->api->inquiry;
    struct asker *asker = exchange->waiting;
    for (unsigned question = 0; question < INQUIRY_COUNT; question++) {
        struct askers *lists[2] = {&inquiry->rounds[question].now, &inquiry->rounds[question].next};
        for (unsigned i = 0; i < 2; i++) {
            struct asker *at;
            TAILQ_FOREACH (at, lists[i], link)
                if (at == asker) {
                    TAILQ_REMOVE(lists[i], at, link);
                    free(at);
                    return;
                }
        }
    }
}

void inquiry_ask(struct inquiry *inquiry, struct http_exchange *exchange, enum inquiry_question question)
{
    struct asker *asker = memory_allocate(sizeof *asker);
    asker->exchange = exchange;
    exchange->cancel = asker_cancel;
    exchange->waiting = asker;
    TAILQ_INSERT_TAIL(&inquiry->rounds[question].next, asker, link);
    if (!inquiry->rounds[question].under_way)
        event_active(inquiry->begin, EV_TIMEOUT, 0);
}

/* ---- life ---- */

struct inquiry *inquiry_open(const struct inquiry_settings *settings)
{
    struct inquiry *inquiry = memory_allocate(sizeof *inquiry);
    inquiry->magic = INQUIRY_MAGIC;
    inquiry->settings = *settings;
    for (size_t i = 0; i < sizeof inquiry_kinds / sizeof *inquiry_kinds; i++)
        peers_register(settings->peers, inquiry_kinds[i], inquiry_received, inquiry);
    inquiry->begin = event_new(settings->base, -1, 0, inquiry_on_begin, inquiry);
    for (unsigned question = 0; question < INQUIRY_COUNT; question++) {
        TAILQ_INIT(&inquiry->rounds[question].now);
        TAILQ_INIT(&inquiry->rounds[question].next);
        inquiry->deadlines[question] = event_new(settings->base, -1, 0, inquiry_on_deadline, inquiry);
        if (!inquiry->deadlines[question])
            abort(); /* only out of memory */
    }
    inquiry->rendering = event_new(settings->base, -1, 0, inquiry_on_render, inquiry);
    if (!inquiry->begin || !inquiry->rendering)
        abort();
    return inquiry;
}

void inquiry_close(struct inquiry *inquiry)
{
    if (!inquiry)
        return;
    for (size_t i = 0; i < sizeof inquiry_kinds / sizeof *inquiry_kinds; i++)
        peers_register(inquiry->settings.peers, inquiry_kinds[i], NULL, NULL);
    event_free(inquiry->begin);
    event_free(inquiry->rendering);
    client_render_free(inquiry->render);
    for (unsigned question = 0; question < INQUIRY_COUNT; question++) {
        event_free(inquiry->deadlines[question]);
        for (unsigned slot = 0; slot < SEGMENT_SLOTS_MAX; slot++)
            text_free(&inquiry->rounds[question].answers[slot]);
    }
    inquiry->magic = 0;
    free(inquiry);
}
