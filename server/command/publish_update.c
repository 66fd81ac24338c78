#include "server/command/publish_update.h"

#include <errno.h>
#include <string.h>

#include "shm/common/json.h"
#include "shm/common/log_redact.h"
#include "shm/common/python.h"

#define UPDATE_DEPTH  512
#define UPDATE_TOKENS 10000000

/* The keys of an entry in the reference's order. Absent values (data NULL) get the default. */
struct entry {
    /* decoded */
    struct slice url;
    struct slice config;
    /* JSON array */
    struct slice topics;
    struct slice dst_path;
    struct slice save_method;
    struct slice data;
};

static void append_topics_shown(struct text *shown, const char *json, size_t length)
{
    struct json_document document = {0};
    struct text scratch = {0};
    text_append_char(shown, '[');
    if (json_parse(&document, json, length, UPDATE_DEPTH, UPDATE_TOKENS) == JSON_OK) {
        for (uint32_t i = 1; i < document.tokens[0].next; i = document.tokens[i].next) {
            if (i > 1)
                text_append_string(shown, ", ");
            python_append_string(shown, json_string_view(&document, i, &scratch));
        }
    }
    text_append_char(shown, ']');
    text_free(&scratch);
    json_free(&document);
}

static void append_entry(const struct entry *entry, bool first, struct text *body, struct text *shown)
{
    struct text url = {0};
    text_append_string(body, first ? "{\"url\": " : ", {\"url\": ");
    text_append_json_ascii(body, entry->url);
    text_append_string(body, ", \"config\": ");
    text_append_slice(body, entry->config);
    text_append_string(body, ", \"topics\": ");
    text_append_slice(body, entry->topics);
    text_append_string(body, ", \"dst_path\": ");
    text_append_json_ascii(body, entry->dst_path);
    text_append_string(body, ", \"save_method\": ");
    text_append_json_ascii(body, entry->save_method);
    text_append_string(body, ", \"data\": ");
    text_append_slice(body, entry->data);
    text_append_char(body, '}');

    log_redact(&url, entry->url);
    text_append_string(shown, first ? "DataSourceEntry(url=" : ", DataSourceEntry(url=");
    python_append_string(shown, text_slice(&url));
    text_append_string(shown, ", config='<redacted>', topics=");
    append_topics_shown(shown, entry->topics.data, entry->topics.length);
    text_append_string(shown, ", dst_path=");
    python_append_string(shown, entry->dst_path);
    text_append_string(shown, ", save_method=");
    python_append_string(shown, entry->save_method);
    text_append_string(shown, ", data='<redacted>')");
    text_free(&url);
}

/* ---- one entry from flags ---- */

static int check_json(
    const char *flag, const char *text, const char *first_bytes, const char *wanted, struct error *err)
{
    struct json_document document = {0};
    if (json_check(&document, text, strlen(text), UPDATE_DEPTH) != JSON_OK)
        return error_set(err, EINVAL, "%s: not JSON (%s, at character %zu)", flag, document.message,
            document.error_character);
    char first = text[strspn(text, " \t\r\n")];
    if (!strchr(first_bytes, first))
        return error_set(err, EINVAL, "%s: must be %s", flag, wanted);
    return 0;
}

static int build_single(
    const struct publish_update *update, struct text *body, struct text *shown, struct error *err)
{
    struct text topics = {0};
    const char *data = update->data ? update->data : "null";
    const char *config = update->src_config ? update->src_config : "{}";
    if (!update->topic_count)
        return error_set(err, EINVAL, "--src-url: at least one --topic must be given with it");
    if (check_json("--data", data, "[{n", "a JSON object, array or null", err) < 0 ||
        check_json("--src-config", config, "{n", "a JSON object", err) < 0)
        return -1;
    text_append_char(&topics, '[');
    for (size_t i = 0; i < update->topic_count; i++) {
        if (i)
            text_append_string(&topics, ", ");
        text_append_json_ascii(&topics, slice_from_string(update->topics[i]));
    }
    text_append_char(&topics, ']');
    struct entry entry = {.url = slice_from_string(update->src_url),
        .config = slice_from_string(config),
        .topics = text_slice(&topics),
        .dst_path = slice_from_string(update->dst_path ? update->dst_path : ""),
        .save_method = slice_from_string(update->save_method ? update->save_method : "PUT"),
        .data = slice_from_string(data)};
    append_entry(&entry, true, body, shown);
    text_free(&topics);
    return 0;
}

/* ---- entries from JSON ---- */

struct entry_scratch {
    struct text url;
    struct text dst_path;
    struct text save_method;
};

/* The string member `key`, decoded; `fallback` when it is absent (NULL: it may not be). */
static int read_string(const struct json_document *document, uint32_t object, const char *key,
    const char *fallback, struct text *scratch, struct slice *out, struct error *err)
{
    uint32_t value = json_member(document, object, key);
    if (value == JSON_ABSENT && fallback) {
        *out = slice_from_string(fallback);
        return 0;
    }
    if (value == JSON_ABSENT || document->tokens[value].type != JSON_STRING)
        return error_set(err, EINVAL, "--entries: each entry's \"%s\" must be a string", key);
    *out = json_string_view(document, value, scratch);
    return 0;
}

/* The member `key` as it stands; its type must be one of the bits in `types` or null. */
static int read_raw(const struct json_document *document, uint32_t object, const char *key, unsigned types,
    const char *wanted, struct slice *out, struct error *err)
{
    uint32_t value = json_member(document, object, key);
    *out = SLICE_LITERAL("null");
    if (value == JSON_ABSENT)
        return 0;
    if (!((types | 1u << JSON_NULL) & 1u << document->tokens[value].type))
        return error_set(err, EINVAL, "--entries: each entry's \"%s\" must be %s", key, wanted);
    *out = json_raw(document, value);
    return 0;
}

static int read_topics(
    const struct json_document *document, uint32_t object, struct slice *out, struct error *err)
{
    uint32_t value = json_member(document, object, "topics");
    *out = SLICE_LITERAL("[\"policy_data\"]"); /* the reference's default */
    if (value == JSON_ABSENT)
        return 0;
    bool good = document->tokens[value].type == JSON_ARRAY;
    for (uint32_t i = value + 1; good && i < document->tokens[value].next; i = document->tokens[i].next)
        good = document->tokens[i].type == JSON_STRING;
    if (!good)
        return error_set(err, EINVAL, "--entries: each entry's \"topics\" must be an array of strings");
    *out = json_raw(document, value);
    return 0;
}

static int read_entry(const struct json_document *document, uint32_t object, struct entry_scratch *scratch,
    struct entry *entry, struct error *err)
{
    if (document->tokens[object].type != JSON_OBJECT)
        return error_set(err, EINVAL, "--entries: must be a JSON array of objects");
    if (read_string(document, object, "url", NULL, &scratch->url, &entry->url, err) < 0 ||
        read_raw(document, object, "config", 1u << JSON_OBJECT, "an object or null", &entry->config, err) <
            0 ||
        read_topics(document, object, &entry->topics, err) < 0 ||
        read_string(document, object, "dst_path", "", &scratch->dst_path, &entry->dst_path, err) < 0 ||
        read_string(document, object, "save_method", "PUT", &scratch->save_method, &entry->save_method, err) <
            0)
        return -1;
    return read_raw(document, object, "data", 1u << JSON_OBJECT | 1u << JSON_ARRAY,
        "an object, an array or null", &entry->data, err);
}

static int build_many(
    const struct publish_update *update, struct text *body, struct text *shown, struct error *err)
{
    struct json_document document = {0};
    struct entry_scratch scratch = {0};
    struct entry entry = {0};
    int status = 0;
    if (json_parse(&document, update->entries, strlen(update->entries), UPDATE_DEPTH, UPDATE_TOKENS) !=
        JSON_OK)
        status = error_set(err, EINVAL, "--entries: not JSON (%s, at character %zu)", document.message,
            document.error_character);
    else if (document.tokens[0].type != JSON_ARRAY)
        status = error_set(err, EINVAL, "--entries: must be a JSON array of objects");
    for (uint32_t i = 1; !status && i < document.tokens[0].next; i = document.tokens[i].next) {
        status = read_entry(&document, i, &scratch, &entry, err);
        if (!status)
            append_entry(&entry, i == 1, body, shown);
    }
    text_free(&scratch.url);
    text_free(&scratch.dst_path);
    text_free(&scratch.save_method);
    json_free(&document);
    return status;
}

static bool is_empty_array(const char *text)
{
    return text[strspn(text, " \t\r\n")] == '[' && strspn(text, " \t\r\n[]") == strlen(text);
}

int publish_update_build(
    const struct publish_update *update, struct text *body, struct text *shown, struct error *err)
{
    struct slice reason = slice_from_string(update->reason ? update->reason : "");
    if ((!update->src_url || !*update->src_url) && (!update->entries || is_empty_array(update->entries)))
        return error_set(err, EINVAL,
            "You must provide either multiple entries (-e / --entries) or a single entry update (--src-url)");
    text_append_string(body, "{\"id\": null, \"entries\": [");
    text_append_string(shown, "id=None entries=[");
    int status =
        update->src_url ? build_single(update, body, shown, err) : build_many(update, body, shown, err);
    if (status < 0)
        return -1;
    text_append_string(body, "], \"reason\": ");
    text_append_json_ascii(body, reason);
    text_append_string(body, ", \"callback\": {\"callbacks\": []}}");
    text_append_string(shown, "] reason=");
    python_append_string(shown, reason);
    text_append_string(shown, " callback=UpdateCallback(callbacks=[])");
    return 0;
}
