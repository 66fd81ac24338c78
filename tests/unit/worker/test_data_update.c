/* POST /data/config through a session: what is published, what is answered and when. */
#include "tests/unit/worker/http_test.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define POST(test, body) test_post(test, "/data/config", "", body)

/* The update is published with these topics and this data; the reply comes only when the publish has its place. */
static void expect_event(const char *body, const char *topics, const char *data)
{
    struct http_test test;
    test_open(&test);
    POST(&test, body);
    if (test.publisher.published != 1) {
        char *taken = test_taken(&test);
        fail_msg("not published: %s -> %s", body, taken);
    }
    assert_string_equal(test.publisher.topics.data, topics);
    assert_string_equal(test.publisher.data.data, data);
    test_expect(&test, "");
    publisher_decide(&test.publisher, PUBLISH_ORDERED);
    test_expect(&test, OK_REPLY);
    test_close(&test);
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
    struct http_test test;
    test_open(&test);
    test_post(&test, "/data/config", headers, body);
    char *taken = test_taken(&test);
    char *content = strstr(taken, "\r\n\r\n");
    if (strncmp(taken + 9, status, 3) != 0 || !content || strcmp(content + 4, detail) != 0)
        fail_msg("%s ->\n%s\nwanted %s", body, taken, detail);
    assert_int_equal(test.publisher.published, 0);
    assert_false(test.over); /* the connection goes on */
    free(taken);
    test_exchange(&test, "GET / HTTP/1.1\r\n\r\n", OK_REPLY);
    test_close(&test);
}

#define ERROR_AT(loc, message, type) \
    "{\"loc\":[\"body\"" loc "],\"msg\":\"" message "\",\"type\":\"" type "\"}"
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

static void test_field_errors(void **state)
{
    (void)state;
    expect_detail("", "{\"entries\":null}", "422", ERRORS(NO_NULL(",\"entries\"")));
    expect_detail("", "{\"entries\":\"x\"}", "422", ERRORS(NOT_LIST(",\"entries\"")));
    expect_detail("",
        "{\"entries\":[5,null,{\"url\":null,\"config\":5,\"topics\":[1,null,[]],\"dst_path\":null}],"
        "\"id\":[],\"callback\":null}",
        "422",
        ERRORS(NO_STRING(",\"id\"") "," NOT_DICT(",\"entries\",0") "," NO_NULL(",\"entries\",1") "," NO_NULL(
            ","
            "\""
            "en"
            "tr"
            "ie"
            "s"
            "\""
            ",2"
            ","
            "\""
            "ur"
            "l"
            "\"") "," NOT_DICT(",\"entries\",2,\"config\"") "," NO_NULL(",\"entries\",2,\"topics\""
                                                                        ",1") "," NO_STRING(",\"entries\""
                                                                                            ",2,"
                                                                                            "\"topics\","
                                                                                            "2") "," NO_NULL(",\"entries\",2,"
                                                                                                             "\"dst_path\"") "," NO_NULL(","
                                                                                                                                         "\"callback\"")));
    expect_detail("", "{\"entries\":[{\"url\":\"u\",\"data\":5}]}", "422",
        ERRORS(NOT_LIST(",\"entries\",0,\"data\"") "," NOT_LIST(",\"entries\",0,\"data\"") "," NOT_DICT(
            ",\"entries\",0,\"data\"")));
    expect_detail("",
        "{\"entries\":[{\"url\":\"u\",\"save_method\":\"FOO\",\"data\":null},{\"url\":\"u\","
        "\"save_method\":\"PATCH\",\"data\":{}}]}",
        "422",
        ERRORS(ERROR_AT(",\"entries\",0,\"data\"", "'save_method' must be either PUT or PATCH",
            "value_error") "," ERROR_AT(",\"entries\",1,\"data\"",
            "'data' must be of type JSON patch request when save_method is PATCH", "type_error")));
    /* the reference's own validator fails here with 500 */
    expect_detail("", "{\"entries\":[{\"url\":\"u\",\"save_method\":null,\"data\":{}}]}", "422",
        ERRORS(NO_NULL(",\"entries\",0,\"save_method\"")));
    expect_detail("",
        "{\"entries\":[],\"callback\":{\"callbacks\":[null,[],[\"a\",5],{},[null,{\"method\":\"x\"}]]}}",
        "422",
        ERRORS(NO_NULL(",\"callback\",\"callbacks\",0") "," NO_STRING(
            ",\"callback\",\"callbacks\",1") ","
                                             "{\"loc\":[\"body\",\"callback\",\"callbacks\",1],\"msg\":"
                                             "\"wrong tuple length 0, expected 2\","
                                             "\"type\":\"value_error.tuple.length\",\"ctx\":{\"actual_"
                                             "length\":0,\"expected_length\":2}}"
                                             "," NO_STRING(",\"callback\",\"callbacks\",2") "," NOT_DICT(
                                                 ",\""
                                                 "cal"
                                                 "lba"
                                                 "ck"
                                                 "\","
                                                 "\"c"
                                                 "all"
                                                 "bac"
                                                 "ks"
                                                 "\","
                                                 "2,"
                                                 "1") "," NO_STRING(",\"callback\",\"callbacks\",3") "," ERROR_AT(",\"callback\""
                                                                                                                  ",\"callbacks"
                                                                                                                  "\",3",
                                                 "value is not a valid tuple",
                                                 "type_error.tuple") "," NO_STRING(",\"callback\","
                                                                                   "\"callbacks\",4") "," NO_NULL(",\"callback\",\"callbacks\",4,0") ","
                                                                                                                                                     "{\"loc\":[\"body\",\"callback\",\"callbacks\",4,1,\"method\"],\"msg\":\"value is not a valid "
                                                                                                                                                     "enumeration member; permitted: 'get', 'post', 'put', 'patch', 'head', 'delete'\",\"type\":"
                                                                                                                                                     "\"type_error.enum\",\"ctx\":{\"enum_values\":[\"get\",\"post\",\"put\",\"patch\",\"head\",\"delete\"]}}"));
}

static void test_without_topics(void **state)
{
    struct http_test test;
    (void)state;
    test_open(&test);
    POST(&test, "{\"entries\":[]}");
    test_expect(&test, OK_REPLY);
    POST(&test, "{\"entries\":[{\"url\":\"u\",\"topics\":[]}]}");
    test_expect(&test, OK_REPLY);
    assert_int_equal(test.publisher.published, 0);
    test_close(&test);
}

static void test_limits(void **state)
{
    struct http_test test;
    (void)state;
    test_open(&test);
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
    event_limit_write(test.services.segment, 300);
    body.length = 0;
    text_append_string(
        &body, "{\"entries\":[{\"url\":\"u\",\"topics\":[\"a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a\"]}]}");
    POST(&test, body.data);
    char *taken = test_taken(&test);
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
    POST(&test, body.data);
    assert_true(test.sent.length > 50000 && test.sent.length < 200000);
    text_free(&body);
    test_close(&test);
}

static void test_refusals(void **state)
{
    struct http_test test;
    (void)state;
    test_open(&test);
    test.publisher.answer = PUBLISH_BUSY;
    POST(&test, "{\"entries\":[{\"url\":\"u\"}]}");
    test_expect(&test,
        "HTTP/1.1 503 Service Unavailable\r\nserver: uvicorn\r\nretry-after: 1\r\ncontent-length: 55\r\n"
        "content-type: application/json\r\n\r\n{\"detail\":\"too many events are waiting, retry shortly\"}");
    test.publisher.answer = PUBLISH_TOO_LARGE;
    POST(&test, "{\"entries\":[{\"url\":\"u\"}]}");
    char *taken = test_taken(&test);
    assert_non_null(strstr(taken, "HTTP/1.1 413 "));
    assert_non_null(strstr(taken, "at most 1048576 bytes"));
    free(taken);
    test.publisher.answer = PUBLISH_ORDERED;
    POST(&test, "{\"entries\":[{\"url\":\"u\"}]}");
    publisher_decide(&test.publisher, PUBLISH_TOO_LARGE);
    taken = test_taken(&test);
    assert_non_null(strstr(taken, "HTTP/1.1 413 "));
    free(taken);
    test_close(&test);
}

static void expect_head(struct http_test *test, const char *head, const char *part)
{
    char *taken = test_taken(test);
    assert_ptr_equal(strstr(taken, head), taken);
    assert_non_null(strstr(taken, part));
    free(taken);
}

/* ?wait=backbone and X-Opald-Wait */
static void test_wait_for_backbone(void **state)
{
    static const char body[] = "{\"entries\":[{\"url\":\"u\"}]}";
    struct http_test test;
    (void)state;
    test_open(&test);
    const char *asking[][2] = {{"/data/config?wait=backbone", ""}, {"/data/config?a=b&wait=back%62one", ""},
        {"/data/config", "x-opald-wait: backbone\r\n"},
        {"/data/config?wait=backbone", "X-Opald-Wait:backbone\r\n"}};
    for (int i = 0; i < 4; i++) {
        test_post(&test, asking[i][0], asking[i][1], body);
        assert_true(test.publisher.wants_acknowledgement);
        assert_int_equal(test.deadline, HTTP_DEADLINE_BACKBONE);
        publisher_decide(&test.publisher, i == 3 ? PUBLISH_ORDERED : PUBLISH_ACKNOWLEDGED);
        test_expect(&test, OK_REPLY);
        assert_int_equal(test.deadline, HTTP_DEADLINE_IDLE);
    }
    POST(&test, body); /* the next one on the connection is a plain one */
    assert_false(test.publisher.wants_acknowledgement);
    assert_int_equal(test.deadline, HTTP_DEADLINE_NONE);
    publisher_decide(&test.publisher, PUBLISH_FROZEN);
    test_expect(&test, OK_REPLY);

    test_post(&test, asking[0][0], "", body);
    publisher_decide(&test.publisher, PUBLISH_FROZEN);
    expect_head(&test, "HTTP/1.1 504 ", "frozen");
    test_post(&test, asking[0][0], "", body);
    publisher_decide(&test.publisher, PUBLISH_UNACKNOWLEDGED);
    expect_head(&test, "HTTP/1.1 504 ", "did not take the update");
    test_post(&test, asking[0][0], "", body);
    publisher_decide(&test.publisher, PUBLISH_REFUSED);
    expect_head(&test, "HTTP/1.1 413 ", "refused");
    test_post(&test, asking[0][0], "", "{\"entries\":[]}"); /* nobody is meant */
    test_expect(&test, OK_REPLY);

    unsigned published = test.publisher.published;
    test_post(&test, "/data/config?wait=backbones", "", body);
    expect_head(&test, "HTTP/1.1 422 ", "can only be 'backbone'");
    test_post(&test, "/data/config?wait", "x-opald-wait: backbone\r\n", body);
    expect_head(&test, "HTTP/1.1 422 ", "can only be 'backbone'");
    test_post(&test, "/data/config", "x-opald-wait: yes\r\n", body);
    expect_head(&test, "HTTP/1.1 422 ", "can only be 'backbone'");
    assert_int_equal(test.publisher.published, published);
    test_close(&test);
}

/* The backbone does not acknowledge in time: 504, and the requests behind it are served. */
static void test_late(void **state)
{
    struct http_test test;
    (void)state;
    test_open(&test);
    uint64_t before = counter_read(test.services.segment, 0, COUNTER_ACKNOWLEDGEMENTS_LATE);
    test_input(&test,
        "POST /data/config?wait=backbone HTTP/1.1\r\ncontent-length: "
        "25\r\n\r\n{\"entries\":[{\"url\":\"u\"}]}"
        "POST /data/config HTTP/1.1\r\ncontent-length: 25\r\n\r\n{\"entries\":[{\"url\":\"u\"}]}");
    assert_int_equal(test.deadline, HTTP_DEADLINE_BACKBONE);
    assert_int_equal(test.publisher.published, 1);
    http_session_backbone_late(test.session);
    assert_int_equal(test.publisher.cancelled, 1);
    expect_head(&test, "HTTP/1.1 504 Gateway Timeout\r\n", "within 2.5 s");
    assert_int_equal(counter_read(test.services.segment, 0, COUNTER_ACKNOWLEDGEMENTS_LATE), before + 1);
    assert_int_equal(test.publisher.published, 2);
    assert_int_equal(test.deadline, HTTP_DEADLINE_NONE);
    publisher_decide(&test.publisher, PUBLISH_ORDERED);
    test_expect(&test, OK_REPLY);
    http_session_backbone_late(test.session); /* nothing waits */
    test_expect(&test, "");
    test_close(&test);

    test_open(&test); /* gone while it waits */
    test_post(&test, "/data/config?wait=backbone", "", "{\"entries\":[{\"url\":\"u\"}]}");
    http_session_free(test.session);
    assert_int_equal(test.publisher.cancelled, 1);
    test.session = NULL;
    test_close(&test);
}

/* Requests behind a publish wait for it; replies come in order. */
static void test_pipelining(void **state)
{
    struct http_test test;
    (void)state;
    test_open(&test);
    struct text requests = {0};
    text_append_string(&requests, "GET / HTTP/1.1\r\n\r\n");
    for (int i = 0; i < 2; i++)
        text_append_string(&requests,
            "POST /data/config HTTP/1.1\r\ncontent-length: 25\r\n\r\n{\"entries\":[{\"url\":\"u\"}]}");
    text_append_string(&requests, "GET /loadlimit HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\ncon");
    test_input(&test, requests.data);
    test_expect(&test, OK_REPLY);
    assert_int_equal(test.publisher.published, 1);
    assert_false(http_session_wants_input(test.session));
    assert_int_equal(test.deadline, HTTP_DEADLINE_NONE);
    test_input(&test, "nection: close\r\n\r\n"); /* what was read already comes too */
    publisher_decide(&test.publisher, PUBLISH_ORDERED);
    test_expect(&test, OK_REPLY);
    assert_int_equal(test.publisher.published, 2);
    assert_false(test.finished);
    publisher_decide(&test.publisher, PUBLISH_ORDERED);
    char *taken = test_taken(&test);
    assert_non_null(strstr(taken, "\r\n\r\nnullHTTP/1.1 200 OK"));
    free(taken);
    assert_true(test.finished);
    text_free(&requests);
    test_close(&test);
}

/* A websocket upgrade behind a publish: it comes out of the publish's completion. */
static void test_upgrade_behind(void **state)
{
    struct http_test test;
    (void)state;
    test_open(&test);
    test_input(&test,
        "POST /data/config HTTP/1.1\r\ncontent-length: 25\r\n\r\n{\"entries\":[{\"url\":\"u\"}]}"
        "GET /ws HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nab");
    assert_null(test.upgrade_path.data);
    publisher_decide(&test.publisher, PUBLISH_ORDERED);
    assert_string_equal(test.upgrade_path.data, "/ws");
    assert_string_equal(test.upgrade_rest.data, "ab");
    test_close(&test);
}

static void test_gone_while_pending(void **state)
{
    struct http_test test;
    (void)state;
    test_open(&test);
    POST(&test, "{\"entries\":[{\"url\":\"u\"}]}");
    http_session_free(test.session);
    assert_int_equal(test.publisher.cancelled, 1);
    test.session = NULL;
    test_close(&test);

    /* the peer closed its sending side only: it still gets the reply, as the last one */
    test_open(&test);
    POST(&test, "{\"entries\":[{\"url\":\"u\"}]}");
    http_session_timeout(test.session);
    assert_false(test.finished);
    publisher_decide(&test.publisher, PUBLISH_ORDERED);
    char *taken = test_taken(&test);
    assert_non_null(strstr(taken, "connection: close\r\n"));
    free(taken);
    assert_true(test.finished);
    test_close(&test);
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
    struct http_test test;
    struct log_settings loud = {.level = LOG_INFO};
    test_open(&test);
    log_configure(&loud);
    test_post(&test, path, "", body);
    if (test.publisher.done)
        publisher_decide(&test.publisher, PUBLISH_ORDERED);
    test_close(&test);
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
    struct http_test test;
    (void)state;
    test_open(&test);
    test_post(&test, "/data/callback_report", "", "{\"reports\":[]}");
    test_expect(&test, JSON_REPLY("200 OK", "2", "{}"));
    test_post(&test, "/data/callback_report", "",
        "{\"reports\":[{\"entry\":null,\"fetched\":\"x\",\"saved\":2},{}]}");
    char *taken = test_taken(&test);
    assert_non_null(strstr(taken, ERRORS(NO_NULL(",\"reports\",0,\"entry\"") "," ERROR_AT(
                                      ",\"reports\",0,\"fetched\"", "value could not be parsed to a boolean",
                                      "type_error.bool") "," ERROR_AT(",\"reports\",0,\"saved\"",
                                      "value could not be parsed to a boolean",
                                      "type_error.bool") "," MISSING(",\"reports\",1,\"entry\""))));
    free(taken);
    test_close(&test);
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
        cmocka_unit_test(test_pipelining),
        cmocka_unit_test(test_upgrade_behind),
        cmocka_unit_test(test_gone_while_pending),
        cmocka_unit_test(test_log_lines),
        cmocka_unit_test(test_reports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
