/*
 * For tests/integration/test_json_differential.py: reads texts from stdin (length as 4 bytes, little endian,
 * then the bytes) and prints for each one line: failure check-failure error-character message | type start
 * end next size decoded-hex ; ...
 */
#include "shm/common/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"

static void print_tokens(const struct json_document *document)
{
    struct text decoded = {0};
    for (uint32_t i = 0; i < document->count; i++) {
        const struct json_token *token = &document->tokens[i];
        printf("%u %u %u %u %u ", token->type, token->start, token->end, token->next, token->size);
        if (token->type == JSON_STRING) {
            text_clear(&decoded);
            json_string_decode(document, i, &decoded);
            if (!json_string_equals(document, i, text_slice(&decoded))) {
                fprintf(stderr, "json_string_equals disagrees with json_string_decode\n");
                exit(1);
            }
            for (size_t k = 0; k < decoded.length; k++)
                printf("%02x", (unsigned char)decoded.data[k]);
        }
        putchar(';');
    }
    text_free(&decoded);
}

int main(int argc, char **argv)
{
    struct json_document document = {0};
    struct json_document checked = {0};
    unsigned depth = argc > 1 ? (unsigned)atoi(argv[1]) : 512;
    uint8_t head[4];
    while (fread(head, 1, 4, stdin) == 4) {
        size_t length = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        /* of the exact size, so that AddressSanitizer sees an over-read */
        char *text = malloc(length ? length : 1);
        if (!text || fread(text, 1, length, stdin) != length)
            return 1;
        enum json_failure failure = json_parse(&document, text, length, depth, JSON_TOKENS_DEFAULT);
        enum json_failure check = json_check(&checked, text, length, depth);
        if (document.error_character != checked.error_character || document.message != checked.message)
            return 1;
        printf("%d\t%d\t%zu\t%s\t", failure, check, document.error_character,
            document.message ? document.message : "");
        if (failure == JSON_OK)
            print_tokens(&document);
        putchar('\n');
        fflush(stdout);
        free(text);
    }
    json_free(&document);
    json_free(&checked);
    return 0;
}
