/* POST /data/config through a session: what is published, what is answered and when. */
#include "tests/unit/worker/api/api_harness.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

static void post(struct api_test *test, const char *body)
{
    http_test_post(&test->http, "/data/config", "", body);
}

/*
 * The update is published with these topics and this data; the reply comes only when the publish has its
 * place.
 */
static void expect_event(const char *body, const char *topics, const char *data)
{
    struct api_test test;
    api_test_open(&test);
    post(&test, body);
    if (test.publisher.published != 1) {
        char *taken = http_test_taken(&test.http);
        fail_msg("not published: %s -> %s", body, taken);
    }
    assert_string_equal(test.publisher.topics.data, topics);
    assert_string_equal(test.publisher.data.data, data);
    http_test_expect(&test.http, "");
    publisher_decide(&test.publisher, PUBLISH_ORDERED);
    http_test_expect(&test.http, OK_REPLY);
    api_test_close(&test);
}

static void test_events(void **state)
{
    (void)state;
    expect_event("{\"entries\":[{\"url\":\"u\",\"topics\":[\"o/p\"]}]}", "o\no/p\n",
        "{\"id\": null, \"entries\": [{\"url\": \"u\", \"config\": null, \"topics\": [\"o\", \"o/p\"], "
        "\"dst_path\": \"\", \"save_method\": \"PUT\", \"data\": null}], \"reason\": null, "
        "\"callback\": {\"callbacks\": []}}");
    /* the default topic counts, each topic goes out once, an entry keeps its repeats */
    expect_event(
        "{\"id\":7,\"reason\":true,\"entries\":[{\"url\":1e5},{\"url\":\"\",\"topics\":[\"a/b\",\"a/c\"]},"
        "{\"url\":\"x\",\"topics\":[]}]}",
        "policy_data\na\na/b\na/c\n",
        "{\"id\": \"7\", \"entries\": [{\"url\": \"100000.0\", \"config\": null, \"topics\": "
        "[\"policy_data\"], "
        "\"dst_path\": \"\", \"save_method\": \"PUT\", \"data\": null}, {\"url\": \"\", \"config\": null, "
        "\"topics\": [\"a\", \"a/b\", \"a\", \"a/c\"], \"dst_path\": \"\", \"save_method\": \"PUT\", "
        "\"data\": null}, "
        "{\"url\": \"x\", \"config\": null, \"topics\": [], \"dst_path\": \"\", \"save_method\": \"PUT\", "
        "\"data\": null}], \"reason\": \"True\", \"callback\": {\"callbacks\": []}}");
    /* callbacks */
    expect_event("{\"entries\":[{\"url\":\"u\"}],\"callback\":{\"callbacks\":[\"http://c\",5,[\"d\",{}],"
                 "[\"e\",{\"method\":\"post\",\"is_json\":\"no\",\"headers\":{\"a\" :1},\"data\":[1 ,2],"
                 "\"fetcher\":2}]]}}",
        "policy_data\n",
        "{\"id\": null, \"entries\": [{\"url\": \"u\", \"config\": null, \"topics\": [\"policy_data\"], "
        "\"dst_path\": \"\", \"save_method\": \"PUT\", \"data\": null}], \"reason\": null, \"callback\": "
        "{\"callbacks\": [\"http://c\", \"5\", [\"d\", {\"fetcher\": null, \"headers\": null, \"is_json\": "
        "true, "
        "\"process_data\": true, \"method\": \"get\", \"data\": null}], [\"e\", {\"fetcher\": \"2\", "
        "\"headers\": {\"a\" :1}, \"is_json\": false, \"process_data\": true, \"method\": \"post\", "
        "\"data\": [1 ,2]}]]}}");
}

/* What stands behind an entry's "data": with this save method. */
static void expect_data(const char *method, const char *data, const char *written)
{
    struct text body = {0}, event = {0};
    text_append_format(&body,
        "{\"entries\":[{\"url\":\"u\",\"config\":{\"k\":  1.0},\"save_method\":\"%s\",\"data\":%s}]}", method,
        data);
    text_append_format(&event,
        "{\"id\": null, \"entries\": [{\"url\": \"u\", \"config\": {\"k\":  1.0}, \"topics\": "
        "[\"policy_data\"], "
        "\"dst_path\": \"\", \"save_method\": \"%s\", \"data\": %s}], \"reason\": null, "
        "\"callback\": {\"callbacks\": []}}",
        method, written);
    expect_event(body.data, "policy_data\n", event.data);
    text_free(&body);
    text_free(&event);
}

static void test_payload(void **state)
{
    static const char *const untouched[] = {
        "{\"n\":9007199254740993,\"z\": 1.0,\"e\":1e400,\"t\":1E-7}",
        "{\"a\":1,\"a\":2}",
        "{ \"s\" : \"\\u00e9\\ud83d\\ude00\\/ \xc3\xa9\" }",
        "{\"x\":NaN,\"y\":-Infinity,\"m\":-0}",
        "[1,  2,{\"op\":\"add\"}]",
        "{}",
        "[[[[[[[[]]]]]]]]",
        /* no list of patch actions: an add without a value, a null, a word */
        "[{\"op\":\"add\",\"path\":\"/a\"}]",
        "[{\"op\":\"add\",\"path\":\"/a\",\"value\":1},{\"op\":\"replace\",\"path\":\"/a\",\"value\":null}]",
        "[{\"op\":\"remove\",\"path\":\"/a\"},null]",
        "[{\"op\":\"remove\",\"path\":\"/a\"},\"x\"]",
    };
    (void)state;
    for (size_t i = 0; i < sizeof untouched / sizeof *untouched; i++)
        expect_data("PUT", untouched[i], untouched[i]);
    expect_data("PUT", "\"\"", "{}"); /* dict("") */
    expect_data("PUT", "[]", "[]");
    expect_data("PATCH", "[]", "[]");
    expect_data("PATCH",
        "[{\"path\":\"/a\",\"op\":\"add\",\"value\":{\"n\" : "
        "1.0},\"x\":1},{\"op\":\"move\",\"path\":5,\"from\":\"/b\"}]",
        "[{\"op\": \"add\", \"path\": \"/a\", \"value\": {\"n\" : 1.0}, \"from\": null}, "
        "{\"op\": \"move\", \"path\": \"5\", \"value\": null, \"from\": \"/b\"}]");
    expect_data("PUT", "[[[\"op\",\"remove\"],[\"path\",\"/\"]]]",
        "[{\"op\": \"remove\", \"path\": \"/\", \"value\": null, \"from\": null}]");
}

/* Strings that are written anew are ASCII, as json.dumps has them. */
static void test_escapes(void **state)
{
    (void)state;
    expect_event(
        "{\"reason\":\"\xc3\xa9\\u0001\\ud83d\\ude00\\/\\\"\xf0\x9f\x98\x80\",\"entries\":[{\"url\":\"u\","
        "\"topics\":[\"\xc3\xa9/\\ud800\"]}]}",
        "\xc3\xa9\n\xc3\xa9/\xed\xa0\x80\n",
        "{\"id\": null, \"entries\": [{\"url\": \"u\", \"config\": null, \"topics\": [\"\\u00e9\", "
        "\"\\u00e9/\\ud800\"], \"dst_path\": \"\", \"save_method\": \"PUT\", \"data\": null}], \"reason\": "
        "\"\\u00e9\\u0001\\ud83d\\ude00/\\\"\\ud83d\\ude00\", \"callback\": {\"callbacks\": []}}");
}

/* Python's dict() of pairs where an object is wanted. */
static void test_pairs(void **state)
{
    (void)state;
    expect_event("[[\"entries\",[[[\"url\",\"u\"],[\"topics\",[\"a\"]],\"xy\"]]]]", "a\n",
        "{\"id\": null, \"entries\": [{\"url\": \"u\", \"config\": null, \"topics\": [\"a\"], \"dst_path\": "
        "\"\", "
        "\"save_method\": \"PUT\", \"data\": null}], \"reason\": null, \"callback\": {\"callbacks\": []}}");
    expect_event(
        "{\"entries\":[{\"url\":\"u\",\"topics\":[\"a\"],\"config\":[[\"a\",{\"b\":1}],\"\xc3\xa9z\","
        "[1,2],[null,3],[true,4],[1.0,5],{\"k\":1,\"v\":2}]}]}",
        "a\n",
        "{\"id\": null, \"entries\": [{\"url\": \"u\", \"config\": {\"a\": {\"b\":1}, \"\\u00e9\": \"z\", "
        "\"1\": 2, "
        "\"null\": 3, \"true\": 4, \"1.0\": 5, \"k\": \"v\"}, \"topics\": [\"a\"], \"dst_path\": \"\", "
        "\"save_method\": \"PUT\", \"data\": null}], \"reason\": null, \"callback\": {\"callbacks\": []}}");
}

static void expect_detail(const char *headers, const char *body, const char *status, const char *detail)
{
    struct api_test test;
    api_test_open(&test);
    http_test_post(&test.http, "/data/config", headers, body);
    char *taken = http_test_taken(&test.http);
    char *content = strstr(taken, "\r\n\r\n");
    if (strncmp(taken + 9, status, 3) != 0 || !content || strcmp(content + 4, detail) != 0)
        fail_msg("%s ->\n%s\nwanted %s", body, taken, detail);
    assert_int_equal(test.publisher.published, 0);
    assert_false(test.http.over); /* the connection goes on */
    free(taken);
    http_test_exchange(&test.http, "GET / HTTP/1.1\r\nhost: x\r\n\r\n", OK_REPLY);
    api_test_close(&test);
}

#define ERROR_AT(loc, message, type) \
    "{\"loc\":[\"body\"" loc "],\"msg\":\"" message "\",\"type\":\"" type "\"}"
#define ERROR_WITH(loc, message, type, context) \
    "{\"loc\":[\"body\"" loc "],\"msg\":\"" message "\",\"type\":\"" type "\",\"ctx\":" context "}"
#define ERRORS(list)   "{\"detail\":[" list "]}"
#define NOT_DICT(loc)  ERROR_AT(loc, "value is not a valid dict", "type_error.dict")
#define NOT_LIST(loc)  ERROR_AT(loc, "value is not a valid list", "type_error.list")
#define MISSING(loc)   ERROR_AT(loc, "field required", "value_error.missing")
#define NO_NULL(loc)   ERROR_AT(loc, "none is not an allowed value", "type_error.none.not_allowed")
#define NO_STRING(loc) ERROR_AT(loc, "str type expected", "type_error.str")

static void test_body_forms(void **state)
{
    (void)state;
    expect_detail("", "", "422", ERRORS(MISSING("")));
    expect_detail("", "null", "422", ERRORS(MISSING("")));
    expect_detail("", "{}", "422", ERRORS(MISSING(",\"entries\"")));
    expect_detail("", "[]", "422", ERRORS(MISSING(",\"entries\"")));
    expect_detail("", "\"\"", "422", ERRORS(MISSING(",\"entries\"")));
    expect_detail("", "\"ab\"", "422", ERRORS(NOT_DICT("")));
    expect_detail("", "5", "422", ERRORS(NOT_DICT("")));
    expect_detail("", "[1]", "422", ERRORS(NOT_DICT("")));
    expect_detail("", "[[[],1]]", "422", ERRORS(NOT_DICT("")));
    expect_detail("", "[[1,2]]", "422", ERRORS(ERROR_AT("", "keywords must be strings", "type_error")));
    expect_detail("content-type: text/plain\r\n", "{}", "422", ERRORS(NOT_DICT("")));
    expect_detail("content-type: application/json/x\r\n", "{}", "422", ERRORS(NOT_DICT("")));
    expect_detail("content-type: application/jsonx\r\n", "{}", "422", ERRORS(NOT_DICT("")));
    expect_detail(
        "content-type: Application/JSON ; charset=utf-8\r\n", "{}", "422", ERRORS(MISSING(",\"entries\"")));
    expect_detail("content-type: application/x+json\r\n", "{}", "422", ERRORS(MISSING(",\"entries\"")));
    expect_detail("content-type: \r\n", "{}", "422", ERRORS(MISSING(",\"entries\"")));
    expect_detail("", "\xef\xbb\xbf{}", "422", ERRORS(MISSING(",\"entries\"")));
    expect_detail("", "{\"a\":\"\xff\"}", "400", "{\"detail\":\"There was an error parsing the body\"}");
    expect_detail("", "{'a':1}", "422",
        "{\"detail\":[{\"type\":\"json_invalid\",\"loc\":[\"body\",1],\"msg\":\"JSON decode "
        "error\",\"input\":{},"
        "\"ctx\":{\"error\":\"Expecting property name enclosed in double quotes\"}}]}");
    expect_detail("", "{\"\xc3\xa9\":1}x", "422",
        "{\"detail\":[{\"type\":\"json_invalid\",\"loc\":[\"body\",7],\"msg\":\"JSON decode "
        "error\",\"input\":{},"
        "\"ctx\":{\"error\":\"Extra data\"}}]}");
}

/* 422 with these errors, up to the NULL. */
static void expect_errors(const char *body, const char *const *errors)
{
    struct text detail = {0};
    text_append_string(&detail, "{\"detail\":[");
    for (size_t i = 0; errors[i]; i++)
        text_append_format(&detail, "%s%s", i ? "," : "", errors[i]);
    text_append_string(&detail, "]}");
    expect_detail("", body, "422", detail.data);
    text_free(&detail);
}

#define EXPECT_ERRORS(body, ...) expect_errors(body, (const char *const[]){__VA_ARGS__, NULL})
#define AT_ENTRIES               ",\"entries\""
#define AT_ENTRY(index, member)  ",\"entries\"," index ",\"" member "\""
#define AT_CALLBACK(index)       ",\"callback\",\"callbacks\"," index

static void test_field_errors(void **state)
{
    (void)state;
    EXPECT_ERRORS("{\"entries\":null}", NO_NULL(AT_ENTRIES));
    EXPECT_ERRORS("{\"entries\":\"x\"}", NOT_LIST(AT_ENTRIES));
    EXPECT_ERRORS(
        "{\"entries\":[5,null,{\"url\":null,\"config\":5,\"topics\":[1,null,[]],\"dst_path\":null}],"
        "\"id\":[],\"callback\":null}",
        NO_STRING(",\"id\""), NOT_DICT(AT_ENTRIES ",0"), NO_NULL(AT_ENTRIES ",1"),
        NO_NULL(AT_ENTRY("2", "url")), NOT_DICT(AT_ENTRY("2", "config")),
        NO_NULL(AT_ENTRY("2", "topics") ",1"), NO_STRING(AT_ENTRY("2", "topics") ",2"),
        NO_NULL(AT_ENTRY("2", "dst_path")), NO_NULL(",\"callback\""));
    EXPECT_ERRORS("{\"entries\":[{\"url\":\"u\",\"data\":5}]}", NOT_LIST(AT_ENTRY("0", "data")),
        NOT_LIST(AT_ENTRY("0", "data")), NOT_DICT(AT_ENTRY("0", "data")));
    EXPECT_ERRORS("{\"entries\":[{\"url\":\"u\",\"save_method\":\"FOO\",\"data\":null},{\"url\":\"u\","
                  "\"save_method\":\"PATCH\",\"data\":{}}]}",
        ERROR_AT(AT_ENTRY("0", "data"), "'save_method' must be either PUT or PATCH", "value_error"),
        ERROR_AT(AT_ENTRY("1", "data"), "'data' must be of type JSON patch request when save_method is PATCH",
            "type_error"));
    /* the reference's own validator fails here with 500 */
    EXPECT_ERRORS("{\"entries\":[{\"url\":\"u\",\"save_method\":null,\"data\":{}}]}",
        NO_NULL(AT_ENTRY("0", "save_method")));
    EXPECT_ERRORS(
        "{\"entries\":[],\"callback\":{\"callbacks\":[null,[],[\"a\",5],{},[null,{\"method\":\"x\"}]]}}",
        NO_NULL(AT_CALLBACK("0")), NO_STRING(AT_CALLBACK("1")),
        ERROR_WITH(AT_CALLBACK("1"), "wrong tuple length 0, expected 2", "value_error.tuple.length",
            "{\"actual_length\":0,\"expected_length\":2}"),
        NO_STRING(AT_CALLBACK("2")), NOT_DICT(AT_CALLBACK("2") ",1"), NO_STRING(AT_CALLBACK("3")),
        ERROR_AT(AT_CALLBACK("3"), "value is not a valid tuple", "type_error.tuple"),
        NO_STRING(AT_CALLBACK("4")), NO_NULL(AT_CALLBACK("4") ",0"),
        ERROR_WITH(AT_CALLBACK("4") ",1,\"method\"",
            "value is not a valid enumeration member; permitted: 'get', 'post', 'put', 'patch', 'head', "
            "'delete'",
            "type_error.enum", "{\"enum_values\":[\"get\",\"post\",\"put\",\"patch\",\"head\",\"delete\"]}"));
}

static void test_without_topics(void **state)
{
    struct api_test test;
    (void)state;
    api_test_open(&test);
    post(&test, "{\"entries\":[]}");
    http_test_expect(&test.http, OK_REPLY);
    post(&test, "{\"entries\":[{\"url\":\"u\",\"topics\":[]}]}");
    http_test_expect(&test.http, OK_REPLY);
    assert_int_equal(test.publisher.published, 0);
    api_test_close(&test);
}

static void test_limits(void **state)
{
    struct api_test test;
    (void)state;
    api_test_open(&test);
    struct text body = {0};
    text_append_string(&body, "{\"entries\":[{\"url\":\"u\",\"topics\":[\"");
    for (int i = 0; i < 101; i++)
        text_append_char(&body, 'a');
    text_append_string(&body, "\"]}]}");
    expect_detail(
        "", body.data, "422", "{\"detail\":\"the update has a topic that is too long (limit 100 bytes)\"}");
    body.length = 0;
    text_append_string(&body, "{\"entries\":[{\"url\":\"u\",\"topics\":[\"");
    for (int i = 0; i < 50; i++)
        text_append_char(&body, '/');
    text_append_string(&body, "\"]}]}");
    expect_detail("", body.data, "422",
        "{\"detail\":\"the update names too many topics (limit 50, ancestors included)\"}");
    body.length = 0;
    for (int i = 0; i < 65; i++)
        text_append_char(&body, '[');
    expect_detail(
        "", body.data, "422", "{\"detail\":\"JSON body has too many levels of nesting (limit 64)\"}");
    body.length = 0;
    text_append_string(&body, "[1");
    for (int i = 0; i < 20001; i++)
        text_append_string(&body, ",1");
    text_append_char(&body, ']');
    expect_detail("", body.data, "422", "{\"detail\":\"JSON body has too many values (limit 20000)\"}");

    /* an update above the event limit; expansion alone can make it so */
    event_limit_write(test.http.services.segment, 300);
    body.length = 0;
    text_append_string(
        &body, "{\"entries\":[{\"url\":\"u\",\"topics\":[\"a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a\"]}]}");
    post(&test, body.data);
    char *taken = http_test_taken(&test.http);
    assert_non_null(strstr(taken, "HTTP/1.1 413 Request Entity Too Large\r\n"));
    assert_non_null(strstr(taken, "at most 300 bytes"));
    assert_null(strstr(taken, "connection: close"));
    free(taken);
    text_free(&body);

    /* as many errors as a body can hold: the reply stays small */
    body = (struct text){0};
    text_append_string(&body, "{\"entries\":[0");
    for (int i = 0; i < 19000; i++)
        text_append_string(&body, ",0");
    text_append_string(&body, "]}");
    post(&test, body.data);
    assert_true(test.http.sent.length > 50000 && test.http.sent.length < 200000);
    text_free(&body);
    api_test_close(&test);
}

static void test_refusals(void **state)
{
    struct api_test test;
    (void)state;
    api_test_open(&test);
    test.publisher.answer = PUBLISH_BUSY;
    post(&test, "{\"entries\":[{\"url\":\"u\"}]}");
    http_test_expect(&test.http,
        "HTTP/1.1 503 Service Unavailable\r\nserver: uvicorn\r\nretry-after: 1\r\ncontent-length: 55\r\n"
        "content-type: application/json\r\n\r\n{\"detail\":\"too many events are waiting, retry shortly\"}");
    test.publisher.answer = PUBLISH_TOO_LARGE;
    post(&test, "{\"entries\":[{\"url\":\"u\"}]}");
    char *taken = http_test_taken(&test.http);
    assert_non_null(strstr(taken, "HTTP/1.1 413 "));
    assert_non_null(strstr(taken, "at most 1048576 bytes"));
    free(taken);
    test.publisher.answer = PUBLISH_ORDERED;
    post(&test, "{\"entries\":[{\"url\":\"u\"}]}");
    publisher_decide(&test.publisher, PUBLISH_TOO_LARGE);
    taken = http_test_taken(&test.http);
    assert_non_null(strstr(taken, "HTTP/1.1 413 "));
    free(taken);
    api_test_close(&test);
}

/* ?wait=backbone and X-Opald-Wait */
static void test_wait_for_backbone(void **state)
{
    static const char body[] = "{\"entries\":[{\"url\":\"u\"}]}";
    struct api_test test;
    (void)state;
    api_test_open(&test);
    const char *asking[][2] = {{"/data/config?wait=backbone", ""}, {"/data/config?a=b&wait=back%62one", ""},
        {"/data/config", "x-opald-wait: backbone\r\n"},
        {"/data/config?wait=backbone", "X-Opald-Wait:backbone\r\n"}};
    for (int i = 0; i < 4; i++) {
        http_test_post(&test.http, asking[i][0], asking[i][1], body);
        assert_true(test.publisher.wants_acknowledgement);
        assert_int_equal(test.http.deadline, HTTP_DEADLINE_BACKBONE);
        publisher_decide(&test.publisher, i == 3 ? PUBLISH_ORDERED : PUBLISH_ACKNOWLEDGED);
        http_test_expect(&test.http, OK_REPLY);
        assert_int_equal(test.http.deadline, HTTP_DEADLINE_IDLE);
    }
    post(&test, body); /* the next one on the connection is a plain one */
    assert_false(test.publisher.wants_acknowledgement);
    assert_int_equal(test.http.deadline, HTTP_DEADLINE_NONE);
    publisher_decide(&test.publisher, PUBLISH_FROZEN);
    http_test_expect(&test.http, OK_REPLY);

    http_test_post(&test.http, asking[0][0], "", body);
    publisher_decide(&test.publisher, PUBLISH_FROZEN);
    http_test_expect_part(&test.http, "HTTP/1.1 504 ", "frozen");
    http_test_post(&test.http, asking[0][0], "", body);
    publisher_decide(&test.publisher, PUBLISH_UNACKNOWLEDGED);
    http_test_expect_part(&test.http, "HTTP/1.1 504 ", "did not take the update");
    http_test_post(&test.http, asking[0][0], "", body);
    publisher_decide(&test.publisher, PUBLISH_REFUSED);
    http_test_expect_part(&test.http, "HTTP/1.1 413 ", "refused");
    http_test_post(&test.http, asking[0][0], "", "{\"entries\":[]}"); /* nobody is meant */
    http_test_expect(&test.http, OK_REPLY);

    unsigned published = test.publisher.published;
    http_test_post(&test.http, "/data/config?wait=backbones", "", body);
    http_test_expect_part(&test.http, "HTTP/1.1 422 ", "can only be 'backbone'");
    http_test_post(&test.http, "/data/config?wait", "x-opald-wait: backbone\r\n", body);
    http_test_expect_part(&test.http, "HTTP/1.1 422 ", "can only be 'backbone'");
    http_test_post(&test.http, "/data/config", "x-opald-wait: yes\r\n", body);
    http_test_expect_part(&test.http, "HTTP/1.1 422 ", "can only be 'backbone'");
    assert_int_equal(test.publisher.published, published);
    api_test_close(&test);
}

/* The backbone does not acknowledge in time: 504, and the requests behind it are served. */
static void test_late(void **state)
{
    struct api_test test;
    (void)state;
    api_test_open(&test);
    uint64_t before = counter_read(test.http.services.segment, 0, COUNTER_ACKNOWLEDGEMENTS_LATE);
    http_test_input(&test.http,
        "POST /data/config?wait=backbone HTTP/1.1\r\nhost: x\r\ncontent-length: "
        "25\r\n\r\n{\"entries\":[{\"url\":\"u\"}]}"
        "POST /data/config HTTP/1.1\r\nhost: x\r\ncontent-length: 25\r\n\r\n{\"entries\":[{\"url\":\"u\"}]}");
    assert_int_equal(test.http.deadline, HTTP_DEADLINE_BACKBONE);
    assert_int_equal(test.publisher.published, 1);
    http_session_backbone_late(test.http.session);
    assert_int_equal(test.publisher.cancelled, 1);
    http_test_expect_part(&test.http, "HTTP/1.1 504 Gateway Timeout\r\n", "within 2.5 s");
    assert_int_equal(counter_read(test.http.services.segment, 0, COUNTER_ACKNOWLEDGEMENTS_LATE), before + 1);
    assert_int_equal(test.publisher.published, 2);
    assert_int_equal(test.http.deadline, HTTP_DEADLINE_NONE);
    publisher_decide(&test.publisher, PUBLISH_ORDERED);
    http_test_expect(&test.http, OK_REPLY);
    http_session_backbone_late(test.http.session); /* nothing waits */
    http_test_expect(&test.http, "");
    api_test_close(&test);

    api_test_open(&test); /* gone while it waits */
    http_test_post(&test.http, "/data/config?wait=backbone", "", "{\"entries\":[{\"url\":\"u\"}]}");
    http_session_free(test.http.session);
    assert_int_equal(test.publisher.cancelled, 1);
    test.http.session = NULL;
    api_test_close(&test);
}

static void test_gone_while_pending(void **state)
{
    struct api_test test;
    (void)state;
    api_test_open(&test);
    post(&test, "{\"entries\":[{\"url\":\"u\"}]}");
    http_session_free(test.http.session);
    assert_int_equal(test.publisher.cancelled, 1);
    test.http.session = NULL;
    api_test_close(&test);
}

/* ---- log lines ---- */

static char *log_of(void (*act)(void))
{
    struct log_settings loud = {.level = LOG_INFO};
    log_configure(&loud);
    int saved = dup(STDERR_FILENO);
    int file = memfd_create("log", MFD_CLOEXEC);
    dup2(file, STDERR_FILENO);
    act();
    dup2(saved, STDERR_FILENO);
    close(saved);
    off_t size = lseek(file, 0, SEEK_END);
    char *log = memory_allocate((size_t)size + 1);
    assert_int_equal(pread(file, log, (size_t)size, 0), size);
    close(file);
    return log;
}

static void with_loud_log(const char *path, const char *body)
{
    struct api_test test;
    struct log_settings loud = {.level = LOG_INFO};
    api_test_open(&test);
    log_configure(&loud);
    http_test_post(&test.http, path, "", body);
    if (test.publisher.done)
        publisher_decide(&test.publisher, PUBLISH_ORDERED);
    api_test_close(&test);
}

static void post_update(void)
{
    with_loud_log("/data/config?x=1",
        "{\"entries\":[{\"url\":\"u\",\"topics\":[\"a/b\"]},{\"url\":\"v\",\"topics\":[],\"dst_path\":\"/p\","
        "\"save_method\":\"PUT\",\"data\":{}}],\"reason\":\"it's\"}");
}

static void post_report(void)
{
    with_loud_log("/data/callback_report",
        "{\"reports\":[{\"entry\":{\"url\":\"u\",\"data\":[{\"op\":\"a\",\"path\":\"b\"}],\"config\":{\"a\":"
        "1}},"
        "\"fetched\":null,\"saved\":\"yes\",\"hash\":5}],\"user_data\":[[\"a\",1]],\"policy_hash\":1.5,"
        "\"update_id\":\"a'b\"}");
}

static void test_log_lines(void **state)
{
    char *log = log_of(post_update);
    (void)state;
    assert_non_null(strstr(log, "] No topics were provided for the entry with url: v\n"));
    assert_non_null(
        strstr(log, "] Publishing data update to topics: {'a', 'a/b'}, reason: it's, entries: [{'url': 'u', "
                    "'method': 'PUT', 'path': '/', 'inline_data': False, 'topics': ['a/b']}, {'url': 'v', "
                    "'method': 'PUT', 'path': '/p', 'inline_data': True, 'topics': []}]\n"));
    assert_non_null(strstr(log, "127.0.0.1:33210 - \"POST /data/config?x=1 HTTP/1.1\" 200\n"));
    free(log);
    log = log_of(post_report);
    assert_non_null(strstr(log, "Received update report: {'update_id': \"a'b\", 'reports': [{'entry': "
                                "{'url': 'u', 'topics': ['policy_data'], "
                                "'dst_path': '', 'save_method': 'PUT'}, 'fetched': None, 'saved': True, "
                                "'hash': '5'}], 'policy_hash': '1.5', "
                                "'user_data': {'a': 1}}\n"));
    free(log);
}

static void test_reports(void **state)
{
    struct api_test test;
    (void)state;
    api_test_open(&test);
    http_test_post(&test.http, "/data/callback_report", "", "{\"reports\":[]}");
    http_test_expect(&test.http, JSON_REPLY("200 OK", "2", "{}"));
    http_test_post(&test.http, "/data/callback_report", "",
        "{\"reports\":[{\"entry\":null,\"fetched\":\"x\",\"saved\":2},{}]}");
    char *taken = http_test_taken(&test.http);
    assert_non_null(strstr(taken, ERRORS(NO_NULL(",\"reports\",0,\"entry\"") "," ERROR_AT(
                                      ",\"reports\",0,\"fetched\"", "value could not be parsed to a boolean",
                                      "type_error.bool") "," ERROR_AT(",\"reports\",0,\"saved\"",
                                      "value could not be parsed to a boolean",
                                      "type_error.bool") "," MISSING(",\"reports\",1,\"entry\""))));
    free(taken);
    api_test_close(&test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_payload),
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_body_forms),
        cmocka_unit_test(test_field_errors),
        cmocka_unit_test(test_without_topics),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_wait_for_backbone),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_gone_while_pending),
        cmocka_unit_test(test_log_lines),
        cmocka_unit_test(test_reports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
