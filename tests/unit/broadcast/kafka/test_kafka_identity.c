/*
 * Is it still the log that was read? Histories and the decisions that they must lead to, line by line:
 *
 *   MILLISECONDS what was seen -> decision
 *
 * Seen:     start | start gap | see FIRST[-LAST][KIND] @BROKER [e EPOCH] | end OFFSET @BROKER | refused
 * @BROKER
 *           | doubt | missing | there | recreated | tick | holes none|compacted|unknown
 * Decision: read on | wait | ask OFFSET | ask end | gap, ... (a gap, and what follows when the same is
 * offered again) Messages of another KIND (a letter) at the same offset differ. Every message of a 'see' must
 * lead to the decision.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broadcast/kafka/kafka_identity.h"
#include "broadcast/kafka/kafka_marks.h"

struct history {
    const char *name;
    const char *lines;
};

#define MS CLOCK_MILLISECOND
/* 13 messages are in the log, the last ten were read by this server; broker 1 leads. */
#define TEN_READ \
    "0 start -> ask end\n" \
    "10 end 3 @1 -> ask 0\n" \
    "11 see 0-2 @1 -> wait\n" \
    "12 end 3 @1 -> read on\n" \
    "20 see 3-12 @1 -> read on\n"

static const struct history histories[] = {
    {"the start: at the end, with a look at what is before it", TEN_READ "30 see 13 @1 -> read on\n"},
    {"the start of a busy topic", "0 start -> ask end\n"
                                  "5 see 40 @1 -> read on\n"
                                  "6 see 41 @1 -> read on\n"
                                  "7 end 42 @1 -> read on\n"},
    {"an empty topic", "0 start -> ask end\n"
                       "5 end 0 @1 -> read on\n"
                       "6 see 0 @1 -> read on\n"},
    {"a name can't be looked up at start: the END is asked for again, nothing old is read",
        "0 start -> ask end\n"
        "20 refused @-1 -> wait\n"
        "60 tick -> wait\n"
        "120 tick -> ask end\n"
        "140 refused @-1 -> wait\n"
        "240 tick -> ask end\n"
        "260 end 500 @1 -> ask 492\n"
        "261 see 492-499 @1 -> wait\n"
        "262 see 500 @1 -> read on\n"},
    {"nothing is before the position: looked for once", "0 start -> ask end\n"
                                                        "5 end 20 @1 -> ask 12\n"
                                                        "6 refused @1 -> ask 20\n"
                                                        "7 end 20 @1 -> read on\n"
                                                        "8 see 20 @1 -> read on\n"},
    {"another leader with the same log", TEN_READ "30 see 13 @2 -> ask 5\n"
                                                  "31 see 5-12 @2 -> wait\n"
                                                  "32 see 13-14 @2 -> read on\n"},
    {"the leader changes while its log is checked", TEN_READ "30 see 13 @2 -> ask 5\n"
                                                             "31 see 5-8 @2 -> wait\n"
                                                             "32 see 9 @3 -> ask 5\n"
                                                             "33 see 5-12 @3 -> wait\n"
                                                             "34 see 13 @3 -> read on\n"},
    {"a lost connection, nothing new", TEN_READ "30 doubt -> ask 5\n"
                                                "31 doubt -> wait\n"
                                                "40 see 5-12 @1 -> wait\n"
                                                "41 end 13 @1 -> read on\n"},
    {"a frozen leader wakes, refuses for 100 ms, then the real one is found",
        TEN_READ "30 see 13 @2 -> ask 5\n"
                 "31 see 5-12 @2 -> wait\n"
                 "32 see 13-19 @2 -> read on\n"
                 "50 refused @1 -> wait\n"
                 "150 tick -> ask 12\n"
                 "160 refused @1 -> ask 20\n"
                 "165 refused @1 -> wait\n"
                 "265 tick -> ask end\n"
                 "270 end 16 @1 -> wait\n"
                 "370 tick -> ask 12\n"
                 "380 see 12-19 @2 -> wait\n"
                 "381 see 20-25 @2 -> read on\n"},
    {"a frozen leader wakes, and the END is told by the real one: no proof that the position was removed",
        TEN_READ "30 refused @1 -> wait\n"
                 "130 tick -> ask 5\n"
                 "140 refused @1 -> ask 13\n"
                 "150 refused @1 -> wait\n"
                 "250 tick -> ask end\n"
                 "260 end 30 @2 -> ask 5\n"
                 "270 refused @1 -> ask 13\n"
                 "280 refused @1 -> wait\n"
                 "380 tick -> ask end\n"
                 "390 end 30 @2 -> ask 5\n"
                 "400 see 5-12 @2 -> wait\n"
                 "401 see 13-29 @2 -> read on\n"},
    {"one broker is back alone: its high watermark stands still, then moves",
        TEN_READ "30 doubt -> ask 5\n"
                 "40 see 5-8 @1 -> wait\n"
                 "41 end 9 @1 -> wait\n"
                 "141 tick -> ask 13\n"
                 "90000 see 13 @1 -> ask 5\n"
                 "90001 see 5-12 @1 -> wait\n"
                 "90002 see 13 @1 -> read on\n"},
    {"the same, and the marks appear while they are waited for", TEN_READ "30 doubt -> ask 5\n"
                                                                          "40 see 5-8 @1 -> wait\n"
                                                                          "41 end 9 @1 -> wait\n"
                                                                          "60 see 9-12 @1 -> wait\n"
                                                                          "61 see 13 @1 -> read on\n"
                                                                          "500 tick -> wait\n"},
    {"an unclean election: the log is shorter for good; of what is left nothing is delivered again",
        TEN_READ "30 doubt -> ask 5\n"
                 "40 see 5-7 @2 -> wait\n"
                 "41 end 8 @2 -> wait\n"
                 "141 tick -> ask 13\n"
                 "150 refused @2 -> wait\n"
                 "250 tick -> ask end\n"
                 "510 end 8 @2 -> wait\n"
                 "610 tick -> ask 5\n"
                 "620 see 5-7 @2 -> wait\n"
                 "621 end 8 @2 -> wait\n"
                 "721 tick -> ask 13\n"
                 "730 refused @2 -> wait\n"
                 "1600 refused @2 -> wait\n"
                 "2500 refused @2 -> wait\n"
                 "2600 tick -> ask end\n"
                 "2610 end 8 @2 -> wait\n"
                 "2710 tick -> ask 5\n"
                 "2720 see 5-7 @2 -> wait\n"
                 "2721 end 8 @2 -> wait\n"
                 "2821 tick -> ask 13\n"
                 "2822 refused @2 -> wait\n"
                 "2922 tick -> ask end\n"
                 "2923 end 8 @2 -> wait\n"
                 "3023 tick -> ask 5\n"
                 "3024 see 5-7 @2 -> wait\n"
                 "3025 end 8 @2 -> wait\n"
                 "3125 tick -> ask 13\n"
                 "3151 refused @2 -> ask end\n"
                 "3160 end 8 @2 -> gap, ask 0\n"
                 "3161 see 0-7 @2 -> wait\n"
                 "3161 see 8-9 @2 -> wait\n"
                 "3162 see 10n @2 -> read on\n"
                 "3163 see 11n-14n @2 -> read on\n"},
    {"an unclean election, and the log is longer than the old one by then",
        TEN_READ "30 see 13n @2 -> ask 5\n"
                 "31 see 5-7 @2 -> wait\n"
                 "32 see 8n @2 -> ask end\n"
                 "33 see 30n @2 -> gap, read on\n"
                 "34 see 31n @2 -> read on\n"},
    {"an unclean election; while it is doubted the log grows beyond the position",
        TEN_READ "30 refused @2 -> wait\n"
                 "130 tick -> ask 5\n"
                 "131 refused @2 -> ask 13\n"
                 "140 see 13n @2 -> ask 5\n"
                 "141 see 5n @2 -> ask end\n"
                 "142 end 20 @2 -> gap, ask 12\n"
                 "143 see 12n-19n @2 -> wait\n"
                 "144 see 20n @2 -> read on\n"},
    {"retention has removed what was not read", TEN_READ "30 refused @1 -> wait\n"
                                                         "130 tick -> ask 5\n"
                                                         "131 refused @1 -> ask 13\n"
                                                         "132 refused @1 -> wait\n"
                                                         "232 tick -> ask end\n"
                                                         "233 end 40 @1 -> ask 5\n"
                                                         "234 refused @1 -> ask 13\n"
                                                         "235 refused @1 -> ask end\n"
                                                         "236 see 41 @1 -> gap, read on\n"},
    {"retention has removed just what was read", TEN_READ "30 doubt -> ask 5\n"
                                                          "31 refused @1 -> ask 13\n"
                                                          "32 end 13 @1 -> ask 5\n"
                                                          "33 refused @1 -> ask 13\n"
                                                          "34 end 13 @1 -> read on\n"
                                                          "35 see 13 @1 -> read on\n"},
    {"retention has removed a part of what is looked for", TEN_READ "30 doubt -> ask 5\n"
                                                                    "31 refused @1 -> ask 13\n"
                                                                    "32 see 13 @1 -> ask 5\n"
                                                                    "33 refused @1 -> ask 13\n"
                                                                    "34 see 13-14 @1 -> read on\n"},
    {"deleted, reported missing for four seconds, created again and shorter",
        TEN_READ "30 missing -> ask 5\n"
                 "1000 missing -> wait\n"
                 "4000 missing -> wait\n"
                 "4100 there -> ask 5\n"
                 "4101 refused @1 -> ask end\n"
                 "4102 end 2 @1 -> gap, ask 0\n"
                 "4103 see 0n-1n @1 -> wait\n"
                 "4104 see 2n @1 -> read on\n"},
    {"deleted, reported missing for four seconds, created again and longer",
        TEN_READ "30 missing -> ask 5\n"
                 "4100 there -> ask 5\n"
                 "4101 see 5n @1 -> ask end\n"
                 "4102 see 60n @1 -> gap, read on\n"},
    {"reported missing in error, for a moment and for long", TEN_READ "30 missing -> ask 5\n"
                                                                      "31 see 5-12 @1 -> wait\n"
                                                                      "32 end 13 @1 -> read on\n"
                                                                      "1000 missing -> ask 5\n"
                                                                      "1500 there -> wait\n"
                                                                      "1501 see 5-12 @1 -> wait\n"
                                                                      "1502 see 13 @1 -> read on\n"
                                                                      "2000 missing -> ask 6\n"
                                                                      "6000 there -> ask 6\n"
                                                                      "6001 see 6-13 @1 -> wait\n"
                                                                      "6002 see 14 @1 -> read on\n"},
    {"an empty topic is deleted and created again", "0 start -> ask end\n"
                                                    "5 end 0 @1 -> read on\n"
                                                    "10 missing -> ask 0\n"
                                                    "900 there -> wait\n"
                                                    "901 see 0n @1 -> ask end\n"
                                                    "902 end 3 @1 -> gap, ask 0\n"
                                                    "903 see 0n-2n @1 -> wait\n"
                                                    "904 see 3n @1 -> read on\n"},
    {"nothing is known of the log, it is reported missing for a moment: it may be another one",
        "0 start -> ask end\n"
        "5 end 20 @1 -> ask 12\n"
        "6 refused @1 -> ask 20\n"
        "7 end 20 @1 -> read on\n"
        "10 missing -> ask 12\n"
        "500 there -> wait\n"
        "501 see 12-19 @1 -> wait\n"
        "502 see 20 @1 -> ask end\n"
        "503 see 30 @1 -> gap, read on\n"},
    {"created again with another id: whatever its log looks like", TEN_READ "30 recreated -> ask end\n"
                                                                            "31 end 8 @1 -> gap, ask 0\n"
                                                                            "32 see 0n-7n @1 -> wait\n"
                                                                            "33 see 8n-13n @1 -> read on\n"},
    {"epochs: a new leader", TEN_READ "30 see 13 @2 e4 -> ask 5\n"
                                      "31 see 5-12 @2 e3 -> wait\n"
                                      "32 see 13 @2 e4 -> read on\n"
                                      "33 see 14 @2 e5 -> ask 6\n"
                                      "34 see 6-12 @2 e3 -> wait\n"
                                      "34 see 13 @2 e4 -> wait\n"
                                      "35 see 14 @2 e5 -> read on\n"},
    {"epochs: one that falls is another log", "0 start -> ask end\n"
                                              "1 see 50 @1 e7 -> read on\n"
                                              "2 see 51n @1 e0 -> ask 43\n"
                                              "3 see 43n-49n @1 e0 -> wait\n"
                                              "4 see 50 @1 e0 -> wait\n"
                                              "5 see 51n @1 e0 -> ask end\n"
                                              "6 see 70n @1 e0 -> gap, read on\n"},
    {"holes: one may be a transaction's marker, as long as nothing is known",
        TEN_READ "30 see 14 @1 -> read on\n"
                 "31 see 17 @1 -> ask end\n"
                 "32 end 30 @1 -> gap, ask 22\n"},
    {"holes: an aborted transaction in a topic without compaction", TEN_READ "30 holes none -> wait\n"
                                                                             "31 see 20 @1 -> read on\n"},
    {"holes: compaction removed what was not read", TEN_READ "30 holes compacted -> wait\n"
                                                             "31 see 14 @1 -> ask end\n"
                                                             "32 see 18 @1 -> gap, read on\n"},
    {"holes: compaction removed what was read", TEN_READ "30 holes compacted -> wait\n"
                                                         "31 doubt -> ask 5\n"
                                                         "32 see 7 @1 -> wait\n"
                                                         "33 see 13 @1 -> read on\n"},
    {"known messages are gone from a log without compaction: it is another one",
        TEN_READ "30 doubt -> ask 5\n"
                 "31 see 5-9 @1 -> wait\n"
                 "32 see 13 @1 -> ask end\n"},
    {"a stale leader for longer than a doubt lasts: the clients fetch again, nothing comes twice",
        TEN_READ "30 refused @1 -> wait\n"
                 "130 tick -> ask 5\n"
                 "131 refused @1 -> ask 13\n"
                 "1000 refused @1 -> wait\n"
                 "1100 tick -> ask end\n"
                 "1101 end 4 @1 -> wait\n"
                 "1201 tick -> ask 5\n"
                 "1900 refused @1 -> ask 13\n"
                 "2500 refused @1 -> wait\n"
                 "2600 tick -> ask end\n"
                 "2601 end 4 @1 -> wait\n"
                 "2701 tick -> ask 5\n"
                 "3000 refused @1 -> ask 13\n"
                 "3100 refused @1 -> ask end\n"
                 "3101 end 4 @1 -> gap, ask 0\n"
                 "3102 see 0-3 @1 -> wait\n"
                 "3103 end 4 @1 -> read on\n"
                 "3200 see 4 @2 -> ask 0\n"
                 "3201 see 0-3 @2 -> wait\n"
                 "3202 see 4-12 @2 -> wait\n"
                 "3203 see 13-20 @2 -> read on\n"},
    {"refusals far apart do not add up", TEN_READ "30 refused @1 -> wait\n"
                                                  "130 tick -> ask 5\n"
                                                  "131 refused @1 -> ask 13\n"
                                                  "9000 refused @1 -> wait\n"
                                                  "9100 tick -> ask end\n"
                                                  "9101 end 4 @1 -> wait\n"
                                                  "9201 tick -> ask 5\n"
                                                  "9202 see 5-12 @2 -> wait\n"
                                                  "9203 end 13 @2 -> read on\n"},
    {"new events do not put off the next question", TEN_READ "30 refused @2 -> wait\n"
                                                             "130 tick -> ask 5\n"
                                                             "131 refused @2 -> ask 13\n"
                                                             "132 refused @2 -> wait\n"
                                                             "232 tick -> ask end\n"
                                                             "240 end 4 @2 -> wait\n"
                                                             "290 see 4n @2 -> wait\n"
                                                             "330 see 5n @2 -> wait\n"
                                                             "340 tick -> ask 5\n"
                                                             "341 see 5n @2 -> ask end\n"},
    {"partitions that were added are read from their end, with a gap", "0 start gap -> ask end\n"
                                                                       "5 end 0 @1 -> gap, read on\n"
                                                                       "6 see 0 @1 -> read on\n"},
};

/* ---- one line ---- */

struct reading {
    struct kafka_identity *identity;
    const char *history;
    const char *line;
};

static uint64_t mark_of(int64_t offset, char kind)
{
    return kafka_mark_make(offset * 1000 + kind, NULL, 0);
}

static void describe(const struct kafka_decision *decision, char *out, size_t size)
{
    if (decision->step == KAFKA_ASK && decision->offset != KAFKA_IDENTITY_END)
        snprintf(out, size, "ask %ld", (long)decision->offset);
    else
        snprintf(out, size, "%s",
            decision->step == KAFKA_READ_ON ? "read on"
            : decision->step == KAFKA_WAIT  ? "wait"
            : decision->step == KAFKA_ASK   ? "ask end"
                                            : "gap");
}

static void expect(const struct reading *reading, const char *got, const char *wanted)
{
    if (strcmp(got, wanted) != 0)
        fail_msg("%s: line '%.60s': got '%s'", reading->history, reading->line, got);
}

static void offer(
    const struct reading *reading, const struct kafka_seen *seen, uint64_t now, const char *wanted)
{
    char got[64];
    char more[64];
    struct kafka_decision decision = kafka_identity_see(reading->identity, seen, now);
    describe(&decision, got, sizeof got);
    if (decision.step == KAFKA_GAP) {
        assert_non_null(decision.why);
        decision = kafka_identity_see(reading->identity, seen, now);
        describe(&decision, more, sizeof more - strlen(got) - 2);
        strcat(strcat(got, ", "), more);
    }
    expect(reading, got, wanted);
    if (decision.step == KAFKA_READ_ON && seen->mark != KAFKA_MARK_NONE)
        kafka_identity_taken(reading->identity, seen);
}

static void offer_messages(const struct reading *reading, const char *text, uint64_t now, const char *wanted)
{
    char *end;
    long first = strtol(text, &end, 10);
    char kind = isalpha((unsigned char)*end) ? *end++ : 'k';
    long last = *end == '-' ? strtol(end + 1, &end, 10) : first;
    end += isalpha((unsigned char)*end) ? 1 : 0;
    struct kafka_seen seen = {.epoch = KAFKA_UNKNOWN};
    seen.broker = (int32_t)strtol(strchr(end, '@') + 1, &end, 10);
    if (end[0] == ' ' && end[1] == 'e')
        seen.epoch = (int32_t)strtol(end + 2, NULL, 10);
    for (long offset = first; offset <= last; offset++) {
        seen.offset = offset;
        seen.mark = mark_of(offset, kind);
        offer(reading, &seen, now, wanted);
    }
}

static struct kafka_decision report(struct kafka_identity *identity, const char *what, uint64_t now)
{
    const char *broker = strchr(what, '@');
    if (strcmp(what, "start") == 0)
        return kafka_identity_start(identity, NULL, now);
    if (strcmp(what, "start gap") == 0)
        return kafka_identity_start(identity, "partitions were added", now);
    if (strncmp(what, "refused", 7) == 0)
        return kafka_identity_refused(identity, (int32_t)strtol(broker + 1, NULL, 10), now);
    if (strcmp(what, "doubt") == 0)
        return kafka_identity_doubt(identity, now);
    if (strcmp(what, "missing") == 0)
        return kafka_identity_missing(identity, now);
    if (strcmp(what, "there") == 0)
        return kafka_identity_there(identity, now);
    if (strcmp(what, "recreated") == 0)
        return kafka_identity_recreated(identity, now);
    if (strncmp(what, "holes ", 6) == 0)
        kafka_identity_set_holes(identity, what[6] == 'n'   ? KAFKA_HOLES_TRANSACTIONS
                                           : what[6] == 'c' ? KAFKA_HOLES_COMPACTED
                                                            : KAFKA_HOLES_UNKNOWN);
    else
        assert_string_equal(what, "tick");
    return kafka_identity_tick(identity, now);
}

static void run_line(struct reading *reading, char *line)
{
    char got[64];
    char *what;
    reading->line = line;
    uint64_t now = (1000 + strtoull(line, &what, 10)) * MS;
    char *wanted = strstr(++what, " -> ");
    assert_non_null(wanted);
    *wanted = '\0';
    wanted += 4;
    if (strncmp(what, "see ", 4) == 0) {
        offer_messages(reading, what + 4, now, wanted);
    } else if (strncmp(what, "end ", 4) == 0) {
        struct kafka_seen seen = {.offset = strtol(what + 4, &what, 10),
            .broker = (int32_t)strtol(strchr(what, '@') + 1, NULL, 10),
            .epoch = KAFKA_UNKNOWN};
        offer(reading, &seen, now, wanted);
    } else {
        struct kafka_decision decision = report(reading->identity, what, now);
        describe(&decision, got, sizeof got);
        expect(reading, got, wanted);
    }
}

static void test_histories(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof histories / sizeof *histories; i++) {
        struct reading reading = {.identity = kafka_identity_make(), .history = histories[i].name};
        char *lines = strdup(histories[i].lines);
        char *rest = lines;
        char *line;
        while ((line = strsep(&rest, "\n")))
            if (*line)
                run_line(&reading, line);
        free(lines);
        kafka_identity_free(reading.identity);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_histories)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
