#include "server/policy/source/job_reason.h"

#include <string.h>
#include <sys/wait.h>

#include "shm/common/child.h"

#define REASON_LINES 8

static bool holds(struct slice text, const char *words)
{
    return text.length > 0 && memmem(text.data, text.length, words, strlen(words));
}

static bool begins(struct slice text, const char *words)
{
    size_t length = strlen(words);
    return text.length >= length && memcmp(text.data, words, length) == 0;
}

/* "Receiving objects: 42% (3/7), 1.2 MiB", "remote: Counting objects: 3, done.", "Total 3 (delta 0), reused
 * 0" */
static bool is_progress(struct slice line)
{
    return holds(line, "% (") || holds(line, ", done.") || begins(line, "Total ") ||
           begins(line, "remote: Total ") || holds(line, "numerating objects:") ||
           holds(line, "ounting objects:");
}

/* What git and ssh print when nothing is wrong, or behind every failure. */
static bool is_chatter(struct slice line)
{
    static const char *const beginnings[] = {"Cloning into '", "From ", " * ", " + ", "   ",
        "Please make sure you have the correct access rights", "and the repository exists.",
        "Warning: Permanently added"};
    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++)
        if (begins(line, beginnings[i]))
            return true;
    return false;
}

struct reasons {
    struct slice lines[REASON_LINES];
    size_t count;
};

/* The last ones are kept. */
static void reasons_add(struct reasons *reasons, struct slice line)
{
    if (line.length == 0 || is_progress(line) || is_chatter(line))
        return;
    if (reasons->count == REASON_LINES)
        memmove(reasons->lines, reasons->lines + 1, sizeof *reasons->lines * (REASON_LINES - 1));
    else
        reasons->count++;
    reasons->lines[reasons->count - 1] = line;
}

static void reasons_collect(struct reasons *reasons, struct slice errors)
{
    size_t begin = 0;
    for (size_t at = 0; at <= errors.length; at++) {
        if (at < errors.length && errors.data[at] != '\n' && errors.data[at] != '\r')
            continue;
        reasons_add(reasons, (struct slice){errors.data + begin, at - begin});
        begin = at + 1;
    }
}

void job_reason_append(struct text *out, struct slice errors, const struct job_end *end)
{
    struct reasons reasons = {0};
    reasons_collect(&reasons, errors);
    if (end->too_much)
        text_append_format(out, "%s wrote more than %zu bytes; ", end->name, end->output_max);
    else if (end->late)
        text_append_format(out, "%s made no progress in time and was killed; ", end->name);
    for (size_t i = 0; i < reasons.count; i++) {
        if (i > 0)
            text_append_string(out, "; ");
        text_append_slice(out, reasons.lines[i]);
    }
    if (reasons.count > 0)
        return;
    if (WIFEXITED(end->status) && WEXITSTATUS(end->status) == CHILD_STATUS_NO_START)
        text_append_format(out, "%s: the program can't be started", end->name);
    else if (WIFEXITED(end->status))
        text_append_format(out, "%s ended with status %d", end->name, WEXITSTATUS(end->status));
    else
        text_append_format(out, "%s was killed by signal %d", end->name, WTERMSIG(end->status));
}

bool job_reason_is_file_too_large(struct slice errors)
{
    return holds(errors, "File too large");
}
