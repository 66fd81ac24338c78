#include "server/options/problems.h"

#include <stdarg.h>
#include <stdio.h>

#include "shm/common/error.h"

void problems_add(struct problems *problems, const char *format, ...)
{
    char line[ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    problems->count++;
    problems->report(problems->context, line);
}
