/*
 * The server's own JSON documents, read and written by cJSON (<cjson/cJSON.h>, which this header includes).
 * Payloads and request bodies are not read this way: shm/common/json.h slices them, so that they pass through
 * as the bytes they came as.
 *
 * A document that comes from outside this process goes through the scanner's check (depth, count of values,
 * UTF-8) before cJSON sees it. Allocation failure ends the process, in cJSON as everywhere
 * (shm/common/memory.h). Any thread; a document is used by one thread at a time.
 */
#ifndef OPALD_SHM_COMMON_DOCUMENT_H
#define OPALD_SHM_COMMON_DOCUMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <cjson/cJSON.h>
#include "shm/common/object.h"
#include "shm/common/text.h"

struct document_limits {
    /* levels of nesting; below cJSON's own 1000 */
    unsigned depth;
    /* values, keys included */
    size_t values;
};

/*
 * NULL unless `text` is JSON within the limits. cJSON refuses what only Python takes for JSON (NaN, Infinity,
 * lone surrogates), and a string ends at \u0000. The caller's, for cJSON_Delete.
 */
MUST_CHECK cJSON *document_parse(struct slice text, const struct document_limits *limits);
/*
 * The value of `key` in an object: the last one when the key is there twice, as in Python. NULL: absent, or
 * not an object.
 */
MUST_CHECK const cJSON *document_member(const cJSON *object, const char *key);

/*
 * Appends the document without white space; characters above ASCII as UTF-8. As the reference's HTTP bodies.
 */
void document_write(const cJSON *document, struct text *out);
/*
 * Appends the document with ", " and ": " between its parts and in ASCII, as Python's json.dumps writes it.
 */
void document_write_python(const cJSON *document, struct text *out);

#endif
