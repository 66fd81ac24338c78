#include "shm/common/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *err, int code, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        err->code = code;
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
    }
    return -1;
}

int error_set_errno(struct error *err, int code, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        err->code = code;
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof err->text - used, ": %s", strerror(code));
    }
    return -1;
}

int error_prefix(struct error *err, const char *format, ...)
{
    if (err) {
        char prefix[ERROR_TEXT_MAX];
        char old[ERROR_TEXT_MAX];
        va_list args;
        va_start(args, format);
        vsnprintf(prefix, sizeof prefix, format, args);
        va_end(args);
        memcpy(old, err->text, sizeof old);
        size_t used = strlen(prefix);
        memcpy(err->text, prefix, used);
        int written = snprintf(err->text + used, sizeof err->text - used, ": %s", old);
        if (written < 0) /* a longer text is cut, which is fine; nothing else can fail */
            err->text[used] = '\0';
    }
    return -1;
}
