/* Collects what is wrong with a configuration: one line for each problem, all of them, not only the first. */
#ifndef OPALD_SERVER_OPTIONS_PROBLEMS_H
#define OPALD_SERVER_OPTIONS_PROBLEMS_H

#include <stddef.h>

/* Called with one line for each thing that is wrong: the option, the value (never a secret one), what would
 * be right. */
typedef void problem_report(void *context, const char *line);

struct problems {
    problem_report *report;
    void *context;
    size_t count;
};

void problems_add(struct problems *problems, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
