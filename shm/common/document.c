#include "shm/common/document.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/json.h"
#include "shm/common/memory.h"

static void *allocate(size_t size)
{
    return memory_allocate(size);
}

/*
 * cJSON reports a failed allocation by leaving something out of a document. With these hooks it cannot fail.
 */
__attribute__((constructor)) static void set_allocation(void)
{
    cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = allocate, .free_fn = free});
}

static bool is_within(struct slice text, const struct document_limits *limits)
{
    struct json_document scanned = {0};
    enum json_failure failure = json_parse(&scanned, text.data, text.length, limits->depth, limits->values);
    json_free(&scanned);
    return failure == JSON_OK;
}

cJSON *document_parse(struct slice text, const struct document_limits *limits)
{
    if (!text.data || !is_within(text, limits))
        return NULL;
    return cJSON_ParseWithLength(text.data, text.length);
}

const cJSON *document_member(const cJSON *object, const char *key)
{
    const cJSON *found = NULL;
    const cJSON *member;
    if (!cJSON_IsObject(object))
        return NULL;
    cJSON_ArrayForEach (member, object)
        if (strcmp(member->string, key) == 0)
            found = member;
    return found;
}

void document_write(const cJSON *document, struct text *out)
{
    char *printed = cJSON_PrintUnformatted(document);
    if (!printed)
        abort(); /* only for an item of no type */
    text_append_string(out, printed);
    cJSON_free(printed);
}

void document_write_python(const cJSON *document, struct text *out)
{
    const bool is_object = cJSON_IsObject(document);
    const cJSON *child;
    if (cJSON_IsString(document)) {
        text_append_json_ascii(out, slice_from_string(document->valuestring));
        return;
    }
    if (!is_object && !cJSON_IsArray(document)) {
        document_write(document, out);
        return;
    }
    text_append_char(out, is_object ? '{' : '[');
    cJSON_ArrayForEach (child, document) {
        if (child != document->child)
            text_append_string(out, ", ");
        if (is_object) {
            text_append_json_ascii(out, slice_from_string(child->string));
            text_append_string(out, ": ");
        }
        document_write_python(child, out);
    }
    text_append_char(out, is_object ? '}' : ']');
}
