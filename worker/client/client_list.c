#include "worker/client/client_list.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"
#include "shm/common/percent.h"
#include "worker/topics/topic_set.h"

#define CLIENT_ID_PARAMETER "__opal_client_id"

struct row_head {
    uint32_t length;
    uint32_t port;
    uint64_t connected_us;
    uint32_t host_length;
    uint32_t query_length;
    uint32_t topic_count;
    uint32_t reserved;
};

struct row {
    struct row_head head;
    /* behind the head */
    const char *body;
    struct slice id;
    struct text id_text;
};

/* ---- writing ---- */

size_t client_list_begin(struct text *list, const struct client_row *row)
{
    const struct row_head head = {.port = row->port,
        .connected_us = row->connected_us,
        .host_length = (uint32_t)row->host.length,
        .query_length = (uint32_t)row->query.length};
    size_t at = list->length;
    text_append(list, &head, sizeof head);
    text_append_slice(list, row->host);
    text_append_slice(list, row->query);
    return at;
}

void client_list_topic(struct text *list, size_t row, struct slice topic)
{
    struct row_head head;
    uint32_t length = (uint32_t)topic.length;
    text_append(list, &length, sizeof length);
    text_append_slice(list, topic);
    memcpy(&head, list->data + row, sizeof head);
    head.topic_count++;
    memcpy(list->data + row, &head, sizeof head);
}

void client_list_end(struct text *list, size_t row)
{
    static const char zeros[8];
    struct row_head head;
    text_append(list, zeros, (8 - (list->length - row) % 8) % 8);
    memcpy(&head, list->data + row, sizeof head);
    head.length = (uint32_t)(list->length - row);
    memcpy(list->data + row, &head, sizeof head);
}

/* ---- reading ---- */

/* Whether the topics lie within the row; never trusts the writer. */
static bool row_topic_next(const struct row *row, uint32_t *offset, struct slice *topic)
{
    uint32_t end = row->head.length - (uint32_t)sizeof row->head, length;
    if (*offset > end || end - *offset < sizeof length)
        return false;
    memcpy(&length, row->body + *offset, sizeof length);
    *offset += (uint32_t)sizeof length;
    if (length > end - *offset)
        return false;
    *topic = (struct slice){row->body + *offset, length};
    *offset += length;
    return true;
}

static struct slice row_host(const struct row *row)
{
    return (struct slice){row->body, row->head.host_length};
}

static struct slice row_query(const struct row *row)
{
    return (struct slice){row->body + row->head.host_length, row->head.query_length};
}

/* The id it gave itself, the last one of several; else where it comes from. */
static void row_make_id(struct row *row)
{
    struct text name = {0}, value = {0};
    struct slice query = row_query(row);
    bool named = false;
    while (percent_next_pair(&query, true, &name, &value)) {
        if (!slice_equals_string(text_slice(&name), CLIENT_ID_PARAMETER))
            continue;
        named = true;
        text_clear(&row->id_text);
        text_append_slice(&row->id_text, text_slice(&value));
    }
    if (!named) {
        text_append_string(&row->id_text, "host:");
        text_append_slice(&row->id_text, row_host(row));
        text_append_format(&row->id_text, ":%" PRIu32, row->head.port);
    }
    row->id = row->id_text.length ? text_slice(&row->id_text) : SLICE_LITERAL("");
    text_free(&name);
    text_free(&value);
}

static bool row_read(struct slice list, size_t at, struct row *row)
{
    struct slice topic;
    *row = (struct row){0};
    if (list.length - at < sizeof row->head)
        return false;
    memcpy(&row->head, list.data + at, sizeof row->head);
    row->body = list.data + at + sizeof row->head;
    uint64_t least = sizeof row->head + (uint64_t)row->head.host_length + row->head.query_length;
    if (row->head.length % 8 || row->head.length < least || row->head.length > list.length - at)
        return false;
    uint32_t offset = row->head.host_length + row->head.query_length;
    for (uint32_t i = 0; i < row->head.topic_count; i++)
        if (!row_topic_next(row, &offset, &topic))
            return false;
    return true;
}

struct rows {
    struct row *items;
    size_t count;
    size_t capacity;
};

static bool rows_read(struct rows *rows, struct slice list)
{
    for (size_t at = 0; at < list.length;) {
        if (rows->count == rows->capacity) {
            rows->capacity = rows->capacity ? 2 * rows->capacity : 64;
            rows->items = memory_resize(rows->items, rows->capacity * sizeof *rows->items);
        }
        struct row *row = &rows->items[rows->count];
        if (!row_read(list, at, row))
            return false;
        at += row->head.length;
        row_make_id(row);
        rows->count++;
    }
    return true;
}

static void rows_free(struct rows *rows)
{
    for (size_t i = 0; i < rows->count; i++)
        text_free(&rows->items[i].id_text);
    free(rows->items);
}

static int compare_times(const struct row *a, const struct row *b)
{
    return (a->head.connected_us > b->head.connected_us) - (a->head.connected_us < b->head.connected_us);
}

/* By id, the first that came first. */
static int compare_rows(const void *left, const void *right)
{
    const struct row *a = left, *b = right;
    size_t common = a->id.length < b->id.length ? a->id.length : b->id.length;
    int order = common ? memcmp(a->id.data, b->id.data, common) : 0;
    if (order == 0)
        order = (a->id.length > b->id.length) - (a->id.length < b->id.length);
    return order ? order : compare_times(a, b);
}

/* ---- JSON ---- */

/* Seconds as Python prints its float: no more digits than it takes. */
static void append_time(struct text *out, uint64_t us)
{
    char digits[16];
    int length = snprintf(digits, sizeof digits, "%06" PRIu64, us % 1000000);
    while (length > 1 && digits[length - 1] == '0')
        length--;
    text_append_format(out, "%" PRIu64 ".%.*s", us / 1000000, length, digits);
}

/* Each name once, where it first stood, with its last value. */
static void append_parameters(struct text *out, struct slice query)
{
    if (query.length == 0) {
        text_append_string(out, "{}");
        return;
    }
    struct pair {
        struct text name, value;
    } *pairs = memory_allocate(CLIENT_LIST_PARAMETERS_MAX * sizeof *pairs);
    struct text name = {0}, value = {0};
    size_t count = 0;
    while (percent_next_pair(&query, true, &name, &value)) {
        size_t i = 0;
        while (i < count && !slice_equals(text_slice(&pairs[i].name), text_slice(&name)))
            i++;
        if (i == CLIENT_LIST_PARAMETERS_MAX)
            break;
        if (i == count) {
            text_append_slice(&pairs[i].name, text_slice(&name));
            count++;
        }
        text_clear(&pairs[i].value);
        text_append_slice(&pairs[i].value, text_slice(&value));
    }
    text_append_char(out, '{');
    for (size_t i = 0; i < count; i++) {
        text_append_string(out, i ? "," : "");
        text_append_json_utf8(out, text_slice(&pairs[i].name));
        text_append_char(out, ':');
        text_append_json_utf8(out, text_slice(&pairs[i].value));
        text_free(&pairs[i].name);
        text_free(&pairs[i].value);
    }
    text_append_char(out, '}');
    text_free(&name);
    text_free(&value);
    free(pairs);
}

static void append_topics(struct text *out, const struct row *rows, size_t count)
{
    struct topic_set topics = {0};
    for (size_t i = 0; i < count; i++) {
        uint32_t offset = rows[i].head.host_length + rows[i].head.query_length;
        struct slice topic;
        for (uint32_t n = 0; n < rows[i].head.topic_count && row_topic_next(&rows[i], &offset, &topic); n++)
            topic_set_add(&topics, topic);
    }
    text_append_char(out, '[');
    for (uint32_t i = 0; i < topics.count; i++) {
        text_append_string(out, i ? "," : "");
        text_append_json_utf8(out, topic_set_item(&topics, i));
    }
    text_append_char(out, ']');
    topic_set_free(&topics);
}

/* One client: `count` rows of the same id. */
static void append_client(struct text *out, const struct row *rows, size_t count)
{
    text_append_json_utf8(out, rows->id);
    text_append_string(out, ":{\"client_id\":");
    text_append_json_utf8(out, rows->id);
    text_append_string(out, ",\"source_host\":");
    if (rows->head.host_length)
        text_append_json_utf8(out, row_host(rows));
    else
        text_append_string(out, "null");
    text_append_format(out, ",\"source_port\":%" PRIu32 ",\"connect_time\":", rows->head.port);
    append_time(out, rows->head.connected_us);
    text_append_string(out, ",\"subscribed_topics\":");
    append_topics(out, rows, count);
    text_append_format(out, ",\"refcount\":%zu,\"query_params\":", count);
    append_parameters(out, row_query(rows));
    text_append_char(out, '}');
}

struct client_render {
    struct rows rows;
    /* row */
    size_t next;
    uint64_t most;
    struct text out;
};

struct client_render *client_render_begin(const struct slice *lists, size_t count, uint64_t most)
{
    struct client_render *render = memory_allocate(sizeof *render);
    render->most = most;
    for (size_t i = 0; i < count; i++) {
        if (rows_read(&render->rows, lists[i]))
            continue;
        client_render_free(render);
        return NULL;
    }
    if (render->rows.count)
        qsort(render->rows.items, render->rows.count, sizeof *render->rows.items, compare_rows);
    text_append_char(&render->out, '{');
    return render;
}

void client_render_free(struct client_render *render)
{
    if (!render)
        return;
    rows_free(&render->rows);
    text_free(&render->out);
    free(render);
}

enum client_render_state client_render_step(struct client_render *render, size_t clients, struct slice *json)
{
    const struct rows *rows = &render->rows;
    for (; clients > 0 && render->next < rows->count; clients--) {
        size_t first = render->next, next = first + 1;
        while (next < rows->count && slice_equals(rows->items[next].id, rows->items[first].id))
            next++;
        text_append_string(&render->out, first ? "," : "");
        append_client(&render->out, &rows->items[first], next - first);
        render->next = next;
        if (render->out.length >= render->most)
            return CLIENT_RENDER_TOO_LARGE;
    }
    if (render->next < rows->count)
        return CLIENT_RENDER_MORE;
    text_append_char(&render->out, '}');
    *json = text_slice(&render->out);
    return CLIENT_RENDER_DONE;
}
