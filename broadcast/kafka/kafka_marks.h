/*
 * What the messages of a partition looked like: one number per offset, for the last KAFKA_MARKS_MOST offsets.
 * By these a message that was read before is known again, whatever has happened to the log meanwhile. Pure.
 */
#ifndef OPALD_BROADCAST_KAFKA_KAFKA_MARKS_H
#define OPALD_BROADCAST_KAFKA_KAFKA_MARKS_H

#include <stddef.h>
#include <stdint.h>

#define KAFKA_MARKS_MOST 65536
/* There was no message at this offset, or it is not known. */
#define KAFKA_MARK_NONE 0

/* The offsets from `first` to before `end` are known. Zero-initialised: none. */
struct kafka_marks {
    int64_t first;
    int64_t end;
    /* By offset % capacity; NULL while empty. */
    uint64_t *marks;
    size_t capacity;
};

/* The mark of a message; never KAFKA_MARK_NONE. It is made of the time stamp, the length and both ends of the
 * value. */
uint64_t kafka_mark_make(int64_t timestamp_ms, const void *value, size_t length);

void kafka_marks_free(struct kafka_marks *marks);
/* Forgets what is before `first`. */
void kafka_marks_drop(struct kafka_marks *marks, int64_t first);
/* Forgets what is at `end` and behind it. */
void kafka_marks_cut(struct kafka_marks *marks, int64_t end);
/* Sets the mark of an offset. Offsets that are passed over hold no message. What does not fit next to it is
 * forgotten. */
void kafka_marks_put(struct kafka_marks *marks, int64_t offset, uint64_t mark);
/* KAFKA_MARK_NONE when there was no message, or when the offset is not known. */
uint64_t kafka_marks_get(const struct kafka_marks *marks, int64_t offset);
/* How many messages are known at the offsets from `first` to before `end`. Looks at each offset. */
size_t kafka_marks_count(const struct kafka_marks *marks, int64_t first, int64_t end);

#endif
