#include "worker/http/http_publish.h"

static void cancel_publish(struct http_exchange *exchange)
{
    publisher_cancel(exchange->services->publisher, exchange->ticket);
}

enum publish_outcome http_publish(struct http_exchange *exchange, const struct publish_request *request)
{
    enum publish_outcome outcome =
        publisher_publish(exchange->services->publisher, request, &exchange->ticket);
    if (outcome == PUBLISH_ORDERED)
        exchange->cancel = cancel_publish;
    return outcome;
}
