/* When a clone is measured, how much a fetch may bring, and when there is no room: histories as tables. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "server/policy/source/git_room.h"

#define KIB   UINT64_C(1024)
#define LIMIT (1000 * KIB)

enum event { NEXT, MEASURED, FETCHED, PACKED };

struct step {
    enum event event;
    /* Of MEASURED. */
    uint64_t bytes;
    /* What NEXT must give. */
    enum git_room_step step;
    uint64_t pack_bytes_max;
};

static void play(struct git_room room, const struct step *steps, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t pack_bytes_max = 77;
        switch (steps[i].event) {
        case NEXT:
            if (git_room_next(&room, &pack_bytes_max) != steps[i].step)
                fail_msg("step %zu", i);
            assert_int_equal(pack_bytes_max, steps[i].pack_bytes_max);
            break;
        case MEASURED:
            git_room_measured(&room, steps[i].bytes);
            break;
        case FETCHED:
            git_room_fetched(&room);
            break;
        case PACKED:
            git_room_packed(&room);
            break;
        }
    }
}

#define PLAY(room, ...) \
    play(room, (const struct step[]){__VA_ARGS__}, \
        sizeof((const struct step[]){__VA_ARGS__}) / sizeof(struct step))
#define MEASURE \
    { \
        .event = NEXT, .step = GIT_ROOM_MEASURE \
    }
#define FETCH(bytes) \
    { \
        .event = NEXT, .step = GIT_ROOM_FETCH, .pack_bytes_max = (bytes) \
    }
#define CLONE \
    { \
        .event = NEXT, .step = GIT_ROOM_CLONE \
    }
#define HAS(number) \
    { \
        .event = MEASURED, .bytes = (number) \
    }
#define BROUGHT \
    { \
        .event = FETCHED \
    }
#define GC \
    { \
        .event = PACKED \
    }

/* Each fetch that brings something makes the clone larger: what was measured before counts no more. */
static void test_measured_again_and_again(void **state)
{
    (void)state;
    PLAY(git_room_of_new_clone(LIMIT), MEASURE, HAS(100 * KIB), FETCH(900 * KIB), BROUGHT, MEASURE,
        HAS(400 * KIB), FETCH(600 * KIB), BROUGHT, MEASURE, HAS(800 * KIB), FETCH(200 * KIB), GC, MEASURE,
        HAS(300 * KIB), FETCH(700 * KIB));
    PLAY(git_room_of_found_clone(LIMIT), MEASURE, HAS(100 * KIB), FETCH(900 * KIB), BROUGHT, MEASURE);
}

static void test_not_measured_without_need(void **state)
{
    (void)state;
    PLAY(git_room_of_found_clone(LIMIT), MEASURE, HAS(100 * KIB), FETCH(900 * KIB), FETCH(900 * KIB));
    /* Without a limit it is never measured. */
    PLAY(git_room_of_new_clone(0), FETCH(0), BROUGHT, FETCH(0));
}

static void test_no_room(void **state)
{
    (void)state;
    PLAY(git_room_of_found_clone(LIMIT), MEASURE, HAS(LIMIT - 64 * KIB), FETCH(64 * KIB));
    PLAY(git_room_of_found_clone(LIMIT), MEASURE, HAS(LIMIT - 64 * KIB + 1), CLONE);
    PLAY(git_room_of_found_clone(LIMIT), MEASURE, HAS(LIMIT), CLONE);
    PLAY(git_room_of_found_clone(LIMIT), MEASURE, HAS(2 * LIMIT), CLONE);
    /* A new clone would be no smaller: it may take in a little. */
    PLAY(git_room_of_new_clone(LIMIT), MEASURE, HAS(LIMIT), FETCH(64 * KIB), BROUGHT, MEASURE, HAS(LIMIT + 1),
        CLONE);
    PLAY(git_room_of_new_clone(LIMIT), MEASURE, HAS(LIMIT), GC, MEASURE, HAS(LIMIT), FETCH(64 * KIB));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_measured_again_and_again),
        cmocka_unit_test(test_not_measured_without_need), cmocka_unit_test(test_no_room)};
    return cmocka_run_group_tests_name("server/policy/source/git_room", tests, NULL, NULL);
}
