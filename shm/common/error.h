/* Errors that travel up: a code and a text that each level may extend. */
#ifndef OPALD_SHM_COMMON_ERROR_H
#define OPALD_SHM_COMMON_ERROR_H

#define ERROR_TEXT_MAX 512

/* Owned by the caller, usually on its stack. A zeroed struct means "no error yet". */
struct error {
    /* an errno value, or -1 where none fits */
    int code;
    char text[ERROR_TEXT_MAX];
};

/* Sets code and text; always returns -1, so that a failing function can `return error_set(...)`. `err` may
 * be NULL. */
int error_set(struct error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* As error_set with strerror(code) appended after ": ". */
int error_set_errno(struct error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the text that is there; always returns -1. */
int error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
