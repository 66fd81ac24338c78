#include "tests/unit/worker/api/api_harness.h"

#include "worker/api/routes.h"

/* ---- the publisher ---- */

enum publish_outcome publisher_publish(
    struct publisher *publisher, const struct publish_request *request, uint64_t *ticket)
{
    if (publisher->answer != PUBLISH_ORDERED)
        return publisher->answer;
    publisher->published++;
    text_clear(&publisher->topics);
    text_clear(&publisher->data);
    for (uint32_t i = 0; i < request->topic_count; i++) {
        text_append_slice(&publisher->topics, request->topics[i]);
        text_append_char(&publisher->topics, '\n');
    }
    text_append_slice(&publisher->data, request->data);
    assert_null(request->notifier);
    assert_true(request->server_side);
    publisher->wants_acknowledgement = request->wants_acknowledgement;
    publisher->done = request->done;
    publisher->context = request->context;
    *ticket = 41 + publisher->published;
    return PUBLISH_ORDERED;
}

void publisher_cancel(struct publisher *publisher, uint64_t ticket)
{
    assert_int_equal(ticket, 41 + publisher->published);
    publisher->cancelled++;
    publisher->done = NULL;
}

void publisher_decide(struct publisher *publisher, enum publish_outcome outcome)
{
    publish_done *done = publisher->done;
    publisher->done = NULL;
    assert_non_null(done);
    done(publisher->context, outcome);
}

/* ---- the session ---- */

void api_test_open(struct api_test *test)
{
    *test = (struct api_test){0};
    http_test_open(&test->http);
    test->http.services.routes = &api_routes;
    test->http.services.publisher = &test->publisher;
    test->http.services.api = &test->api;
    test->http.services.policy = &test->policy;
}

void api_test_close(struct api_test *test)
{
    http_test_close(&test->http);
    text_free(&test->publisher.topics);
    text_free(&test->publisher.data);
}
