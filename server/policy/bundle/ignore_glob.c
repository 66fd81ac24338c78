#include "server/policy/bundle/ignore_glob.h"

#include <stdbool.h>
#include <string.h>

#include "shm/common/utf8.h"

/* ---- one part of a path, as Python's fnmatch.fnmatchcase ---- */

/* Takes one character off. Ill-formed UTF-8 goes byte by byte, each byte as Python's surrogateescape names
 * it. */
static uint32_t take_character(struct slice *rest)
{
    uint32_t point;
    size_t length = utf8_decode(*rest, &point);
    if (point == UTF8_ILL_FORMED) {
        point = 0xdc00u + (uint8_t)rest->data[0];
        length = 1;
    }
    *rest = (struct slice){rest->data + length, rest->length - length};
    return point;
}

/* Length of the set's inside when `pattern`, which follows a '[', has its ']' ("[]a]" holds a ']'); 0:
 * '[' is an ordinary character. */
static size_t set_length(struct slice pattern)
{
    size_t at = pattern.length > 0 && pattern.data[0] == '!';
    if (at < pattern.length && pattern.data[at] == ']')
        at++;
    while (at < pattern.length && pattern.data[at] != ']')
        at++;
    return at < pattern.length ? at : 0;
}

static bool set_has(struct slice set, uint32_t character)
{
    bool negated = set.data[0] == '!';
    bool found = false;
    if (negated)
        set = (struct slice){set.data + 1, set.length - 1};
    while (set.length > 0) {
        uint32_t low = take_character(&set), high = low;
        if (set.length >= 2 && set.data[0] == '-') {
            set = (struct slice){set.data + 1, set.length - 1};
            high = take_character(&set);
        }
        found = found || (character >= low && character <= high);
    }
    return found != negated;
}

/* Takes one element that is no star off the pattern and one character off the text. */
static bool match_one(struct slice *pattern, struct slice *text)
{
    if (text->length == 0)
        return false;
    uint32_t wanted = take_character(pattern);
    uint32_t character = take_character(text);
    if (wanted == '?')
        return true;
    size_t length = wanted == '[' ? set_length(*pattern) : 0;
    if (length == 0)
        return wanted == character;
    struct slice set = {pattern->data, length};
    *pattern = (struct slice){pattern->data + length + 1, pattern->length - length - 1};
    return set_has(set, character);
}

/* Only the last star is ever gone back to, so the work is at most the product of the lengths. */
static bool match_part(struct slice pattern, struct slice text)
{
    struct slice star_pattern = {0}, star_text = {0};
    for (;;) {
        if (pattern.length > 0 && pattern.data[0] == '*') {
            pattern = (struct slice){pattern.data + 1, pattern.length - 1};
            star_pattern = pattern;
            star_text = text;
            continue;
        }
        if (pattern.length == 0 && text.length == 0)
            return true;
        if (pattern.length > 0 && match_one(&pattern, &text))
            continue;
        if (!star_pattern.data || star_text.length == 0)
            return false;
        take_character(&star_text);
        pattern = star_pattern;
        text = star_text;
    }
}

/* ---- whole paths ---- */

/* Takes the last part off; "." parts and doubled slashes count for nothing. False: none is left. */
static bool take_last_part(struct slice *path, struct slice *part)
{
    while (path->length > 0) {
        const char *slash = memrchr(path->data, '/', path->length);
        size_t begin = slash ? (size_t)(slash - path->data) + 1 : 0;
        *part = (struct slice){path->data + begin, path->length - begin};
        path->length = slash ? begin - 1 : 0;
        if (part->length > 0 && !slice_equals_string(*part, "."))
            return true;
    }
    return false;
}

static bool match_from_right(struct slice pattern, struct slice path)
{
    struct slice pattern_part, path_part;
    bool any = false;
    if (pattern.length > 0 && pattern.data[0] == '/')
        return false;
    while (take_last_part(&pattern, &pattern_part)) {
        if (!take_last_part(&path, &path_part) || !match_part(pattern_part, path_part))
            return false;
        any = true;
    }
    return any;
}

static bool match_pattern(struct slice pattern, struct slice path)
{
    if (slice_equals_string(pattern, "/") || slice_equals_string(pattern, "/**"))
        return true;
    if (pattern.length < 3 || memcmp(pattern.data + pattern.length - 3, "/**", 3) != 0)
        return match_from_right(pattern, path);
    pattern.length -= 3;
    return path.length >= pattern.length && memcmp(path.data, pattern.data, pattern.length) == 0 &&
           (path.length == pattern.length || path.data[pattern.length] == '/');
}

const char *ignore_glob_find(const struct config_list *patterns, struct slice path)
{
    for (size_t i = 0; i < patterns->count; i++)
        if (match_pattern(slice_from_string(patterns->items[i]), path))
            return patterns->items[i];
    return NULL;
}
