#include "tests/bench/load_dialect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/bench/load_frame.h"
#include "tests/bench/load_loop.h"

#define CALL_ID_BYTES 32U

size_t dialect_upgrade(const struct swarm_settings *settings, unsigned index, char *out, size_t room)
{
    char path[300] = "/ws";
    const bool has_token = settings->token != NULL;
    if (settings->dialect == DIALECT_NATS) {
        snprintf(path, sizeof path, "/");
    } else if (settings->dialect == DIALECT_NCHAN) {
        snprintf(path, sizeof path, settings->groups > 1 ? "/sub/%.250s-%u" : "/sub/%.250s", settings->topic,
            index % settings->groups);
    }
    return (size_t)snprintf(out, room,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s%s%s\r\n",
        path, (unsigned)ntohs(settings->server.sin_port), has_token ? "Authorization: Bearer " : "",
        has_token ? settings->token : "", has_token ? "\r\n" : "");
}

/* Topic `i` of a client; the first is the live one. */
static size_t topic_write(
    const struct swarm_settings *settings, unsigned index, unsigned i, char *out, size_t room)
{
    if (i == 0 && index >= settings->clients - settings->elsewhere) {
        return (size_t)snprintf(out, room, "%s-elsewhere-%u", settings->topic, index % 1000);
    }
    if (i == 0 && settings->groups > 1) {
        return (size_t)snprintf(out, room, "%s-%u", settings->topic, index % settings->groups);
    }
    if (i == 0) {
        return (size_t)snprintf(out, room, "%s", settings->topic);
    }
    if (settings->own_topics) {
        return (size_t)snprintf(out, room, "%s-other-%u-%u", settings->topic, i, index);
    }
    return (size_t)snprintf(out, room, "%s-other-%u", settings->topic, i);
}

char *dialect_subscribe(
    const struct swarm_settings *settings, unsigned index, size_t *length, unsigned *opcode)
{
    const size_t room = 256 + (strlen(settings->topic) + 64) * settings->topics;
    const bool nats = settings->dialect == DIALECT_NATS;
    char *text = settings->dialect == DIALECT_NCHAN ? NULL : malloc(room);
    if (text == NULL) {
        if (settings->dialect != DIALECT_NCHAN) {
            load_fail("malloc");
        }
        return NULL;
    }
    *opcode = nats ? FRAME_BINARY : FRAME_TEXT;
    size_t at = (size_t)snprintf(text, room, "%s",
        nats ? "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false,\"protocol\":1}\r\n"
             : "{\"request\": {\"method\": \"subscribe\", \"arguments\": {\"topics\": [");
    for (unsigned i = 0; i < settings->topics; i++) {
        at += (size_t)snprintf(text + at, room - at, "%s", nats ? "SUB " : i == 0 ? "\"" : ", \"");
        at += topic_write(settings, index, i, text + at, room - at);
        at += nats ? (size_t)snprintf(text + at, room - at, " %u\r\n", i + 1)
                   : (size_t)snprintf(text + at, room - at, "\"");
    }
    at += nats ? (size_t)snprintf(text + at, room - at, "PING\r\n")
               : (size_t)snprintf(text + at, room - at,
                     "]}, \"call_id\": \"0123456789abcdef%016x\"}, \"response\": null}", index);
    *length = at;
    return text;
}

bool dialect_subscribed(enum swarm_dialect dialect, const unsigned char *text, size_t length, bool *refused)
{
    *refused = false;
    if (dialect == DIALECT_NATS) {
        *refused = memmem(text, length, "-ERR", 4) != NULL;
        return memmem(text, length, "PONG\r\n", 6) != NULL;
    }
    *refused = memmem(text, length, "\"result\": true", 14) == NULL;
    return !*refused;
}

size_t dialect_reply(const unsigned char *notify, size_t length, char *out)
{
    /* `..."call_id": "<32>"}, "response": null}` is how servers end a notify; another spacing is searched
     * for. */
    static const char tail[] = "\"}, \"response\": null}";
    const unsigned char *id = NULL;
    if (length > CALL_ID_BYTES + sizeof tail) {
        id = notify + length - (sizeof tail - 1) - CALL_ID_BYTES;
        if (id[-1] != '"' || memcmp(id + CALL_ID_BYTES, tail, sizeof tail - 1) != 0) {
            const size_t window = length < 256 ? length : 256;
            id = memmem(notify + length - window, window, "\"call_id\":", 10);
            id = id == NULL ? NULL : memchr(id + 10, '"', (size_t)(notify + length - id) - 10);
            id = id == NULL || (size_t)(notify + length - id) < CALL_ID_BYTES + 2 ? NULL : id + 1;
        }
    }
    if (id == NULL) {
        return 0;
    }
    static const char head[] =
        "{\"request\": null, \"response\": {\"result\": \"None\", \"result_type\": \"str\", \"call_id\": \"";
    memcpy(out, head, sizeof head - 1);
    memcpy(out + sizeof head - 1, id, CALL_ID_BYTES);
    memcpy(out + sizeof head - 1 + CALL_ID_BYTES, "\"}}", 3);
    return sizeof head - 1 + CALL_ID_BYTES + 3;
}

bool dialect_mark(const unsigned char *text, size_t length, uint64_t *sequence, uint64_t *sent)
{
    const unsigned char *mark = memmem(text, length, SWARM_MARK, sizeof SWARM_MARK - 1);
    if (mark == NULL || (size_t)(text + length - mark) < SWARM_MARK_BYTES) {
        return false;
    }
    uint64_t numbers[2] = {0, 0};
    mark += sizeof SWARM_MARK - 1;
    for (unsigned number = 0; number < 2; number++, mark += 17) {
        for (unsigned i = 0; i < 16; i++) {
            const unsigned char digit = mark[i];
            numbers[number] =
                numbers[number] << 4 | (digit <= '9' ? digit - (unsigned)'0' : digit - (unsigned)'a' + 10U);
        }
    }
    *sequence = numbers[0];
    *sent = numbers[1];
    return true;
}
