#include "server/policy/bundle/bundle_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/common/child.h"
#include "shm/common/clock.h"
#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "server/policy/bundle/bundle_wire.h"

#define CHILD_PATHS_MAX 65536

/* ---- the builder ---- */

MUST_CHECK static int answer_one(
    int socket, struct bundle_builder *builder, struct slice message, struct slice *paths)
{
    struct bundle_request request;
    struct bundle_result result = {0};
    struct text reply = {0};
    uint64_t start = clock_monotonic_ns();
    result.body.descriptor = -1;
    if (bundle_wire_request_read(message, paths, CHILD_PATHS_MAX, &request) < 0) {
        log_write(LOG_ERROR, LOGGER_BUNDLE, "The bundle builder got a request that it can't read");
        return -1;
    }
    bundle_builder_make(builder, &request, &result);
    bundle_wire_reply_write(&result, clock_monotonic_ns() - start, &reply);
    int descriptor = result.status == 200 ? result.body.descriptor : -1;
    int sent = bundle_wire_send(socket, text_slice(&reply), descriptor);
    if (descriptor >= 0)
        close(descriptor);
    text_free(&result.detail);
    text_free(&reply);
    return sent;
}

int bundle_child_serve(int socket, const struct bundle_rules *rules, const struct bundle_limits *limits)
{
    struct bundle_builder *builder = bundle_builder_open(rules, limits);
    struct slice *paths = memory_allocate(CHILD_PATHS_MAX * sizeof *paths);
    struct text buffer = {0};
    int descriptor;
    ssize_t length;
    while ((length = bundle_wire_receive(socket, &buffer, &descriptor)) > 0)
        if (answer_one(socket, builder, text_slice(&buffer), paths) < 0)
            break;
    text_free(&buffer);
    free(paths);
    bundle_builder_close(builder);
    return length == 0 ? 0 : 1;
}

int bundle_child_main(const struct config *config)
{
    const struct bundle_rules rules = bundle_rules_of(config);
    const struct bundle_limits limits = bundle_limits_of(config);
    /* git must not inherit it, or its end would not be noticed while git runs. */
    fcntl(BUNDLE_CHILD_SOCKET, F_SETFD, FD_CLOEXEC);
    signal(SIGPIPE, SIG_IGN);
    /* A terminal's ^C reaches all processes; the policy process decides when this one ends. */
    signal(SIGINT, SIG_IGN);
    return bundle_child_serve(BUNDLE_CHILD_SOCKET, &rules, &limits);
}

/* ---- its start ---- */

/* The arguments of this process with its --as-... replaced. From /proc, so that no caller has to pass them
 * along. */
static const char **read_arguments(struct text *text)
{
    size_t count = 0, capacity = 16;
    const char **argv = memory_allocate(capacity * sizeof *argv);
    int file = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t length;
    while (file >= 0 && (length = read(file, text_reserve(text, 4096), 4096)) > 0)
        text->length += (size_t)length;
    if (file >= 0)
        close(file);
    text_append_char(text, '\0');
    for (size_t at = 0; at + 1 < text->length; at += strlen(text->data + at) + 1) {
        if (count + 3 > capacity)
            argv = memory_resize(argv, (capacity *= 2) * sizeof *argv);
        bool flag = count == 1 && strncmp(text->data + at, "--as-", 5) == 0;
        argv[count++] = flag ? "--as-bundle-builder" : text->data + at;
    }
    argv[count] = NULL;
    return argv;
}

int bundle_child_start(int socket, struct error *err)
{
    struct text text = {0};
    const char **argv = read_arguments(&text);
    const struct child_descriptor descriptor = {.from = socket, .to = BUNDLE_CHILD_SOCKET};
    const struct child_settings settings = {.program = CHILD_THIS_PROGRAM,
        .argv = argv,
        .descriptors = &descriptor,
        .descriptor_count = 1,
        .dies_with_parent = true};
    pid_t pid = child_start(&settings, err);
    free(argv);
    text_free(&text);
    return pid < 0 ? error_prefix(err, "the bundle builder") : (int)pid;
}
