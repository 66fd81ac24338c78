/* Numbers as Python prints them: repr() of int and float, which is what a number becomes where a string is wanted. */
#include "worker/rpc/rpc_message.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The shortest digits that read back as the same double, as "d.ddde+xx". */
static void number_shortest(double value, char *out, size_t size)
{
    for (int precision = 0; precision < 17; precision++) {
        snprintf(out, size, "%.*e", precision, value);
        if (strtod(out, NULL) == value)
            return;
    }
}

static void number_format_float(double value, struct text *out)
{
    if (isnan(value)) {
        text_append_string(out, "nan");
        return;
    }
    if (isinf(value)) {
        text_append_string(out, value < 0 ? "-inf" : "inf");
        return;
    }
    char shortest[40];
    number_shortest(value, shortest, sizeof(shortest));
    const char *mark = strchr(shortest, 'e');
    long exponent = strtol(mark + 1, NULL, 10);
    char digits[24];
    size_t count = 0;
    for (const char *at = shortest; at < mark; at++)
        if (*at >= '0' && *at <= '9' && count < sizeof(digits))
            digits[count++] = *at;
    if (signbit(value))
        text_append_char(out, '-');
    if (exponent < -4 || exponent >= 16) { /* Python's float_repr_style "short" */
        text_append_char(out, digits[0]);
        if (count > 1) {
            text_append_char(out, '.');
            text_append(out, digits + 1, count - 1);
        }
        text_append_format(out, "e%c%02ld", exponent < 0 ? '-' : '+', labs(exponent));
        return;
    }
    if (exponent < 0) {
        text_append_string(out, "0.");
        for (long i = -1; i > exponent; i--)
            text_append_char(out, '0');
        text_append(out, digits, count);
        return;
    }
    for (long i = 0; i <= exponent || (size_t)i < count; i++) {
        if (i == exponent + 1)
            text_append_char(out, '.');
        text_append_char(out, (size_t)i < count ? digits[i] : '0');
    }
    if (count <= (size_t)exponent + 1)
        text_append_string(out, ".0");
}

void rpc_number_format(struct slice number, bool integer, struct text *out)
{
    if (integer) {
        if (slice_equals_string(number, "-0"))
            number = SLICE_LITERAL("0");
        text_append_slice(out, number);
        return;
    }
    struct text copy = {0}; /* strtod wants a NUL */
    text_append_slice(&copy, number);
    double value;
    if (slice_equals_string(number, "NaN"))
        value = (double)NAN;
    else
        value = strtod(copy.data, NULL); /* knows "Infinity" */
    text_free(&copy);
    number_format_float(value, out);
}
