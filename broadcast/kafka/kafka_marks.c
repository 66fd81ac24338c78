#include "broadcast/kafka/kafka_marks.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/memory.h"

#define KAFKA_MARKS_LEAST 64
/* Of each end of a value. */
#define KAFKA_MARK_BYTES 64

/* Eight bytes per step: this runs for every message. */
static uint64_t kafka_mark_add(uint64_t mark, const void *data, size_t length)
{
    const char *bytes = data;
    for (size_t i = 0; i < length; i += sizeof(uint64_t)) {
        uint64_t word = 0;
        memcpy(&word, bytes + i, length - i < sizeof word ? length - i : sizeof word);
        mark = (mark ^ word) * 0x9e3779b97f4a7c15u;
        mark ^= mark >> 32;
    }
    return mark;
}

uint64_t kafka_mark_make(int64_t timestamp_ms, const void *value, size_t length)
{
    size_t part = length < KAFKA_MARK_BYTES ? length : KAFKA_MARK_BYTES;
    uint64_t mark = kafka_mark_add(1, &timestamp_ms, sizeof timestamp_ms);
    mark = kafka_mark_add(mark, &length, sizeof length);
    if (value) {
        mark = kafka_mark_add(mark, value, part);
        mark = kafka_mark_add(mark, (const char *)value + length - part, part);
    }
    return mark != KAFKA_MARK_NONE ? mark : 1;
}

static uint64_t *kafka_marks_place(const struct kafka_marks *marks, int64_t offset)
{
    return &marks->marks[(size_t)offset & (marks->capacity - 1)];
}

/* Room for the offsets from `first` to before `end`, as far as KAFKA_MARKS_MOST allows. */
static void kafka_marks_grow(struct kafka_marks *marks, int64_t first, int64_t end)
{
    size_t wanted = marks->capacity ? marks->capacity : KAFKA_MARKS_LEAST;
    while (wanted < KAFKA_MARKS_MOST && (uint64_t)(end - first) > wanted)
        wanted *= 2;
    if (wanted == marks->capacity)
        return;
    const struct kafka_marks smaller = *marks;
    marks->marks = memory_allocate(wanted * sizeof(uint64_t));
    marks->capacity = wanted;
    for (int64_t offset = marks->first; offset < marks->end; offset++)
        *kafka_marks_place(marks, offset) = *kafka_marks_place(&smaller, offset);
    free(smaller.marks);
}

void kafka_marks_free(struct kafka_marks *marks)
{
    free(marks->marks);
    *marks = (struct kafka_marks){0};
}

void kafka_marks_drop(struct kafka_marks *marks, int64_t first)
{
    if (first >= marks->end)
        marks->first = marks->end = first;
    else if (first > marks->first)
        marks->first = first;
}

void kafka_marks_cut(struct kafka_marks *marks, int64_t end)
{
    if (end < marks->end)
        marks->end = end;
    if (end < marks->first)
        marks->first = end;
}

static void kafka_marks_append(struct kafka_marks *marks, int64_t offset, uint64_t mark)
{
    kafka_marks_grow(marks, marks->first, offset + 1);
    int64_t least = offset + 1 - (int64_t)marks->capacity;
    if (marks->first < least)
        marks->first = least;
    if (marks->end < marks->first)
        marks->end = marks->first;
    for (; marks->end < offset; marks->end++)
        *kafka_marks_place(marks, marks->end) = KAFKA_MARK_NONE;
    *kafka_marks_place(marks, offset) = mark;
    marks->end = offset + 1;
}

static void kafka_marks_prepend(struct kafka_marks *marks, int64_t offset)
{
    if (marks->end - offset > KAFKA_MARKS_MOST)
        marks->end = marks->first = offset + 1;
    kafka_marks_grow(marks, offset, marks->end);
    while (marks->first > offset)
        *kafka_marks_place(marks, --marks->first) = KAFKA_MARK_NONE;
}

void kafka_marks_put(struct kafka_marks *marks, int64_t offset, uint64_t mark)
{
    if (marks->first == marks->end)
        marks->first = marks->end = offset;
    if (offset >= marks->end) {
        kafka_marks_append(marks, offset, mark);
        return;
    }
    if (offset < marks->first)
        kafka_marks_prepend(marks, offset);
    *kafka_marks_place(marks, offset) = mark;
}

uint64_t kafka_marks_get(const struct kafka_marks *marks, int64_t offset)
{
    return offset >= marks->first && offset < marks->end ? *kafka_marks_place(marks, offset)
                                                         : KAFKA_MARK_NONE;
}

size_t kafka_marks_count(const struct kafka_marks *marks, int64_t first, int64_t end)
{
    size_t count = 0;
    for (int64_t offset = first > marks->first ? first : marks->first; offset < end && offset < marks->end;
         offset++)
        count += kafka_marks_get(marks, offset) != KAFKA_MARK_NONE;
    return count;
}
