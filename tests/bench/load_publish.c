#include "tests/bench/load_publish.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "tests/bench/bare.h"
#include "tests/bench/load_frame.h"
#include "tests/bench/load_loop.h"
#include "tests/bench/load_swarm.h"

#define BARE_WORKERS_MAX 64

struct publish {
    struct source source;
    struct publish_settings settings;
    int loop;
    int descriptor;
    int bare[BARE_WORKERS_MAX];
    struct load_kafka *kafka;
    /* the event as this way wants it, room for the payload and its envelope */
    char *text;
    size_t text_room;
    unsigned char *frame;
    /* times of the publishes that wait for an answer, a ring */
    uint64_t *sent;
    size_t sent_room;
    size_t sent_first;
    size_t sent_count;
    /* Kafka: records handed over less those answered */
    uint64_t produced;
    unsigned char input[65536];
    size_t input_length;
    struct publish_tally tally;
};

/* ---- answers ---- */

static void answer_expect(struct publish *publish, uint64_t now)
{
    if (publish->sent_count == publish->sent_room) {
        const size_t room = publish->sent_room == 0 ? 1024 : publish->sent_room * 2;
        uint64_t *grown = malloc(room * sizeof *grown);
        if (grown == NULL) {
            load_fail("malloc");
        }
        for (size_t i = 0; i < publish->sent_count; i++) {
            grown[i] = publish->sent[(publish->sent_first + i) % publish->sent_room];
        }
        free(publish->sent);
        publish->sent = grown;
        publish->sent_room = room;
        publish->sent_first = 0;
    }
    publish->sent[(publish->sent_first + publish->sent_count++) % publish->sent_room] = now;
}

static void answer_count(struct publish *publish, bool accepted)
{
    if (publish->sent_count != 0) {
        histogram_add(&publish->tally.answer, load_now() - publish->sent[publish->sent_first]);
        publish->sent_first = (publish->sent_first + 1) % publish->sent_room;
        publish->sent_count--;
    }
    publish->tally.accepted += accepted;
    publish->tally.refused += !accepted;
}

/* One HTTP response off the front of the input; 0 when it is not whole. */
static size_t http_take(struct publish *publish)
{
    const char *input = (const char *)publish->input;
    const char *end = memmem(input, publish->input_length, "\r\n\r\n", 4);
    if (end == NULL) {
        return 0;
    }
    const size_t head = (size_t)(end - input) + 4;
    size_t body = 0;
    for (const char *line = input; line < end; line = (const char *)memchr(line, '\n', head) + 1) {
        if (strncasecmp(line, "content-length:", 15) == 0) {
            body = strtoul(line + 15, NULL, 10);
        }
    }
    if (publish->input_length < head + body) {
        return 0;
    }
    answer_count(publish, strncmp(input, "HTTP/1.1 20", 11) == 0);
    return head + body;
}

static size_t websocket_take(struct publish *publish)
{
    struct frame frame;
    if (!frame_parse(publish->input, publish->input_length, &frame) ||
        publish->input_length < frame.header + frame.length) {
        return 0;
    }
    const unsigned char *payload = publish->input + frame.header;
    if (frame.opcode == FRAME_PING) {
        unsigned char pong[125 + FRAME_HEADER_MAX];
        const size_t length = frame_write(pong, FRAME_PONG, payload, frame.length < 125 ? frame.length : 125);
        if (send(publish->descriptor, pong, length, MSG_NOSIGNAL) < 0) {
            load_fail("publisher's pong");
        }
    } else if (frame.opcode == FRAME_TEXT && memmem(payload, frame.length, "\"result\":", 9) != NULL) {
        answer_count(publish, memmem(payload, frame.length, "\"result\": true", 14) != NULL);
    } else if (frame.opcode == FRAME_CLOSE) {
        fprintf(stderr, "load: the server closed the publisher's websocket\n");
    }
    return frame.header + frame.length;
}

/* NATS: lines that the server sends; of these only PING wants an answer. */
static size_t nats_take(struct publish *publish)
{
    const unsigned char *end = memchr(publish->input, '\n', publish->input_length);
    if (end == NULL) {
        return 0;
    }
    if (memcmp(publish->input, "PING", 4) == 0 &&
        send(publish->descriptor, "PONG\r\n", 6, MSG_NOSIGNAL) < 0) {
        load_fail("publisher's PONG");
    }
    publish->tally.refused += memcmp(publish->input, "-ERR", 4) == 0;
    return (size_t)(end - publish->input) + 1;
}

static bool way_is_http(enum publish_way way)
{
    return way == PUBLISH_HTTP || way == PUBLISH_NCHAN;
}

static void publish_ready(struct source *source, uint32_t events)
{
    struct publish *publish = (struct publish *)source;
    const ssize_t got = recv(publish->descriptor, publish->input + publish->input_length,
        sizeof publish->input - publish->input_length, MSG_DONTWAIT);
    (void)events;
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) {
            close(publish->descriptor);
            publish->descriptor = -1;
            publish->tally.refused += publish->sent_count;
            publish->sent_count = 0;
        }
        return;
    }
    publish->input_length += (size_t)got;
    for (;;) {
        const enum publish_way way = publish->settings.way;
        const size_t taken = way_is_http(way)      ? http_take(publish)
                             : way == PUBLISH_NATS ? nats_take(publish)
                                                   : websocket_take(publish);
        if (taken == 0) {
            break;
        }
        publish->input_length -= taken;
        memmove(publish->input, publish->input + taken, publish->input_length);
    }
}

static void kafka_answered(void *context, uint64_t sent, int accepted)
{
    struct publish *publish = context;
    publish->produced--;
    histogram_add(&publish->tally.answer, load_now() - sent);
    publish->tally.accepted += accepted != 0;
    publish->tally.refused += accepted == 0;
}

/* ---- connections ---- */

static void send_all(int descriptor, const void *bytes, size_t length)
{
    const char *at = bytes;
    while (length != 0) {
        const ssize_t sent = send(descriptor, at, length, MSG_NOSIGNAL);
        if (sent < 0) {
            load_fail("publish");
        }
        at += sent;
        length -= (size_t)sent;
    }
}

static void tcp_open(struct publish *publish)
{
    const struct publish_settings *settings = &publish->settings;
    const int yes = 1;
    publish->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (publish->descriptor < 0 || connect(publish->descriptor, (const struct sockaddr *)&settings->server,
                                       sizeof settings->server) != 0) {
        load_fail("publisher's connect");
    }
    setsockopt(publish->descriptor, IPPROTO_TCP, 1 /* TCP_NODELAY */, &yes, sizeof yes);
    publish->input_length = 0;
    if (settings->way == PUBLISH_WEBSOCKET) {
        char text[2048];
        size_t length = (size_t)snprintf(text, sizeof text,
            "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s%s%s\r\n",
            settings->token != NULL ? "Authorization: Bearer " : "",
            settings->token != NULL ? settings->token : "", settings->token != NULL ? "\r\n" : "");
        send_all(publish->descriptor, text, length);
        for (length = 0; length < 4 || memcmp(text + length - 4, "\r\n\r\n", 4) != 0; length++) {
            if (length == sizeof text - 1 || recv(publish->descriptor, text + length, 1, 0) != 1) {
                load_fail("publisher's handshake");
            }
        }
    }
    if (settings->way == PUBLISH_NATS) {
        static const char hello[] = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";
        send_all(publish->descriptor, hello, sizeof hello - 1);
    }
    loop_set(publish->loop, EPOLL_CTL_ADD, publish->descriptor, &publish->source, EPOLLIN);
}

static void bare_open(struct publish *publish)
{
    for (unsigned i = 0; i < publish->settings.bare_workers; i++) {
        struct sockaddr_un address;
        const socklen_t size = bare_address(&address, ntohs(publish->settings.server.sin_port), i);
        publish->bare[i] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        const int room = 1 << 20;
        setsockopt(publish->bare[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
        if (publish->bare[i] < 0 || connect(publish->bare[i], (struct sockaddr *)&address, size) != 0) {
            load_fail("connect to a bare worker");
        }
    }
}

struct publish *publish_open(int loop, const struct publish_settings *settings)
{
    struct publish *publish = calloc(1, sizeof *publish);
    if (publish == NULL) {
        load_fail("calloc");
    }
    publish->source.ready = publish_ready;
    publish->settings = *settings;
    publish->loop = loop;
    publish->descriptor = -1;
    publish->text_room = settings->payload + 4096;
    publish->text = malloc(publish->text_room);
    publish->frame = malloc(publish->text_room + FRAME_HEADER_MAX);
    if (publish->text == NULL || publish->frame == NULL) {
        load_fail("malloc");
    }
    if (settings->way == PUBLISH_BARE) {
        bare_open(publish);
    } else if (settings->way == PUBLISH_KAFKA) {
        publish->kafka =
            load_kafka_open(loop, settings->brokers, settings->kafka_topic, kafka_answered, publish);
    } else {
        tcp_open(publish);
    }
    return publish;
}

/* ---- the event ---- */

/* Appends {"bench": "<mark>xxx"} of exactly the wanted size. */
static size_t data_write(const struct publish *publish, char *out, uint64_t sequence, uint64_t now)
{
    size_t length =
        (size_t)sprintf(out, "{\"bench\": \"" SWARM_MARK "%016llx:%016llx:", (unsigned long long)sequence,
            (unsigned long long)now);
    const size_t padding = publish->settings.payload - length - 2;
    memset(out + length, 'x', padding);
    length += padding;
    memcpy(out + length, "\"}", 2);
    return length + 2;
}

static void http_send(struct publish *publish, const char *topic, uint64_t sequence, uint64_t now)
{
    char head[1024];
    size_t length = (size_t)sprintf(publish->text,
        "{\"id\": null, \"entries\": [{\"url\": \"\", \"config\": null, \"topics\": [\"%s\"], \"dst_path\": "
        "\"/bench\", "
        "\"save_method\": \"PUT\", \"data\": ",
        topic);
    length += data_write(publish, publish->text + length, sequence, now);
    length += (size_t)sprintf(
        publish->text + length, "}], \"reason\": \"bench\", \"callback\": {\"callbacks\": []}}");
    const int head_length = snprintf(head, sizeof head,
        "POST /data/config HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: "
        "application/json\r\n%s%s%sContent-Length: %zu\r\n\r\n",
        publish->settings.token != NULL ? "Authorization: Bearer " : "",
        publish->settings.token != NULL ? publish->settings.token : "",
        publish->settings.token != NULL ? "\r\n" : "", length);
    memmove(publish->text + head_length, publish->text, length);
    memcpy(publish->text, head, (size_t)head_length);
    send_all(publish->descriptor, publish->text, length + (size_t)head_length);
}

/* The event's data is the whole message. */
static size_t plain_write(
    const struct publish *publish, const char *topic, uint64_t sequence, uint64_t now, char *out)
{
    const bool nats = publish->settings.way == PUBLISH_NATS;
    size_t length = (size_t)sprintf(out,
        nats ? "PUB %s %zu\r\n"
             : "POST /pub/%s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: "
               "application/json\r\nContent-Length: %zu\r\n\r\n",
        topic, publish->settings.payload);
    length += data_write(publish, out + length, sequence, now);
    return length + (size_t)sprintf(out + length, "%s", nats ? "\r\n" : "");
}

void publish_event(struct publish *publish, uint64_t sequence)
{
    const struct publish_settings *settings = &publish->settings;
    const uint64_t now = load_now();
    char topic[256];
    size_t length;
    if (settings->groups > 1) {
        snprintf(topic, sizeof topic, "%s-%u", settings->topic, (unsigned)(sequence % settings->groups));
    } else {
        snprintf(topic, sizeof topic, "%s", settings->topic);
    }
    if (publish->descriptor < 0 && settings->way != PUBLISH_BARE && settings->way != PUBLISH_KAFKA) {
        tcp_open(publish);
    }
    switch (settings->way) {
    case PUBLISH_WEBSOCKET:
        length = (size_t)sprintf(publish->text,
            "{\"request\": {\"method\": \"publish\", \"arguments\": {\"topics\": [\"%s\"], \"data\": ",
            topic);
        length += data_write(publish, publish->text + length, sequence, now);
        length += (size_t)sprintf(publish->text + length,
            ", \"sync\": false, \"notifier_id\": null}, \"call_id\": \"%032llx\"}, \"response\": null}",
            (unsigned long long)sequence);
        length = frame_write(publish->frame, FRAME_TEXT, publish->text, length);
        answer_expect(publish, now);
        send_all(publish->descriptor, publish->frame, length);
        break;
    case PUBLISH_HTTP:
        answer_expect(publish, now);
        http_send(publish, topic, sequence, now);
        break;
    case PUBLISH_BARE:
        length = data_write(publish, publish->text, sequence, now);
        for (unsigned i = 0; i < settings->bare_workers; i++) {
            send_all(publish->bare[i], publish->text, length);
        }
        publish->tally.accepted++;
        break;
    case PUBLISH_KAFKA:
        length = (size_t)sprintf(
            publish->text, "{\"notifier_id\": \"%032x\", \"topics\": [\"%s\"], \"data\": ", 0xbe9cU, topic);
        length += data_write(publish, publish->text + length, sequence, now);
        publish->text[length++] = '}';
        publish->produced++;
        load_kafka_produce(publish->kafka, publish->text, length, now);
        break;
    case PUBLISH_NATS:
        publish->tally.accepted++;
        send_all(
            publish->descriptor, publish->text, plain_write(publish, topic, sequence, now, publish->text));
        break;
    case PUBLISH_NCHAN:
        answer_expect(publish, now);
        send_all(
            publish->descriptor, publish->text, plain_write(publish, topic, sequence, now, publish->text));
        break;
    }
}

uint64_t publish_unanswered(const struct publish *publish)
{
    return publish->settings.way == PUBLISH_KAFKA ? publish->produced : publish->sent_count;
}

const struct publish_tally *publish_tally(const struct publish *publish)
{
    return &publish->tally;
}

void publish_reset(struct publish *publish)
{
    memset(&publish->tally, 0, sizeof publish->tally);
}
