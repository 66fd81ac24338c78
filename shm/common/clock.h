/* Time. Monotonic nanoseconds for every interval; the wall clock only for what people read. */
#ifndef OPALD_SHM_COMMON_CLOCK_H
#define OPALD_SHM_COMMON_CLOCK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

#define CLOCK_SECOND      UINT64_C(1000000000)
#define CLOCK_MILLISECOND UINT64_C(1000000)

uint64_t clock_monotonic_ns(void);

/* For timers of the loop: rounded down to microseconds. `seconds` is not negative. */
static inline struct timeval clock_timeval(double seconds)
{
    return (struct timeval){(time_t)seconds, (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6)};
}
static inline struct timeval clock_timeval_ns(uint64_t nanoseconds)
{
    return (struct timeval){
        (time_t)(nanoseconds / CLOCK_SECOND), (suseconds_t)(nanoseconds % CLOCK_SECOND / 1000)};
}

/* Microseconds since 1970. */
uint64_t clock_realtime_us(void);
/* "2026-11-24T02:57:13.790739+0000", local time zone. `out` needs 40 bytes. */
void clock_format_log(char *out, size_t size);
/* "Tue, 24 Nov 2026 02:57:13 GMT" (RFC 9110 5.6.7), made anew once a second. Valid until the next call. One
 * thread only. */
const char *clock_http_date(void);

#endif
