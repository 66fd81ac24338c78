/*
 * The bundle builder alone, by lines, for test_bundle_differential.py.
 *   bundle_driver [manifest=PATH] [ignore=PATTERN ...] [extension=.x ...] [policy=.x ...]
 *                 [bytes=N] [files=N] [path_bytes=N]
 * In:  REPOSITORY \t HEAD \t BASE \t PATH ... (no PATH: none was given)
 * Out: STATUS JSON_BYTES GZIP_BYTES FILES REPAIRED DIFF TAG, then the JSON (or the detail) and the gzip.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/common/log.h"
#include "shm/common/memory.h"
#include "server/policy/bundle/bundle_build.h"

#define FIELDS_MAX 200

static void list_add(struct config_list *list, const char *item)
{
    list->items = memory_resize(list->items, (list->count + 1) * sizeof *list->items);
    list->items[list->count++] = memory_copy_string(item);
}

static void list_free(struct config_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
}

static const char *value_of(const char *argument, const char *name)
{
    size_t length = strlen(name);
    return strncmp(argument, name, length) == 0 && argument[length] == '=' ? argument + length + 1 : NULL;
}

static void print_result(const struct bundle_result *result)
{
    const struct bundle_body *body = &result->body;
    size_t length = body->json_bytes + body->gzip_bytes;
    if (result->status != 200) {
        printf("%u %zu 0 0 0 0 -\n", result->status, result->detail.length);
        fwrite(result->detail.data, 1, result->detail.length, stdout);
        return;
    }
    char *bytes = mmap(NULL, length, PROT_READ, MAP_SHARED, body->descriptor, 0);
    if (bytes == MAP_FAILED)
        abort();
    printf("200 %zu %zu %zu %zu %d %s\n", (size_t)body->json_bytes, (size_t)body->gzip_bytes,
        (size_t)result->files, (size_t)result->repaired, result->diff, body->tag);
    fwrite(bytes, 1, length, stdout);
    munmap(bytes, length);
    close(body->descriptor);
}

static void serve(struct bundle_builder *builder, char *line)
{
    struct slice fields[FIELDS_MAX];
    size_t count = 0;
    for (char *field; count < FIELDS_MAX && (field = strsep(&line, "\t"));)
        fields[count++] = slice_from_string(field);
    if (count < 3)
        abort();
    struct bundle_request request = {
        .repository = fields[0].data,
        .head = fields[1].data,
        .base = fields[2],
        .paths = fields + 3,
        .path_count = count - 3,
    };
    struct bundle_result result = {0};
    bundle_builder_make(builder, &request, &result);
    if (result.status == BUNDLE_OTHER_BASE) {
        char base[BUNDLE_HASH_LENGTH + 1];
        memcpy(base, result.base, sizeof base);
        request.base = slice_from_string(base);
        memset(&result, 0, sizeof result);
        bundle_builder_make(builder, &request, &result);
    }
    print_result(&result);
    text_free(&result.detail);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct config_list extensions = {0}, policies = {0}, ignore = {0};
    struct bundle_rules rules = {&extensions, &policies, &ignore, NULL};
    struct bundle_limits limits = {.bytes = 1u << 30, .files = 1000000, .path_bytes = 4096};
    for (int i = 1; i < argc; i++) {
        const char *value;
        if ((value = value_of(argv[i], "manifest")))
            rules.manifest_path = value;
        else if ((value = value_of(argv[i], "ignore")))
            list_add(&ignore, value);
        else if ((value = value_of(argv[i], "extension")))
            list_add(&extensions, value);
        else if ((value = value_of(argv[i], "policy")))
            list_add(&policies, value);
        else if ((value = value_of(argv[i], "bytes")))
            limits.bytes = strtoul(value, NULL, 10);
        else if ((value = value_of(argv[i], "files")))
            limits.files = strtoul(value, NULL, 10);
        else if ((value = value_of(argv[i], "path_bytes")))
            limits.path_bytes = strtoul(value, NULL, 10);
        else
            return 2;
    }
    log_configure(&(struct log_settings){.level = LOG_WARNING});
    struct bundle_builder *builder = bundle_builder_open(&rules, &limits);
    char *line = NULL;
    size_t capacity = 0;
    for (ssize_t length; (length = getline(&line, &capacity, stdin)) > 0;) {
        line[length - 1] = '\0';
        serve(builder, line);
    }
    free(line);
    bundle_builder_close(builder);
    list_free(&extensions);
    list_free(&policies);
    list_free(&ignore);
    return 0;
}
