#include "server/policy/source/git_ssh.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/common/pem_text.h"
#include "server/policy/source/clone_folder.h"

#define KEY_FILE_DEFAULT "~/.ssh/opal_repo_ssh_key"

/* Under another name first, then renamed: the file never holds half a key, other users never can read it, and
 * a symbolic link in its place is replaced, not followed. */
MUST_CHECK static int key_write(const char *path, const struct text *key, struct error *err)
{
    struct text temporary = {0};
    text_append_format(&temporary, "%s.%d", path, (int)getpid());
    unlink(temporary.data);
    errno = 0;
    int file = open(temporary.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool written = file >= 0 && write(file, key->data, key->length) == (ssize_t)key->length;
    int failure = errno ? errno : EIO;
    if (file >= 0)
        close(file);
    if (written && rename(temporary.data, path) < 0) {
        written = false;
        failure = errno;
    }
    if (!written)
        unlink(temporary.data);
    text_free(&temporary);
    if (!written)
        return error_set_errno(err, failure, "cannot write the SSH key to %s", path);
    return 0;
}

/* `text` between single quotes for a shell. */
static void append_quoted(struct text *out, const char *text)
{
    text_append_char(out, '\'');
    for (; *text; text++) {
        if (*text == '\'')
            text_append_string(out, "'\\''");
        else
            text_append_char(out, *text);
    }
    text_append_char(out, '\'');
}

static void append_host_key_options(struct text *command, const char *how, const char *key_path)
{
    struct text files = {0};
    if (strcmp(how, "accept-any") == 0) {
        text_append_string(command, " -o StrictHostKeyChecking=no");
        return;
    }
    text_append_format(
        command, " -o StrictHostKeyChecking=%s", strcmp(how, "strict") == 0 ? "yes" : "accept-new");
    /* ssh adds new host keys to the first file, ours. It reads the user's and the system's too. */
    text_append_string(command, " -o UserKnownHostsFile=");
    text_append_format(&files, "\"%s.known_hosts\" ~/.ssh/known_hosts", key_path);
    append_quoted(command, files.data);
    text_free(&files);
}

int git_ssh_open(const struct config *config, struct text *command, struct error *err)
{
    char *path = clone_folder_expand(config->git_ssh_key_file ? config->git_ssh_key_file : KEY_FILE_DEFAULT);
    char *slash = strrchr(path, '/');
    struct text key = {0};
    if (slash && slash != path) {
        *slash = '\0';
        (void)!mkdir(path, 0700); /* that the folder is missing shows when the key is written */
        *slash = '/';
    }
    int result = pem_text_repair_ssh_key(slice_from_string(config->policy_repo_ssh_key), &key, err);
    if (result < 0)
        error_prefix(err, "OPAL_POLICY_REPO_SSH_KEY (value not shown)");
    else
        result = key_write(path, &key, err);
    if (key.data)
        explicit_bzero(key.data, key.length);
    text_append_string(command, "ssh -o BatchMode=yes -o ConnectTimeout=20 -o IdentitiesOnly=yes -i ");
    append_quoted(command, path);
    append_host_key_options(command, config->policy_repo_ssh_host_keys, path);
    text_free(&key);
    free(path);
    return result;
}
