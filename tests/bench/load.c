/*
 * The load generator: opens many websocket clients on a server that speaks OPAL's RPC, publishes events
 * and measures what the clients get and what the server's processes spend on it. One thread and one epoll:
 * it shares the machine with the server, so the figure that counts is the CPU time of the server's
 * processes, not the rate. Prints one JSON object.
 */
#include <arpa/inet.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "tests/bench/load_loop.h"
#include "tests/bench/load_phase.h"

#define PHASES_MAX 16

static const char help[] =
    "load --port P [options] PHASE...\n"
    "  PHASE: lockstep:EVENTS | burst:IN_FLIGHT:EVENTS | rate:PER_SECOND:EVENTS | listen:EVENTS | "
    "idle:SECONDS\n"
    "         batch:K:EVENTS | drain:EVENTS (with --pause)\n"
    "  --host A            numeric address of the server (127.0.0.1; there the clients spread over "
    "127.0.0.x)\n"
    "  --clients N         websockets (100)\n"
    "  --topics T          topics that each subscribes, one of them live (1)\n"
    "  --own-topics        the topics beside the live one are different for each client\n"
    "  --groups G          spread the clients over G live topics; an event goes to one (1)\n"
    "  --topic NAME        the live topic (policy_data)\n"
    "  --payload BYTES     of the event's data (200)\n"
    "  --publish WAY       ws | http | bare | kafka | nats | nchan | none (ws); --publish-port P: not the "
    "clients'\n"
    "  --dialect NAME      opal | nats | nchan (opal); the latter two have no answers to notifies\n"
    "  --slow N            the last N clients read --slow-rate bytes a second each (65536), unchecked\n"
    "  --elsewhere N       the last N clients subscribe only topics that no event is for\n"
    "  --pause PID         the process that drain stops and lets go on (batch chooses one)\n"
    "  --hold              batch: keep the answers to notifies until all have all\n"
    "  --kill PID          kill -9 this process just before the clients come\n"
    "  --hook PROGRAM      run around a measured stretch as PROGRAM start|end PAUSED-PID SERVER-PID\n"
    "  --watch-memory      the servers' memory while a phase runs, five times a second\n"
    "  --no-reply          do not answer notifies\n"
    "  --reply-each        one write(2) for each answer instead of one for those of one read(2)\n"
    "  --window K          connections being opened at once (256); --connect-rate R: opened a second (no "
    "limit)\n"
    "  --pid P             a server process, measured with its descendants; may be repeated\n"
    "  --token JWT         bearer token\n"
    "  --stall SECONDS     give up a phase that brings nothing for so long (10)\n"
    "  --bare-workers N    workers of the bare baseline (2)\n"
    "  --brokers LIST --kafka-topic NAME   for --publish kafka (EventNotifier)\n";

struct load {
    struct swarm_settings swarm;
    struct publish_settings publish;
    bool publishes;
    /* 0: the clients' */
    unsigned publish_port;
    pid_t killed;
    bool batches;
    struct phase_bench bench;
    struct phase phases[PHASES_MAX];
    unsigned phase_count;
};

static unsigned number(const char *text, const char *name)
{
    char *end;
    const unsigned long value = strtoul(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value > UINT32_MAX / 2) {
        fprintf(stderr, "load: --%s %s: not a number\n", name, text);
        exit(2);
    }
    return (unsigned)value;
}

static void take_way(struct load *load, const char *text)
{
    static const char *const ways[] = {"ws", "http", "bare", "kafka", "nats", "nchan"};
    load->publishes = strcmp(text, "none") != 0;
    for (unsigned i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        if (strcmp(text, ways[i]) == 0) {
            load->publish.way = (enum publish_way)i;
            return;
        }
    }
    if (load->publishes) {
        fprintf(stderr, "load: --publish %s: not one of ws, http, bare, kafka, nats, nchan, none\n", text);
        exit(2);
    }
}

static void take_dialect(struct load *load, const char *text)
{
    static const char *const names[] = {"opal", "nats", "nchan"};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i], text) == 0) {
            load->swarm.dialect = (enum swarm_dialect)i;
            load->swarm.reply = load->swarm.reply && i == 0;
            return;
        }
    }
    fprintf(stderr, "load: --dialect %s: not one of opal, nats, nchan\n", text);
    exit(2);
}

static void take_option(struct load *load, const char *name, const char *value)
{
    struct process_group *servers = &load->bench.servers;
    if (strcmp(name, "port") == 0) {
        load->swarm.server.sin_port = htons((uint16_t)number(value, name));
    } else if (strcmp(name, "host") == 0) {
        if (inet_pton(AF_INET, value, &load->swarm.server.sin_addr) != 1) {
            fprintf(stderr, "load: --host %s: not a numeric address\n", value);
            exit(2);
        }
    } else if (strcmp(name, "clients") == 0) {
        load->swarm.clients = number(value, name);
    } else if (strcmp(name, "topics") == 0) {
        load->swarm.topics = number(value, name);
    } else if (strcmp(name, "groups") == 0) {
        load->swarm.groups = number(value, name);
    } else if (strcmp(name, "topic") == 0) {
        load->swarm.topic = value;
    } else if (strcmp(name, "payload") == 0) {
        load->publish.payload = number(value, name);
    } else if (strcmp(name, "publish") == 0) {
        take_way(load, value);
    } else if (strcmp(name, "no-reply") == 0) {
        load->swarm.reply = false;
    } else if (strcmp(name, "own-topics") == 0) {
        load->swarm.own_topics = true;
    } else if (strcmp(name, "reply-each") == 0) {
        load->swarm.reply_each = true;
    } else if (strcmp(name, "window") == 0) {
        load->swarm.window = number(value, name);
    } else if (strcmp(name, "connect-rate") == 0) {
        load->swarm.rate = strtod(value, NULL);
    } else if (strcmp(name, "pid") == 0 && servers->root_count < PROCESS_ROOTS_MAX) {
        servers->roots[servers->root_count++] = (pid_t)number(value, name);
    } else if (strcmp(name, "token") == 0) {
        load->swarm.token = load->publish.token = value;
    } else if (strcmp(name, "stall") == 0) {
        load->bench.stall = strtod(value, NULL);
    } else if (strcmp(name, "bare-workers") == 0) {
        load->publish.bare_workers = number(value, name);
    } else if (strcmp(name, "brokers") == 0) {
        load->publish.brokers = value;
    } else if (strcmp(name, "kafka-topic") == 0) {
        load->publish.kafka_topic = value;
    } else if (strcmp(name, "publish-port") == 0) {
        load->publish_port = number(value, name);
    } else if (strcmp(name, "dialect") == 0) {
        take_dialect(load, value);
    } else if (strcmp(name, "slow") == 0) {
        load->swarm.slow = load->bench.slow_clients = number(value, name);
    } else if (strcmp(name, "slow-rate") == 0) {
        load->swarm.slow_rate = strtod(value, NULL);
    } else if (strcmp(name, "elsewhere") == 0) {
        load->swarm.elsewhere = number(value, name);
    } else if (strcmp(name, "pause") == 0) {
        load->bench.paused = (pid_t)number(value, name);
    } else if (strcmp(name, "hook") == 0) {
        load->bench.hook = value;
    } else if (strcmp(name, "hold") == 0) {
        load->swarm.hold = true;
    } else if (strcmp(name, "kill") == 0) {
        load->killed = (pid_t)number(value, name);
    } else if (strcmp(name, "watch-memory") == 0) {
        load->bench.watch_memory = true;
    }
}

static void take_arguments(struct load *load, int argc, char **argv)
{
    static const char *const flags[] = {
        "no-reply", "own-topics", "reply-each", "hold", "watch-memory", "help"};
    static const char *const valued[] = {"port", "host", "clients", "topics", "groups", "topic", "payload",
        "publish", "window", "connect-rate", "pid", "token", "stall", "bare-workers", "brokers",
        "kafka-topic", "publish-port", "dialect", "slow", "slow-rate", "pause", "kill", "hook", "elsewhere"};
    struct option options[40] = {{NULL, 0, NULL, 0}};
    unsigned count = 0;
    int index = 0;
    for (unsigned i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        options[count++] = (struct option){flags[i], no_argument, NULL, 0};
    }
    for (unsigned i = 0; i < sizeof valued / sizeof valued[0]; i++) {
        options[count++] = (struct option){valued[i], required_argument, NULL, 0};
    }
    for (int got; (got = getopt_long(argc, argv, "", options, &index)) != -1;) {
        if (got != 0 || strcmp(options[index].name, "help") == 0) {
            fputs(help, got == 0 ? stdout : stderr);
            exit(got == 0 ? 0 : 2);
        }
        take_option(load, options[index].name, optarg);
    }
    for (; optind < argc; optind++) {
        if (load->phase_count == PHASES_MAX ||
            !phase_parse(argv[optind], &load->phases[load->phase_count++])) {
            fprintf(stderr, "load: %s: not a phase\n", argv[optind]);
            exit(2);
        }
    }
    if (load->swarm.server.sin_port == 0 || load->swarm.topics == 0 || load->swarm.groups == 0 ||
        load->publish.payload < PUBLISH_PAYLOAD_MIN || load->swarm.slow > load->swarm.clients ||
        load->swarm.elsewhere > load->swarm.clients ||
        (load->publishes && load->publish.way == PUBLISH_KAFKA && load->publish.brokers == NULL)) {
        fputs(help, stderr);
        exit(2);
    }
    for (unsigned i = 0; i < load->phase_count; i++) {
        const enum phase_mode mode = load->phases[i].mode;
        load->batches = load->batches || mode == PHASE_BATCH;
        if ((mode == PHASE_DRAIN && load->bench.paused == 0) ||
            ((mode == PHASE_DRAIN || mode == PHASE_BATCH) && !load->publishes)) {
            fprintf(stderr, "load: %s needs a way to publish, drain also --pause\n", load->phases[i].name);
            exit(2);
        }
    }
}

/* Reads the servers' sockets once they have `count` more than before. */
static struct process_usage wait_sockets(
    struct phase_bench *bench, const struct process_usage *before, unsigned count)
{
    struct process_usage now = {0};
    for (unsigned tries = 0; tries < 50; tries++) {
        phase_settle(bench);
        now = process_group_read(&bench->servers, 1);
        if (process_sockets_got(before, &now, 0) == count) {
            return now;
        }
    }
    fprintf(stderr, "load: the servers have %u more sockets, not %u\n", process_sockets_got(before, &now, 0),
        count);
    exit(1);
}

/* Opens the publisher, then the clients; the process to stop is one of those with clients and without the
 * publisher. */
static bool open_clients(struct load *load, FILE *out);
static bool open_for_batch(struct load *load, FILE *out)
{
    struct phase_bench *bench = &load->bench;
    phase_settle(bench);
    const struct process_usage first = process_group_read(&bench->servers, 1);
    bench->publish = publish_open(bench->loop, &load->publish);
    const struct process_usage second = wait_sockets(bench, &first, 1);
    const bool good = open_clients(load, out);
    const struct process_usage third = wait_sockets(bench, &second, load->swarm.clients);
    for (unsigned i = 0; i < third.processes; i++) {
        const unsigned got = process_sockets_got(&second, &third, third.pids[i]);
        if (got > bench->paused_clients && process_sockets_got(&first, &second, third.pids[i]) == 0) {
            bench->paused = third.pids[i];
            bench->paused_clients = got;
        }
    }
    return good && bench->paused != 0;
}

/* Opens the clients and prints what they cost. False when not all could subscribe. */
static bool open_clients(struct load *load, FILE *out)
{
    struct phase_bench *bench = &load->bench;
    const unsigned clients = load->swarm.clients;
    const struct process_usage before = process_group_read(&bench->servers, 1);
    const uint64_t start = load_now();
    uint64_t progress = start;
    unsigned known = 0;
    bench->swarm = swarm_create(bench->loop, &load->swarm);
    if (load->killed != 0) {
        kill(load->killed, SIGKILL);
    }
    while (swarm_ready(bench->swarm) + swarm_failed(bench->swarm) + swarm_tally(bench->swarm)->closed <
               clients &&
           (double)(load_now() - progress) < bench->stall * 1e9) {
        swarm_open_more(bench->swarm);
        loop_turn(bench->loop, load->swarm.rate > 0 ? 1 : 100);
        if (swarm_ready(bench->swarm) != known) {
            known = swarm_ready(bench->swarm);
            progress = load_now();
        }
    }
    const double seconds = (double)(progress - start) * 1e-9;
    phase_settle(bench);
    const struct process_usage after = process_group_read(&bench->servers, 1);
    const double divisor = clients == 0 ? 1 : (double)clients;
    fprintf(out,
        "{\"clients\": %u, \"topics\": %u, \"groups\": %u, \"payload\": %zu, \"replies\": %s, \"connect\": "
        "{\"ready\": %u, "
        "\"failed\": %u, \"seconds\": %.6f, \"servers_cpu_us_per_client\": %.2f, "
        "\"servers_pss_bytes_per_client\": %.1f, "
        "\"servers_pss_bytes_before\": %llu, \"servers_processes\": %u, \"fullest_process\": %u}",
        clients, load->swarm.topics, load->swarm.groups, load->publish.payload,
        load->swarm.reply ? "true" : "false", swarm_ready(bench->swarm), swarm_failed(bench->swarm), seconds,
        (double)(after.cpu_ns - before.cpu_ns) / 1000 / divisor,
        ((double)after.pss_bytes - (double)before.pss_bytes) / divisor, (unsigned long long)before.pss_bytes,
        after.processes, process_sockets_gained(&before, &after));
    return swarm_ready(bench->swarm) == clients;
}

int main(int argc, char **argv)
{
    static struct load load = {
        .swarm = {.server.sin_family = AF_INET,
            .clients = 100,
            .topics = 1,
            .groups = 1,
            .topic = "policy_data",
            .window = 256,
            .slow_rate = 65536,
            .reply = true},
        .publish = {.payload = 200, .bare_workers = 2, .kafka_topic = "EventNotifier"},
        .publishes = true,
        .bench.stall = 10,
    };
    load.swarm.server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    take_arguments(&load, argc, argv);
    struct rlimit descriptors = {load.swarm.clients + 256U, load.swarm.clients + 256U};
    struct rlimit now;
    if (getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur < descriptors.rlim_cur) {
        descriptors.rlim_max = now.rlim_max > descriptors.rlim_max ? now.rlim_max : descriptors.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &descriptors) != 0) {
            load_fail("load: not enough descriptors (ulimit -n)");
        }
    }
    signal(SIGPIPE, SIG_IGN);
    load.bench.loop = loop_open();
    load.publish.server = load.swarm.server;
    load.publish.topic = load.swarm.topic;
    load.publish.groups = load.swarm.groups;
    if (load.publish_port != 0) {
        load.publish.server.sin_port = htons((uint16_t)load.publish_port);
    }
    bool good = load.batches ? open_for_batch(&load, stdout) : open_clients(&load, stdout);
    if (load.publishes && load.phase_count != 0 && load.bench.publish == NULL) {
        load.bench.publish = publish_open(load.bench.loop, &load.publish);
    }
    printf(", \"phases\": [");
    for (unsigned i = 0; i < load.phase_count; i++) {
        fputs(i == 0 ? "" : ", ", stdout);
        good = phase_run(&load.bench, &load.phases[i], stdout) && good;
        fflush(stdout);
    }
    printf("], \"paused\": %d, \"paused_clients\": %u, \"good\": %s}\n", (int)load.bench.paused,
        load.bench.paused_clients, good ? "true" : "false");
    return good ? 0 : 1;
}
