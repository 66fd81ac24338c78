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
        (length == 6 && memcmp(text, "listen", 6) == 0) || (length == 5 && memcmp(text, "drain", 5) == 0)) {
        phase->mode = length == 8 ? PHASE_BURST : length == 6 ? PHASE_LISTEN : PHASE_DRAIN;
        phase->events = (uint64_t)phase->parameter;
        phase->parameter = 1;
        return *end == '\0' && phase->events > 0;
    }
    phase->mode = length == 4 ? PHASE_RATE : *text == 'b' && text[1] == 'a' ? PHASE_BATCH : PHASE_BURST;
    if ((length != 5 || (memcmp(text, "burst", 5) != 0 && memcmp(text, "batch", 5) != 0)) &&
        (length != 4 || memcmp(text, "rate", 4) != 0)) {
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

#define WATCH_NS 200000000U

static void watch_memory(struct phase_bench *bench, const struct phase *phase)
{
    if (!bench->watch_memory || load_now() - bench->pss_read < WATCH_NS) {
        return;
    }
    const struct swarm_tally *tally = swarm_tally(bench->swarm);
    const uint64_t bytes = process_group_read(&bench->servers, 1).pss_bytes;
    bench->pss_read = load_now();
    bench->pss_peak = bytes > bench->pss_peak ? bytes : bench->pss_peak;
    if (tally->completed <= phase->events / 2 && bytes > bench->pss_first_half) {
        bench->pss_first_half = bytes;
    }
}

/* Events that must arrive before more are published: without clients, those that are not answered. */
static uint64_t events_in_flight(const struct phase_bench *bench)
{
    return swarm_ready(bench->swarm) == 0 && bench->publish != NULL ? publish_unanswered(bench->publish)
                                                                    : swarm_events_open(bench->swarm);
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
    while (done < phase->events && (double)events_in_flight(bench) < phase->parameter) {
        publish_next(bench);
        done++;
    }
    return 100;
}

/* Turns the loop until `count` deliveries are still open; false when nothing came for too long. */
static bool wait_deliveries(
    struct phase_bench *bench, const struct phase *phase, uint64_t count, uint64_t *end)
{
    uint64_t open = swarm_deliveries_open(bench->swarm);
    *end = load_now();
    while (open > count) {
        loop_turn(bench->loop, 100);
        watch_memory(bench, phase);
        if (swarm_deliveries_open(bench->swarm) != open) {
            open = swarm_deliveries_open(bench->swarm);
            *end = load_now();
        } else if ((double)(load_now() - *end) > bench->stall * 1e9) {
            return false;
        }
    }
    return true;
}

static bool phase_batch(struct phase_bench *bench, const struct phase *phase, uint64_t *end)
{
    const uint64_t each = (uint64_t)phase->parameter;
    bool whole = true;
    for (uint64_t done = 0; whole && done < phase->events; done += each) {
        process_pause(bench->paused);
        for (uint64_t i = 0; i < each; i++) {
            publish_next(bench);
        }
        /* once the other processes' clients have them, they wait for the paused one too */
        whole = wait_deliveries(bench, phase, each * bench->paused_clients, end);
        while (whole && publish_unanswered(bench->publish) != 0) {
            loop_turn(bench->loop, 10);
        }
        process_resume(bench->paused);
        whole = whole && wait_deliveries(bench, phase, 0, end);
        process_wait_idle(bench->paused);
        process_pause(bench->paused);
        swarm_release(bench->swarm);
        process_resume(bench->paused);
        process_wait_idle(bench->paused);
    }
    process_resume(bench->paused);
    return whole;
}

static void run_hook(const struct phase_bench *bench, const char *when)
{
    char command[512];
    if (bench->hook != NULL) {
        snprintf(command, sizeof command, "%s %s %d %d >&2", bench->hook, when, (int)bench->paused,
            (int)bench->servers.roots[0]);
        if (system(command) != 0) {
            load_fail(command);
        }
    }
}

static bool drain_fill(struct phase_bench *bench, const struct phase *phase)
{
    process_pause(bench->paused);
    for (uint64_t i = 0; i < phase->events; i++) {
        publish_next(bench);
        if (i % 1024 == 0) {
            loop_turn(bench->loop, 0);
        }
    }
    const uint64_t start = load_now();
    while (publish_unanswered(bench->publish) != 0 && load_now() - start < 120000000000U) {
        loop_turn(bench->loop, 100);
    }
    return publish_unanswered(bench->publish) == 0;
}

/* False when nothing came for too long. Returns in *end the time of the last delivery. */
static bool phase_publish(struct phase_bench *bench, const struct phase *phase, uint64_t *end)
{
    const uint64_t start = load_now();
    const uint64_t first = bench->sequence;
    const uint64_t stall = (uint64_t)(bench->stall * 1e9);
    uint64_t deliveries = swarm_tally(bench->swarm)->deliveries;
    uint64_t answered = 0;
    *end = start;
    if (phase->mode == PHASE_LISTEN) {
        for (uint64_t i = 0; i < phase->events; i++) {
            swarm_expect(bench->swarm, bench->sequence++);
        }
    }
    for (;;) {
        const bool published = bench->sequence - first >= phase->events;
        const int wait = published ? 100 : publish_due(bench, phase, start, bench->sequence - first);
        if (published && events_in_flight(bench) == 0) {
            return true;
        }
        loop_turn(bench->loop, bench->slow_clients != 0 && wait > 10 ? 10 : wait);
        swarm_slow_turn(bench->swarm);
        watch_memory(bench, phase);
        if (swarm_tally(bench->swarm)->deliveries != deliveries) {
            deliveries = swarm_tally(bench->swarm)->deliveries;
            *end = load_now();
        } else if (swarm_ready(bench->swarm) == 0 && publish_tally(bench->publish)->accepted != answered) {
            answered = publish_tally(bench->publish)->accepted;
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
    double seconds, uint64_t servers_ns, uint64_t first_ns, uint64_t own_ns, FILE *out)
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
    const double events = tally->completed == 0 ? 1 : (double)tally->completed;
    fprintf(out, ", \"first_cpu_us_per_event\": %.4f, \"last_client_share\": %.5f",
        microseconds(first_ns) / events, (double)swarm_last_most(bench->swarm) / events);
    if (bench->watch_memory) {
        fprintf(out,
            ", \"pss_start\": %llu, \"pss_first_half\": %llu, \"pss_peak\": %llu, \"slow_closed\": %llu, "
            "\"slow_bytes\": %llu",
            (unsigned long long)bench->pss_start, (unsigned long long)bench->pss_first_half,
            (unsigned long long)bench->pss_peak, (unsigned long long)tally->slow_closed,
            (unsigned long long)tally->slow_bytes);
    }
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
    run_hook(bench, "start");
    const struct process_usage before = process_group_read(&bench->servers, 0);
    swarm_reset(bench->swarm);
    for (const uint64_t end = load_now() + (uint64_t)(phase->parameter * 1e9); load_now() < end;) {
        loop_turn(bench->loop, 10);
    }
    const struct process_usage after = process_group_read(&bench->servers, 1);
    run_hook(bench, "end");
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
    if (phase->mode == PHASE_BATCH) {
        struct phase warm = *phase;
        warm.events = (uint64_t)phase->parameter * 2;
        phase_batch(bench, &warm, &end);
    } else if (phase->mode == PHASE_BURST || phase->mode == PHASE_RATE) {
        struct phase warm = *phase;
        warm.events = phase->events / 10 < WARM_EVENTS_MAX ? phase->events / 10 : WARM_EVENTS_MAX;
        phase_publish(bench, &warm, &end);
        phase_settle(bench);
    }
    swarm_reset(bench->swarm);
    if (bench->publish != NULL) {
        publish_reset(bench->publish);
    }
    bench->pss_first_half = bench->pss_peak = bench->pss_start = 0;
    if (bench->watch_memory) {
        bench->pss_peak = bench->pss_start = process_group_read(&bench->servers, 1).pss_bytes;
    }
    bool done = phase->mode != PHASE_DRAIN || drain_fill(bench, phase);
    run_hook(bench, "start");
    const struct process_usage before = process_group_read(&bench->servers, 0);
    const uint64_t own_before = process_own_cpu();
    const uint64_t start = load_now();
    if (phase->mode == PHASE_DRAIN) {
        process_resume(bench->paused);
        done = wait_deliveries(bench, phase, 0, &end) && done;
    } else {
        done =
            phase->mode == PHASE_BATCH ? phase_batch(bench, phase, &end) : phase_publish(bench, phase, &end);
    }
    run_hook(bench, "end");
    const double seconds = (double)(end - start) * 1e-9;
    const uint64_t own = process_own_cpu() - own_before;
    phase_settle(bench);
    const struct process_usage after = process_group_read(&bench->servers, 0);
    const struct swarm_tally *tally = swarm_tally(bench->swarm);
    const bool whole = done && tally->lost + tally->repeated + tally->misplaced + tally->closed == 0 &&
                       (bench->publish == NULL || publish_tally(bench->publish)->refused == 0);
    print_phase(bench, phase, whole, seconds > 0 ? seconds : 1e-9, after.cpu_ns - before.cpu_ns,
        after.first_cpu_ns - before.first_cpu_ns, own, out);
    return whole;
}
