#include "shm/link/handoff_message.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shm/common/passed_descriptor.h"

bool handoff_message_send(int socket, const struct handoff_message *message, int fd)
{
    size_t length = message->kind == HANDOFF_CONNECTION ? 1 : sizeof *message;
    const struct iovec part = {(void *)(uintptr_t)message, length};
    return passed_descriptor_send(socket, &part, 1, fd, MSG_DONTWAIT) == (ssize_t)length;
}

bool handoff_message_receive(int socket, struct handoff_message *message, int *fd)
{
    *message = (struct handoff_message){0};
    return passed_descriptor_receive(socket, message, sizeof *message, MSG_DONTWAIT, fd, NULL) > 0;
}

int handoff_memory_make(struct slice bytes)
{
    int fd = memfd_create("opald-answer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    size_t written = 0;
    while (written < bytes.length) {
        ssize_t step = write(fd, bytes.data + written, bytes.length - written);
        if (step < 0 && errno != EINTR) {
            int failure = errno;
            close(fd);
            errno = failure;
            return -1;
        }
        written += step > 0 ? (size_t)step : 0;
    }
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
    return fd;
}

bool handoff_memory_take(int fd, uint64_t most, struct text *out)
{
    struct stat status;
    size_t taken = 0;
    bool good = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && (uint64_t)status.st_size <= most;
    size_t length = good ? (size_t)status.st_size : 0;
    char *into = good ? text_reserve(out, length) : NULL;
    while (good && taken < length) {
        ssize_t step = pread(fd, into + taken, length - taken, (off_t)taken);
        if (step > 0)
            taken += (size_t)step;
        else if (step == 0 || errno != EINTR)
            good = false;
    }
    if (good)
        out->length += length;
    close(fd);
    return good;
}
