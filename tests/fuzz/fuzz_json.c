/*
 * The JSON scanner against arbitrary bytes. The first byte chooses the depth limit, the rest is the text.
 * What must hold: json_check and json_parse agree; tokens nest, are in order and their bytes begin and end
 * as their type says; what an accepted text is made of is accepted alone; decoding a string and comparing
 * with the result agree; a refused text has a message and an offset within it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/json.h"
#include "tests/fuzz/fuzz.h"

#define MAX_TOKENS 4096
#define REQUIRE(condition) \
    do { \
        if (!(condition)) \
            abort(); \
    } while (0)

static void require_token(const struct json_document *document, uint32_t i, uint32_t end)
{
    const struct json_token *token = &document->tokens[i];
    const char *text = document->text + token->start;
    char first = text[0];
    char last = document->text[token->end - 1];
    REQUIRE(token->start < token->end && token->end <= document->length);
    REQUIRE(token->next > i && token->next <= end);
    switch (token->type) {
    case JSON_NULL:
        REQUIRE(token->end - token->start == 4 && memcmp(text, "null", 4) == 0);
        break;
    case JSON_TRUE:
        REQUIRE(token->end - token->start == 4 && memcmp(text, "true", 4) == 0);
        break;
    case JSON_FALSE:
        REQUIRE(token->end - token->start == 5 && memcmp(text, "false", 5) == 0);
        break;
    case JSON_NUMBER:
        REQUIRE(first == '-' || first == 'N' || first == 'I' || (first >= '0' && first <= '9'));
        break;
    case JSON_STRING:
        REQUIRE(first == '"' && last == '"' && token->end - token->start >= 2);
        REQUIRE(token->size == (memchr(text, '\\', token->end - token->start) != NULL));
        break;
    case JSON_ARRAY:
        REQUIRE(first == '[' && last == ']');
        return;
    case JSON_OBJECT:
        REQUIRE(first == '{' && last == '}');
        return;
    default:
        abort();
    }
    REQUIRE(token->next == i + 1);
}

/* The children of a container: inside it, one after the other, as many as it says. */
static void require_children(const struct json_document *document, uint32_t i)
{
    const struct json_token *token = &document->tokens[i];
    uint32_t at = token->start + 1;
    uint32_t count = 0;
    uint32_t child = i + 1;
    for (; child < token->next; child = document->tokens[child].next, count++) {
        REQUIRE(document->tokens[child].start >= at);
        REQUIRE(token->type != JSON_OBJECT || count % 2 || document->tokens[child].type == JSON_STRING);
        at = document->tokens[child].end;
    }
    REQUIRE(child == token->next && at < token->end);
    REQUIRE(count == (token->type == JSON_OBJECT ? 2 * token->size : token->size));
}

static void require_string(const struct json_document *document, uint32_t i, struct text *decoded)
{
    text_clear(decoded);
    json_string_decode(document, i, decoded);
    struct slice whole = text_slice(decoded);
    REQUIRE(json_string_equals(document, i, whole));
    if (whole.length) {
        REQUIRE(!json_string_equals(document, i, (struct slice){whole.data, whole.length - 1}));
        decoded->data[whole.length / 2] ^= 1;
        REQUIRE(!json_string_equals(document, i, whole));
    }
    /* Encoded and read again it is the same. */
    struct text encoded = {0};
    struct json_document again = {0};
    text_clear(decoded);
    json_string_decode(document, i, decoded);
    text_append_json_ascii(&encoded, text_slice(decoded));
    REQUIRE(json_parse(&again, encoded.data, encoded.length, 0, 1) == JSON_OK);
    REQUIRE(json_string_equals(&again, 0, text_slice(decoded)));
    json_free(&again);
    text_free(&encoded);
}

static void require_members(const struct json_document *document, uint32_t object, struct text *decoded)
{
    for (uint32_t key = object + 1; key < document->tokens[object].next;
         key = document->tokens[key + 1].next) {
        text_clear(decoded);
        text_reserve(decoded, 0)[0] = '\0';
        json_string_decode(document, key, decoded);
        if (strlen(decoded->data) == decoded->length) /* json_member takes C strings */
            REQUIRE(json_member(document, object, decoded->data) - key <
                    JSON_ABSENT - key); /* it or a later one */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_document document = {0};
    struct json_document checked = {0};
    struct text decoded = {0};
    if (!size)
        return 0;
    unsigned depth = data[0];
    size_t length = size - 1;
    char *text = malloc(length ? length : 1); /* of its own, so that each over-read is seen */
    REQUIRE(text);
    memcpy(text, data + 1, length);
    enum json_failure failure = json_parse(&document, text, length, depth, MAX_TOKENS);
    enum json_failure check = json_check(&checked, text, length, depth);
    if (failure != JSON_TOO_MANY) {
        REQUIRE(check == failure);
        REQUIRE(checked.message == document.message && checked.error_character == document.error_character);
    }
    if (failure != JSON_OK) {
        REQUIRE(document.message && document.count == 0 && document.error_character <= length);
    } else {
        REQUIRE(!document.message && document.count > 0 && document.tokens[0].next == document.count);
        for (uint32_t i = 0; i < document.count; i++) {
            require_token(&document, i, (uint32_t)document.count);
            if (document.tokens[i].type == JSON_STRING)
                require_string(&document, i, &decoded);
            if (document.tokens[i].type >= JSON_ARRAY)
                require_children(&document, i);
            if (document.tokens[i].type == JSON_OBJECT && document.count < 200)
                require_members(&document, i, &decoded);
            struct slice raw = json_raw(&document, i);
            if (document.count < 50)
                REQUIRE(json_check(&checked, raw.data, raw.length, depth) == JSON_OK);
        }
        /* what is cut off is refused, unless a number or white space was cut */
        char last = text[length - 1];
        if (last == '"' || last == '}' || last == ']')
            REQUIRE(json_check(&checked, text, length - 1, depth) != JSON_OK);
    }
    text_free(&decoded);
    json_free(&document);
    json_free(&checked);
    free(text);
    return 0;
}
