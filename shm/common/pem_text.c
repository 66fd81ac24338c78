#include "shm/common/pem_text.h"

#include <errno.h>
#include <string.h>

#define BEGIN  "-----BEGIN "
#define END    "-----END "
#define DASHES "-----"
/* base64 of "-----BEGIN". */
#define BEGIN_BASE64 "LS0tLS1CRUdJTi"
/* An OpenSSH key begins with "openssh-key-v1", a NUL and the cipher's name with its length. In base64: */
#define OPENSSH_BASE64      "b3BlbnNzaC1rZXktdjEA"
#define OPENSSH_CIPHER_NONE "AAAABG5vbmU"
#define LABEL_MAX           64
/* The writers' own widths, so that a proper text comes out as it was. */
#define WIDTH         64
#define WIDTH_OPENSSH 70

static struct slice slice_from(struct slice text, size_t at)
{
    return (struct slice){text.data + at, text.length - at};
}

static bool begins(struct slice text, const char *with)
{
    size_t length = strlen(with);
    return text.length >= length && memcmp(text.data, with, length) == 0;
}

static const char *find(struct slice text, const char *what)
{
    return text.length > 0 ? memmem(text.data, text.length, what, strlen(what)) : NULL;
}

/* ---- what stands for a line end ---- */

static bool is_line_escape(struct slice text)
{
    return begins(text, "\\n") || begins(text, "\\r");
}

/* Takes blanks, line ends and what stands for them off the front. */
static struct slice skip_separators(struct slice text)
{
    while (text.length > 0) {
        if (is_line_escape(text))
            text = slice_from(text, 2);
        else if (strchr(" \t\r\n_", text.data[0]) && text.data[0])
            text = slice_from(text, 1);
        else
            break;
    }
    return text;
}

/* Takes the next run of other characters off the front. False: there is none. */
static bool take_word(struct slice *text, struct slice *word)
{
    *text = skip_separators(*text);
    size_t length = 0;
    while (
        length < text->length && skip_separators(slice_from(*text, length)).length == text->length - length)
        length++;
    *word = (struct slice){text->data, length};
    *text = slice_from(*text, length);
    return length > 0;
}

/* ---- one block ---- */

struct block {
    struct slice label;
    /* Between the two lines. */
    struct slice inside;
};

/* Takes the first block off `text`. 0: there is none; -1 with `err`. */
MUST_CHECK static int take_block(struct slice *text, struct block *block, struct error *err)
{
    const char *begin = find(*text, BEGIN);
    if (!begin)
        return 0;
    struct slice rest = slice_from(*text, (size_t)(begin - text->data) + strlen(BEGIN));
    const char *dashes = find(rest, DASHES);
    if (!dashes || (size_t)(dashes - rest.data) > LABEL_MAX)
        return error_set(err, EINVAL, "its first line, -----BEGIN ...-----, is not whole");
    block->label = (struct slice){rest.data, (size_t)(dashes - rest.data)};
    rest = slice_from(rest, block->label.length + strlen(DASHES));
    const char *end = find(rest, END);
    if (!end && skip_separators(rest).length == 0)
        return error_set(err, EINVAL,
            "only its first line has arrived: in an env file write \\n in place of each line end");
    if (!end)
        return error_set(err, EINVAL, "its last line, -----END %.*s-----, is missing: the text is cut",
            (int)block->label.length, block->label.data);
    block->inside = (struct slice){rest.data, (size_t)(end - rest.data)};
    rest = slice_from(rest, block->inside.length + strlen(END));
    if (rest.length < block->label.length + strlen(DASHES) ||
        memcmp(rest.data, block->label.data, block->label.length) != 0 ||
        !begins(slice_from(rest, block->label.length), DASHES))
        return error_set(err, EINVAL, "its last line is not -----END %.*s-----", (int)block->label.length,
            block->label.data);
    *text = slice_from(rest, block->label.length + strlen(DASHES));
    return 1;
}

static bool is_base64(char byte)
{
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') ||
           byte == '+' || byte == '/' || byte == '=';
}

/* Collects the base64 digits of the words in `inside`. */
MUST_CHECK static int collect_digits(struct slice inside, struct text *digits, struct error *err)
{
    struct slice word;
    size_t padding = 0;
    while (take_word(&inside, &word)) {
        for (size_t i = 0; i < word.length; i++) {
            if (!is_base64(word.data[i]) || (padding > 0 && word.data[i] != '='))
                return error_set(err, EINVAL, "character %zu between its first and last line is not base64",
                    digits->length + i + 1);
            padding += word.data[i] == '=';
        }
        text_append_slice(digits, word);
    }
    if (digits->length == 0 || digits->length % 4 != 0 || padding > 2)
        return error_set(
            err, EINVAL, "its base64 text is cut: it has %zu characters, no multiple of 4", digits->length);
    return 0;
}

/* "Proc-Type: 4,ENCRYPTED" and "DEK-Info: ..." before the base64 of old encrypted keys. */
static void append_headers(struct slice *inside, struct text *out)
{
    struct slice rest = *inside, name, value;
    bool any = false;
    while (take_word(&rest, &name) && name.data[name.length - 1] == ':' && take_word(&rest, &value)) {
        text_append_format(out, "%.*s %.*s\n", (int)name.length, name.data, (int)value.length, value.data);
        *inside = rest;
        any = true;
    }
    if (any)
        text_append_char(out, '\n');
}

MUST_CHECK static int append_block(const struct block *block, struct text *out, struct error *err)
{
    struct slice inside = block->inside;
    struct text digits = {0};
    size_t width = begins(block->label, "OPENSSH") ? WIDTH_OPENSSH : WIDTH;
    text_append_format(out, BEGIN "%.*s" DASHES "\n", (int)block->label.length, block->label.data);
    append_headers(&inside, out);
    int result = collect_digits(inside, &digits, err);
    for (size_t at = 0; result == 0 && at < digits.length; at += width) {
        size_t left = digits.length - at;
        text_append(out, digits.data + at, left < width ? left : width);
        text_append_char(out, '\n');
    }
    text_append_format(out, END "%.*s" DASHES "\n", (int)block->label.length, block->label.data);
    if (digits.data)
        explicit_bzero(digits.data, digits.length);
    text_free(&digits);
    return result;
}

/* ---- from outside ---- */

bool pem_text_is(struct slice text)
{
    return find(text, BEGIN) != NULL;
}

int pem_text_repair(struct slice text, struct text *out, struct error *err)
{
    struct block block = {0};
    size_t blocks = 0;
    int taken;
    while ((taken = take_block(&text, &block, err)) > 0) {
        if (append_block(&block, out, err) < 0)
            return -1;
        blocks++;
    }
    if (taken < 0)
        return -1;
    if (blocks == 0)
        return error_set(err, EINVAL, "it has no line -----BEGIN ...-----%s",
            find(text, BEGIN_BASE64) ? ": it is PEM in base64 once more, which must be decoded first" : "");
    return 0;
}

static bool is_public(struct slice text)
{
    return begins(text, "ssh-") || begins(text, "ecdsa-") || begins(text, "sk-") ||
           find(text, " PUBLIC KEY-----");
}

int pem_text_repair_ssh_key(struct slice text, struct text *out, struct error *err)
{
    struct slice rest = skip_separators(text);
    size_t before = out->length;
    if (is_public(rest))
        return error_set(err, EINVAL, "it is a public key: the private key is wanted");
    if (!pem_text_is(rest) && rest.length > 0 && strchr("/~.", rest.data[0]))
        return error_set(err, EINVAL, "it is a path: the key itself is wanted; the _FILE form takes a path");
    if (pem_text_repair(text, out, err) < 0)
        return -1;
    struct slice made = slice_from(text_slice(out), before);
    const char *openssh = find(made, "\n" OPENSSH_BASE64);
    if (!find(made, "PRIVATE KEY" DASHES))
        return error_set(err, EINVAL, "it is not a private key");
    if (find(made, "ENCRYPTED") || (openssh && strncmp(openssh + 1 + strlen(OPENSSH_BASE64),
                                                   OPENSSH_CIPHER_NONE, strlen(OPENSSH_CIPHER_NONE)) != 0))
        return error_set(err, EINVAL, "it is encrypted, and no one can be asked for its passphrase");
    return 0;
}
