#include "worker/http/http_validation.h"

#include <stdlib.h>

void validation_free(struct validation *validation)
{
    text_free(&validation->errors);
}

static void enter(struct validation *validation, struct validation_place place)
{
    if (validation->depth == VALIDATION_PLACES_MAX)
        abort(); /* the models are fixed: none is as deep as this */
    validation->places[validation->depth++] = place;
}

void validation_enter(struct validation *validation, const char *name)
{
    enter(validation, (struct validation_place){name, 0});
}

void validation_enter_item(struct validation *validation, size_t index)
{
    enter(validation, (struct validation_place){NULL, index});
}

void validation_leave(struct validation *validation)
{
    validation->depth--;
}

bool validation_error(
    struct validation *validation, const char *message, const char *type, const char *context)
{
    if (validation->muted || validation->count++ >= VALIDATION_ERRORS_MAX)
        return false;
    struct text *out = &validation->errors;
    text_append_string(out, out->length ? ",{\"loc\":[" : "{\"loc\":[");
    for (size_t i = 0; i < validation->depth; i++) {
        const struct validation_place *place = &validation->places[i];
        if (i)
            text_append_char(out, ',');
        if (place->name)
            text_append_json_utf8(out, slice_from_string(place->name));
        else
            text_append_format(out, "%zu", place->index);
    }
    text_append_string(out, "],\"msg\":");
    text_append_json_utf8(out, slice_from_string(message));
    text_append_string(out, ",\"type\":");
    text_append_json_utf8(out, slice_from_string(type));
    if (context)
        text_append_format(out, ",\"ctx\":%s", context);
    text_append_char(out, '}');
    return false;
}

void validation_reply(const struct validation *validation, struct http_reply *reply)
{
    http_reply_set(reply, 422, HTTP_JSON, SLICE_LITERAL("{\"detail\":["));
    text_append_slice(&reply->body, text_slice(&validation->errors));
    text_append_string(&reply->body, "]}");
}
