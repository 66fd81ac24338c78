#include "worker/topics/topic_expansion.h"

#include <string.h>

struct topic_expansion topic_expansion_start(struct slice topic)
{
    const char *colon = topic.length ? memrchr(topic.data, ':', topic.length) : NULL;
    size_t after = colon ? (size_t)(colon - topic.data) + 1 : 0;
    if (after == 1) { /* empty prefix */
        topic.data++;
        topic.length--;
        after = 0;
    }
    return (struct topic_expansion){.topic = topic, .next = after};
}

bool topic_expansion_next(struct topic_expansion *expansion, struct slice *expanded)
{
    if (expansion->finished)
        return false;
    struct slice topic = expansion->topic;
    const char *slash = topic.length > expansion->next
                            ? memchr(topic.data + expansion->next, '/', topic.length - expansion->next)
                            : NULL;
    if (slash) {
        size_t at = (size_t)(slash - topic.data);
        expansion->next = at + 1;
        *expanded = (struct slice){topic.data, at};
    } else {
        expansion->finished = true;
        *expanded = topic;
    }
    return true;
}
