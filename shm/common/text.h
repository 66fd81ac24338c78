/*
 * A growable byte buffer for building messages. One owner, one process, no locks.
 * Allocation failure ends the process (see memory.h): a daemon that can't get a few bytes can't tell anybody
 * anything.
 */
#ifndef OPALD_SHM_COMMON_TEXT_H
#define OPALD_SHM_COMMON_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/object.h"

/* A view of bytes owned by somebody else; not NUL-terminated. `data` is NULL only for an absent value. */
struct slice {
    const char *data;
    size_t length;
};

#define SLICE_LITERAL(literal) ((struct slice){(literal), sizeof(literal) - 1})

struct slice slice_from_string(const char *string); /* NULL gives an absent slice */
bool slice_equals(struct slice a, struct slice b);
bool slice_equals_string(struct slice a, const char *string);
/* ASCII letters only; no locale. */
bool slice_equals_ignoring_case(struct slice a, const char *string);
bool slice_starts_ignoring_case(struct slice slice, const char *prefix);

#define TEXT_BLANKS " \t"         /* optional white space in headers (RFC 9110 5.6.3) */
#define TEXT_SPACES " \t\n\v\f\r" /* what Python's str.strip() takes off ASCII text */
bool text_is_space(char byte);    /* one of TEXT_SPACES */
/* Without the bytes of `set` at either end. */
struct slice slice_trim(struct slice slice, const char *set);

/* A number from 0 to `most` in decimal digits and nothing else, no more of them than `most` has. */
MUST_CHECK bool slice_read_number(struct slice digits, uint64_t most, uint64_t *number);

/* Zero-initialise; text_free when done. `data` is NUL-terminated once anything was appended. */
struct text {
    char *data;
    size_t length;
    size_t capacity;
};

void text_free(struct text *text);
/* Keeps the memory, drops the content. */
void text_clear(struct text *text);
/* Makes room for `more` bytes and returns where they go; the caller adds to `length` what it wrote. */
char *text_reserve(struct text *text, size_t more);
void text_append(struct text *text, const void *bytes, size_t length);
void text_append_slice(struct text *text, struct slice slice);
void text_append_string(struct text *text, const char *string);
void text_append_char(struct text *text, char byte);
void text_append_format(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct slice text_slice(const struct text *text);

/*
 * Appends UTF-8 `value` as a JSON string with its quotes.
 * text_append_json_ascii: as Python's json.dumps default (code points above 0x7e as \uXXXX in lower-case hex,
 * surrogate pairs beyond the BMP, short forms \n \r \t \b \f, `/` left alone): websocket and backbone.
 * text_append_json_utf8: as ensure_ascii=False (only control characters, `"` and `\` escaped): HTTP bodies.
 * What is ill-formed becomes U+FFFD; surrogates in WTF-8 count as well-formed (shm/common/utf8.h).
 */
void text_append_json_ascii(struct text *text, struct slice value);
void text_append_json_utf8(struct text *text, struct slice value);
/* Appends a code point as \uXXXX, beyond the BMP as a surrogate pair. */
void text_append_json_escape(struct text *text, uint32_t point);

/* Appends `value` with U+FFFD for each part that is not UTF-8; a surrogate gives three, as in Python. */
void text_append_repaired(struct text *text, struct slice value);

/* 0 to 15, or -1 for what is no hexadecimal digit. */
int text_hex_value(char digit);

#endif
