#include "shm/common/rate_limit.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include "shm/common/text.h"

static const struct granularity {
    const char *name;
    /* months and years as the library counts them */
    int64_t seconds;
} granularities[] = {
    {"second", 1},
    {"minute", 60},
    {"hour", 3600},
    {"day", 86400},
    {"month", INT64_C(30) * 86400},
    {"year", INT64_C(360) * 86400},
};

static const char *skip_space(const char *at)
{
    while (text_is_space(*at))
        at++;
    return at;
}

/* Digits up to what is far more than any limit allows; false when there are none. */
static bool read_number(const char **at, int64_t *number)
{
    const char *start = *at;
    *number = 0;
    for (; isdigit((unsigned char)**at); ++*at)
        if (*number < INT64_C(1000000000000))
            *number = *number * 10 + (**at - '0');
    return *at > start;
}

static const struct granularity *read_granularity(const char **at)
{
    size_t length = 0;
    while (isalpha((unsigned char)(*at)[length]))
        length++;
    for (size_t i = 0; i < sizeof granularities / sizeof *granularities; i++) {
        const struct granularity *one = &granularities[i];
        size_t name = strlen(one->name);
        bool plural = length == name + 1 && tolower((unsigned char)(*at)[name]) == 's';
        if (length < name || strncasecmp(*at, one->name, name) != 0 || (length != name && !plural))
            continue;
        *at += length;
        return one;
    }
    return NULL;
}

/* amount, "/" or "per", perhaps a number, the unit */
static int read_limit(const char **at, struct rate_limit *limit, struct error *err)
{
    int64_t amount, multiples = 1;
    *at = skip_space(*at);
    if (!read_number(at, &amount))
        return error_set(err, EINVAL, "a number was expected at '%s'", *at);
    *at = skip_space(*at);
    if (**at == '/')
        ++*at;
    else if (strncasecmp(*at, "per", 3) == 0)
        *at += 3;
    else
        return error_set(err, EINVAL, "'/' or 'per' was expected at '%s'", *at);
    *at = skip_space(*at);
    read_number(at, &multiples);
    if (multiples == 0)
        multiples = 1;
    *at = skip_space(*at);
    const struct granularity *unit = read_granularity(at);
    if (!unit)
        return error_set(err, EINVAL,
            "second, minute, hour, day, month or year (or their plural) was expected at '%s'", *at);
    *at = skip_space(*at);
    if (amount > RATE_LIMIT_AMOUNT_MAX)
        return error_set(err, ERANGE, "at most %d in one window can be counted", RATE_LIMIT_AMOUNT_MAX);
    if (multiples > RATE_LIMIT_SECONDS_MAX / unit->seconds)
        return error_set(err, ERANGE, "a window can last 100 years at most");
    *limit = (struct rate_limit){.amount = (uint32_t)amount,
        .multiples = (uint32_t)multiples,
        .granularity = unit->name,
        .window_ms = (uint64_t)(multiples * unit->seconds) * 1000};
    return 0;
}

int rate_limits_parse(const char *notation, struct rate_limits *limits, struct error *err)
{
    const char *at = notation;
    limits->count = 0;
    for (;;) {
        if (limits->count == RATE_LIMITS_MAX)
            return error_set(err, E2BIG, "more than %d limits", RATE_LIMITS_MAX);
        if (read_limit(&at, &limits->items[limits->count], err) < 0)
            return -1;
        limits->count++;
        if (*at == '\0')
            return 0;
        if (*at == ':' &&
            at[1] != '\0') /* the library's grammar has this slip, and so somebody's setting may */
            at++;
        if (!strchr(",;|", *at))
            return error_set(err, EINVAL, "',', ';' or '|' was expected at '%s'", at);
        at++;
    }
}
