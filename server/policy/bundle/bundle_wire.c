#include "server/policy/bundle/bundle_wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/common/passed_descriptor.h"

int bundle_wire_pair(int ends[2], struct error *err)
{
    const int bytes = 2 * BUNDLE_WIRE_BYTES_MAX;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return error_set_errno(err, errno, "cannot make a socket for the bundle builder");
    for (int i = 0; i < 2; i++)
        if (setsockopt(ends[i], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0)
            setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    return 0;
}

/* ---- request ---- */

static void append_string(struct text *out, struct slice value)
{
    text_append_slice(out, value);
    text_append_char(out, '\0');
}

void bundle_wire_request_write(const struct bundle_request *request, struct text *out)
{
    struct bundle_wire_request head = {BUNDLE_WIRE_MAGIC, (uint32_t)request->path_count};
    text_append(out, &head, sizeof head);
    append_string(out, slice_from_string(request->repository));
    append_string(out, slice_from_string(request->head));
    append_string(out, request->base);
    for (size_t i = 0; i < request->path_count; i++)
        append_string(out, request->paths[i]);
}

static int take_string(struct slice *rest, struct slice *value)
{
    const char *end = rest->length ? memchr(rest->data, '\0', rest->length) : NULL;
    if (!end)
        return -1;
    *value = (struct slice){rest->data, (size_t)(end - rest->data)};
    *rest = (struct slice){end + 1, rest->length - value->length - 1};
    return 0;
}

int bundle_wire_request_read(
    struct slice message, struct slice *paths, size_t paths_max, struct bundle_request *request)
{
    struct bundle_wire_request head;
    struct slice repository, commit;
    if (message.length < sizeof head)
        return -1;
    memcpy(&head, message.data, sizeof head);
    struct slice rest = {message.data + sizeof head, message.length - sizeof head};
    if (head.magic != BUNDLE_WIRE_MAGIC || head.path_count > paths_max ||
        take_string(&rest, &repository) < 0 || take_string(&rest, &commit) < 0 ||
        take_string(&rest, &request->base) < 0)
        return -1;
    for (size_t i = 0; i < head.path_count; i++)
        if (take_string(&rest, &paths[i]) < 0)
            return -1;
    request->repository = repository.data;
    request->head = commit.data;
    request->paths = paths;
    request->path_count = head.path_count;
    return rest.length == 0 ? 0 : -1;
}

/* ---- reply ---- */

void bundle_wire_reply_write(const struct bundle_result *result, uint64_t build_ns, struct text *out)
{
    struct bundle_wire_reply head = {
        .magic = BUNDLE_WIRE_MAGIC,
        .status = result->status,
        .json_bytes = result->body.json_bytes,
        .gzip_bytes = result->body.gzip_bytes,
        .files = result->files,
        .repaired = result->repaired,
        .build_ns = build_ns,
    };
    memcpy(head.tag, result->body.tag, sizeof head.tag);
    memcpy(head.base, result->base, sizeof head.base);
    text_append(out, &head, sizeof head);
    text_append_slice(out, text_slice(&result->detail));
}

int bundle_wire_reply_read(struct slice message, int descriptor, struct bundle_reply *reply)
{
    struct bundle_wire_reply *head = &reply->head;
    if (message.length >= sizeof *head)
        memcpy(head, message.data, sizeof *head);
    if (message.length < sizeof *head || head->magic != BUNDLE_WIRE_MAGIC ||
        memchr(head->tag, '\0', sizeof head->tag) == NULL ||
        memchr(head->base, '\0', sizeof head->base) == NULL || (head->status == 200) != (descriptor >= 0)) {
        if (descriptor >= 0)
            close(descriptor);
        return -1;
    }
    reply->detail = (struct slice){message.data + sizeof *head, message.length - sizeof *head};
    reply->descriptor = descriptor;
    return 0;
}

/* ---- the socket ---- */

int bundle_wire_send(int socket, struct slice message, int descriptor)
{
    const struct iovec part = {(void *)(uintptr_t)message.data, message.length};
    return passed_descriptor_send(socket, &part, 1, descriptor, 0) < 0 ? -1 : 0;
}

ssize_t bundle_wire_receive(int socket, struct text *buffer, int *descriptor)
{
    text_clear(buffer);
    char *into = text_reserve(buffer, BUNDLE_WIRE_BYTES_MAX);
    ssize_t length = passed_descriptor_receive(socket, into, BUNDLE_WIRE_BYTES_MAX, 0, descriptor, NULL);
    if (length > 0)
        buffer->length = (size_t)length;
    return length;
}
