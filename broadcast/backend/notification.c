/*
 * What the reference accepts was probed on its own model (pydantic 1): strings as they are, numbers and
 * booleans as Python's str() shows them, null and containers never; unknown keys ignored; of a repeated key
 * the last. `data` is never looked into beyond being valid JSON.
 *
 * Decoded texts lie in one buffer of the decoder. It moves while it grows, so the first pass notes offsets
 * and the second makes the views.
 */
#include "broadcast/backend/notification.h"

#include <stdlib.h>

#include "shm/common/memory.h"
#include "shm/common/python.h"

#define NOTIFICATION_RESYNC "opald_resync"
/* the object around the data */
#define NOTIFICATION_OWN_DEPTH   1
#define NOTIFICATION_TOKENS_KEPT 65536 /* a decoder that once met a huge message gives the memory back */

struct notification_decoder {
    struct json_document document;
    struct text scratch;
    struct slice topics[NOTIFICATION_TOPICS_MAX];
    unsigned max_depth;
};

/* Where in the scratch buffer the decoded texts begin. */
struct notification_offsets {
    size_t notifier;
    size_t topics[NOTIFICATION_TOPICS_MAX];
    size_t resync;
};

/* ---- encoding ---- */

void notification_encode(struct text *out, struct slice notifier_id, struct slice topic, struct slice data)
{
    text_append_string(out, "{\"notifier_id\": ");
    text_append_json_ascii(out, notifier_id);
    text_append_string(out, ", \"topics\": [");
    text_append_json_ascii(out, topic);
    text_append_string(out, "], \"data\": ");
    text_append_slice(out, data.data ? data : SLICE_LITERAL("null"));
    text_append_char(out, '}');
}

void notification_encode_resync(struct text *out, struct slice notifier_id, struct slice reason)
{
    text_append_string(out, "{\"notifier_id\": ");
    text_append_json_ascii(out, notifier_id);
    text_append_string(out, ", \"topics\": [], \"data\": null, \"" NOTIFICATION_RESYNC "\": ");
    text_append_json_ascii(out, reason);
    text_append_char(out, '}');
}

/* ---- decoding ---- */

struct notification_decoder *notification_decoder_make(unsigned max_depth)
{
    struct notification_decoder *decoder = memory_allocate(sizeof *decoder);
    decoder->max_depth = max_depth + NOTIFICATION_OWN_DEPTH;
    return decoder;
}

void notification_decoder_free(struct notification_decoder *decoder)
{
    if (!decoder)
        return;
    json_free(&decoder->document);
    text_free(&decoder->scratch);
    free(decoder);
}

/* A text, or what the reference makes into one. A string without escapes is viewed where it stands; anything
 * else goes to the scratch buffer, and `view->data` stays NULL with the offset in `*offset` until the buffer
 * has stopped moving. */
static bool notification_take_text(
    struct notification_decoder *decoder, uint32_t index, struct slice *view, size_t *offset)
{
    const struct json_token *token = &decoder->document.tokens[index];
    *view = (struct slice){NULL, 0};
    *offset = decoder->scratch.length;
    if (token->type == JSON_STRING && !token->size) {
        struct slice raw = json_raw(&decoder->document, index);
        *view = (struct slice){raw.data + 1, raw.length - 2};
        return true;
    }
    if (!python_coerce_string(&decoder->scratch, &decoder->document, index))
        return false;
    view->length = decoder->scratch.length - *offset;
    return true;
}

static const char *notification_parse_failure(enum json_failure failure, const char *message)
{
    switch (failure) {
    case JSON_TOO_DEEP:
        return "JSON is nested too deeply";
    case JSON_TOO_MANY:
        return "JSON has too many values";
    case JSON_TOO_LONG:
        return "message is too long";
    case JSON_BAD_UTF8:
        return "not valid UTF-8";
    default:
        return message ? message : "not valid JSON";
    }
}

static int notification_parse(
    struct notification_decoder *decoder, struct slice bytes, struct notification *out, const char **reason)
{
    struct json_document *document = &decoder->document;
    /* Each token takes at least one byte: the message's length, which is limited, bounds them. */
    enum json_failure failure =
        json_parse(document, bytes.data, bytes.length, decoder->max_depth, bytes.length + 1);
    if (failure != JSON_OK) {
        *reason = notification_parse_failure(failure, document->message);
        out->above_limits = failure == JSON_TOO_DEEP || failure == JSON_TOO_MANY || failure == JSON_TOO_LONG;
        return -1;
    }
    if (document->tokens[0].type != JSON_OBJECT) {
        *reason = "not a JSON object";
        return -1;
    }
    return 0;
}

static int notification_take_notifier(struct notification_decoder *decoder, struct notification *out,
    struct notification_offsets *offsets, const char **reason)
{
    uint32_t notifier = json_member(&decoder->document, 0, "notifier_id");
    if (notifier == JSON_ABSENT) {
        *reason = "notifier_id is missing";
        return -1;
    }
    if (!notification_take_text(decoder, notifier, &out->notifier_id, &offsets->notifier)) {
        *reason = "notifier_id is not a string";
        return -1;
    }
    return 0;
}

static int notification_take_topics(struct notification_decoder *decoder, struct notification *out,
    struct notification_offsets *offsets, const char **reason)
{
    const struct json_document *document = &decoder->document;
    uint32_t topics = json_member(document, 0, "topics");
    if (topics == JSON_ABSENT || document->tokens[topics].type != JSON_ARRAY) {
        *reason = topics == JSON_ABSENT ? "topics is missing" : "topics is not an array";
        return -1;
    }
    if (document->tokens[topics].size > NOTIFICATION_TOPICS_MAX) {
        *reason = "too many topics";
        out->above_limits = true;
        return -1;
    }
    out->topics = decoder->topics;
    out->topic_count = document->tokens[topics].size;
    uint32_t index = topics + 1;
    for (uint32_t i = 0; i < out->topic_count; i++, index = document->tokens[index].next) {
        if (!notification_take_text(decoder, index, &out->topics[i], &offsets->topics[i])) {
            *reason = "a topic is not a string";
            return -1;
        }
    }
    return 0;
}

/* The second pass: what was decoded is viewed where the scratch buffer is now. */
static void notification_view_decoded(const struct notification_decoder *decoder, bool resyncs,
    const struct notification_offsets *offsets, struct notification *out)
{
    const char *decoded = decoder->scratch.data ? decoder->scratch.data : "";
    if (!out->notifier_id.data)
        out->notifier_id.data = decoded + offsets->notifier;
    for (uint32_t i = 0; i < out->topic_count; i++)
        if (!out->topics[i].data)
            out->topics[i].data = decoded + offsets->topics[i];
    if (resyncs && !out->resync.data)
        out->resync.data = decoded + offsets->resync;
}

static int notification_read(
    struct notification_decoder *decoder, struct slice bytes, struct notification *out, const char **reason)
{
    const struct json_document *document = &decoder->document;
    struct notification_offsets offsets; /* not initialised as a whole: what is used of it is set before */
    if (notification_parse(decoder, bytes, out, reason) < 0 ||
        notification_take_notifier(decoder, out, &offsets, reason) < 0 ||
        notification_take_topics(decoder, out, &offsets, reason) < 0)
        return -1;
    uint32_t data = json_member(document, 0, "data");
    out->data = data == JSON_ABSENT ? SLICE_LITERAL("null") : json_raw(document, data);

    uint32_t resync = out->topic_count ? JSON_ABSENT : json_member(document, 0, NOTIFICATION_RESYNC);
    bool resyncs = resync != JSON_ABSENT && document->tokens[resync].type == JSON_STRING &&
                   notification_take_text(decoder, resync, &out->resync, &offsets.resync);
    notification_view_decoded(decoder, resyncs, &offsets, out);
    return 0;
}

int notification_decode(
    struct notification_decoder *decoder, struct slice bytes, struct notification *out, const char **reason)
{
    *out = (struct notification){0};
    *reason = NULL;
    text_clear(&decoder->scratch);
    int result = notification_read(decoder, bytes, out, reason);
    /* Nothing in `out` points at tokens. */
    if (decoder->document.capacity > NOTIFICATION_TOKENS_KEPT)
        json_free(&decoder->document);
    return result;
}
