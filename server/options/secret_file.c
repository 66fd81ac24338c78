#include "server/options/secret_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/common/memory.h"

#define SECRET_FILE_MAX_BYTES (64 * 1024)
#define NAME_MAX_BYTES        96

/* Of at most that size and one byte more, which shows that it is larger; SIZE_MAX with errno set. */
static size_t read_all(int fd, char *content)
{
    size_t length = 0;
    while (length <= SECRET_FILE_MAX_BYTES) {
        ssize_t count = read(fd, content + length, SECRET_FILE_MAX_BYTES + 1 - length);
        if (count == 0)
            break;
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return SIZE_MAX;
        length += (size_t)count;
    }
    return length;
}

char *secret_file_read(const char *path, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *content = memory_allocate(SECRET_FILE_MAX_BYTES + 2);
    size_t length = fd < 0 ? SIZE_MAX : read_all(fd, content);
    int failure = errno;
    if (fd >= 0)
        close(fd);
    if (length == SIZE_MAX) {
        error_set(err, failure, "must be a file that can be read (%s)", strerror(failure));
        free(content);
        return NULL;
    }
    if (length > SECRET_FILE_MAX_BYTES || memchr(content, '\0', length)) {
        error_set(err, -1, "must be a text file of at most %d bytes", SECRET_FILE_MAX_BYTES);
        free(content);
        return NULL;
    }
    if (length && content[length - 1] == '\n')
        length--;
    if (length && content[length - 1] == '\r')
        length--;
    content[length] = '\0';
    return content;
}

int secret_from_environment(const char *name, char **secret, struct error *err)
{
    char file_name[NAME_MAX_BYTES];
    snprintf(file_name, sizeof file_name, "%s_FILE", name);
    const char *text = getenv(name);
    const char *path = getenv(file_name);
    *secret = NULL;
    if (text && *text && path && *path)
        return error_set(err, -1, "%s and %s: must not both be set", name, file_name);
    if (path && *path) {
        *secret = secret_file_read(path, err);
        return *secret ? 0 : error_prefix(err, "%s='%s'", file_name, path);
    }
    if (text && *text)
        *secret = memory_copy_string(text);
    return 0;
}
