#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include "broadcast/redis/redis_reply.h"

static struct redis_reply *get(redisReader *reader)
{
    void *reply = NULL;
    assert_int_equal(redisReaderGetReply(reader, &reply), 0);
    return reply;
}

static void feed(redisReader *reader, const char *bytes)
{
    assert_int_equal(redisReaderFeed(reader, bytes, strlen(bytes)), 0);
}

static void reads_a_message_byte_by_byte(void **state)
{
    static const char bytes[] =
        "*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$4\r\na\r\nb\r\n:12\r\n-ERR no\r\n$-1\r\n";
    redisReader *reader = redis_reply_reader();
    struct redis_reply *replies[4];
    int count = 0;
    (void)state;
    for (const char *at = bytes; *at; at++) {
        assert_int_equal(redisReaderFeed(reader, at, 1), 0);
        struct redis_reply *reply = get(reader);
        if (reply)
            replies[count++] = reply;
    }
    assert_int_equal(count, 4);
    assert_int_equal(replies[0]->element_count, 3);
    assert_true(slice_equals_string(redis_reply_text(replies[0]->elements[0]), "message"));
    assert_true(slice_equals_string(redis_reply_text(replies[0]->elements[2]), "a\r\nb"));
    assert_int_equal(replies[1]->integer, 12);
    assert_int_equal(replies[2]->type, REDIS_REPLY_ERROR);
    assert_string_equal(replies[2]->bytes, "ERR no");
    assert_int_equal(replies[3]->type, REDIS_REPLY_NIL);
    assert_null(redis_reply_text(replies[3]).data);
    for (int i = 0; i < count; i++)
        redis_reply_free(replies[i]);
    redisReaderFree(reader);
}

static void refuses_long_arrays_and_nonsense(void **state)
{
    static const char *const wrong[] = {"*9\r\n", "*100000000\r\n", "?x\r\n", "*2\r\n:1\r\n*9\r\n"};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        redisReader *reader = redis_reply_reader();
        void *reply = NULL;
        feed(reader, wrong[i]);
        assert_int_not_equal(redisReaderGetReply(reader, &reply), 0);
        assert_null(reply);
        assert_int_not_equal(reader->err, 0);
        redisReaderFree(reader);
    }
}

static void an_unfinished_reply_is_freed(void **state)
{
    redisReader *reader = redis_reply_reader();
    (void)state;
    feed(reader, "*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$400\r\nab");
    assert_null(get(reader));
    redisReaderFree(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads_a_message_byte_by_byte),
        cmocka_unit_test(refuses_long_arrays_and_nonsense), cmocka_unit_test(an_unfinished_reply_is_freed)};
    return cmocka_run_group_tests_name("broadcast/redis_reply", tests, NULL, NULL);
}
