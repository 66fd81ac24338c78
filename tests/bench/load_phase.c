#include "tests/bench/load_phase.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/bench/load_loop.h"

#define WARM_EVENTS_MAX 20U

bool phase_parse(const char *text, struct phase *phase)
{
    char *end;
    memset(phase, 0, sizeof *phase);
    snprintf(phase->name, sizeof phase->name, "%s", text);
    const char *colon = strchr(text, ':');
    if (colon == NULL) {
        return false;
    }
    const size_t length = (size_t)(colon - text);
    phase->parameter = strtod(colon + 1, &end);
    if (length == 4 && memcmp(text, "idle", 4) == 0) {
        phase->mode = PHASE_IDLE;
        return *end == '\0';
    }
    if ((length == 8 && memcmp(text, "lockstep", 8) == 0) ||
        (length == 6 && memcmp(text, "listen", 6) == 0)) {
        phase->mode = length == 8 ? PHASE_BURST : PHASE_LISTEN;
        phase->events = (uint64_t)phase->parameter;
        phase->parameter = 1;
        return *end == '\0' && phase->events > 0;
    }
    phase->mode = length == 5 ? PHASE_BURST : PHASE_RATE;
    if ((length != 5 || memcmp(text, "burst", 5) != 0) && (length != 4 || memcmp(text, "rate", 4) != 0)) {
        return false;
    }
    phase->events = *end == ':' ? strtoull(end + 1, &end, 10) : 0;
    return *end == '\0' && phase->parameter > 0 && phase->events > 0;
}

void phase_settle(struct phase_bench *bench)
{
    uint64_t used = process_group_read(&bench->servers, 0).cpu_ns;
    for (unsigned quiet = 0, round = 0; quiet < 2 && round < 40; round++) {
        for (const uint64_t end = load_now() + 50000000U; load_now() < end;) {
            loop_turn(bench->loop, 10);
        }
        const uint64_t now = process_group_read(&bench->servers, 0).cpu_ns;
        quiet = now - used < 1000000U ? quiet + 1 : 0;
        used = now;
    }
}

static void publish_next(struct phase_bench *bench)
{
    swarm_expect(bench->swarm, bench->sequence);
    publish_event(bench->publish, bench->sequence);
    bench->sequence++;
}

/* Publishes what is due; returns the milliseconds until the next is. */
static int publish_due(struct phase_bench *bench, const struct phase *phase, uint64_t start, uint64_t done)
{
    if (phase->mode == PHASE_RATE) {
        const double passed = (double)(load_now() - start) * 1e-9;
        while (done < phase->events && (double)done <= passed * phase->parameter) {
            publish_next(bench);
            done++;
        }
        const double wait = ceil(((double)done / phase->parameter - passed) * 1000);
        return done == phase->events || wait > 100 ? 100 : wait < 1 ? 1 : (int)wait;
    }
    while (done < phase->events && (double)swarm_events_open(bench->swarm) < phase->parameter) {
        publish_next(bench);
        done++;
    }
    return 100;
}

/* False when nothing came for too long. Returns in *end the time of the last delivery. */
static bool phase_publish(struct phase_bench *bench, const struct phase *phase, uint64_t *end)
{
    const uint64_t start = load_now();
    const uint64_t first = bench->sequence;
    const uint64_t stall = (uint64_t)(bench->stall * 1e9);
    uint64_t deliveries = swarm_tally(bench->swarm)->deliveries;
    *end = start;
    if (phase->mode == PHASE_LISTEN) {
        for (uint64_t i = 0; i < phase->events; i++) {
            swarm_expect(bench->swarm, bench->sequence++);
        }
    }
    for (;;) {
        const bool published = bench->sequence - first >= phase->events;
        const int wait = published ? 100 : publish_due(bench, phase, start, bench->sequence - first);
        if (published && swarm_events_open(bench->swarm) == 0) {
            return true;
        }
        loop_turn(bench->loop, wait);
        if (swarm_tally(bench->swarm)->deliveries != deliveries) {
            deliveries = swarm_tally(bench->swarm)->deliveries;
            *end = load_now();
        } else if (load_now() - *end > stall) {
            return false;
        }
    }
}

static double microseconds(uint64_t nanoseconds)
{
    return (double)nanoseconds / 1000;
}

static void print_latency(FILE *out, const char *name, const struct histogram *histogram)
{
    fprintf(out,
        ", \"%s\": {\"count\": %llu, \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}",
        name, (unsigned long long)histogram->total, microseconds(histogram_percentile(histogram, 0.5)),
        microseconds(histogram_percentile(histogram, 0.9)),
        microseconds(histogram_percentile(histogram, 0.99)), microseconds(histogram->max));
}

static void print_phase(const struct phase_bench *bench, const struct phase *phase, bool whole,
    double seconds, uint64_t servers_ns, uint64_t own_ns, FILE *out)
{
    const struct swarm_tally *tally = swarm_tally(bench->swarm);
    const double deliveries = tally->deliveries == 0 ? 1 : (double)tally->deliveries;
    fprintf(out,
        "{\"phase\": \"%s\", \"whole\": %s, \"seconds\": %.6f, \"events\": %llu, \"deliveries\": %llu, "
        "\"deliveries_per_s\": %.0f, \"bytes_per_delivery\": %.1f, \"deliveries_per_read\": %.2f, "
        "\"servers_cpu_us_per_delivery\": %.4f, \"servers_cpu_s\": %.6f, \"own_cpu_us_per_delivery\": %.4f, "
        "\"lost\": %llu, \"repeated\": %llu, \"misplaced\": %llu, \"closed\": %llu, \"missing\": %llu",
        phase->name, whole ? "true" : "false", seconds, (unsigned long long)tally->completed,
        (unsigned long long)tally->deliveries, (double)tally->deliveries / seconds,
        (double)tally->bytes / deliveries, deliveries / (double)(tally->reads == 0 ? 1 : tally->reads),
        microseconds(servers_ns) / deliveries, (double)servers_ns * 1e-9, microseconds(own_ns) / deliveries,
        (unsigned long long)tally->lost, (unsigned long long)tally->repeated,
        (unsigned long long)tally->misplaced, (unsigned long long)tally->closed,
        (unsigned long long)swarm_deliveries_open(bench->swarm));
    print_latency(out, "each", &tally->each);
    print_latency(out, "last", &tally->last);
    print_latency(out, "arrival", &tally->arrival);
    if (bench->publish != NULL) {
        const struct publish_tally *published = publish_tally(bench->publish);
        fprintf(out, ", \"accepted\": %llu, \"refused\": %llu", (unsigned long long)published->accepted,
            (unsigned long long)published->refused);
        print_latency(out, "answer", &published->answer);
    }
    fputc('}', out);
}

static bool phase_idle(struct phase_bench *bench, const struct phase *phase, FILE *out)
{
    const struct process_usage before = process_group_read(&bench->servers, 0);
    swarm_reset(bench->swarm);
    for (const uint64_t end = load_now() + (uint64_t)(phase->parameter * 1e9); load_now() < end;) {
        loop_turn(bench->loop, 10);
    }
    const struct process_usage after = process_group_read(&bench->servers, 1);
    fprintf(out,
        "{\"phase\": \"%s\", \"servers_cpu_part\": %.5f, \"servers_pss_bytes\": %llu, \"closed\": %llu}",
        phase->name, (double)(after.cpu_ns - before.cpu_ns) * 1e-9 / phase->parameter,
        (unsigned long long)after.pss_bytes, (unsigned long long)swarm_tally(bench->swarm)->closed);
    return swarm_tally(bench->swarm)->closed == 0;
}

bool phase_run(struct phase_bench *bench, const struct phase *phase, FILE *out)
{
    uint64_t end;
    if (phase->mode == PHASE_IDLE) {
        return phase_idle(bench, phase, out);
    }
    swarm_stamp(bench->swarm, phase->mode == PHASE_RATE);
    if (phase->mode != PHASE_LISTEN) {
        struct phase warm = *phase;
        warm.events = phase->events / 10 < WARM_EVENTS_MAX ? phase->events / 10 : WARM_EVENTS_MAX;
        phase_publish(bench, &warm, &end);
        phase_settle(bench);
    }
    swarm_reset(bench->swarm);
    if (bench->publish != NULL) {
        publish_reset(bench->publish);
    }
    const uint64_t servers_before = process_group_read(&bench->servers, 0).cpu_ns;
    const uint64_t own_before = process_own_cpu();
    const uint64_t start = load_now();
    const bool done = phase_publish(bench, phase, &end);
    const double seconds = (double)(end - start) * 1e-9;
    const uint64_t own = process_own_cpu() - own_before;
    phase_settle(bench);
    const uint64_t servers = process_group_read(&bench->servers, 0).cpu_ns - servers_before;
    const struct swarm_tally *tally = swarm_tally(bench->swarm);
    const bool whole = done && tally->lost + tally->repeated + tally->misplaced + tally->closed == 0 &&
                       (bench->publish == NULL || publish_tally(bench->publish)->refused == 0);
    print_phase(bench, phase, whole, seconds > 0 ? seconds : 1e-9, servers, own, out);
    return whole;
}
