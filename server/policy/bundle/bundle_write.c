#include "server/policy/bundle/bundle_write.h"

#include <stdlib.h>

#include "shm/common/log.h"
#include "shm/common/loggers.h"
#include "shm/common/memory.h"
#include "shm/common/utf8.h"
#include "server/policy/bundle/bundle_blob.h"
#include "server/policy/bundle/bundle_path.h"
#include "server/policy/bundle/bundle_text.h"

#define FLUSH_BYTES 65536

struct writer {
    const struct bundle_content *content;
    struct bundle_output *output;
    /* What the output has not got yet. */
    struct text text;
    uint64_t repaired;
};

/* Ill-formed UTF-8 in names and files becomes U+FFFD: one file in another encoding must not keep all others
 * from the clients. */
static void write_string(struct writer *writer, struct slice value)
{
    struct text repaired = {0};
    if (utf8_is_valid(value)) {
        text_append_json_utf8(&writer->text, value);
        return;
    }
    text_append_repaired(&repaired, value);
    text_append_json_utf8(&writer->text, text_slice(&repaired));
    text_free(&repaired);
}

static void write_key(struct writer *writer, const char *before)
{
    text_append_string(&writer->text, before);
}

static void write_strings(struct writer *writer, const struct slice *values, size_t count)
{
    text_append_char(&writer->text, '[');
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            text_append_char(&writer->text, ',');
        write_string(writer, values[i]);
    }
    text_append_char(&writer->text, ']');
}

static void write_manifest(struct writer *writer)
{
    const struct bundle_modules *modules = writer->content->modules;
    struct slice *paths = memory_allocate((modules->count + 1) * sizeof *paths);
    for (size_t i = 0; i < modules->count; i++)
        paths[i] = modules->items[i].path;
    bundle_manifest_sort(writer->content->manifest, paths, modules->count);
    write_strings(writer, paths, modules->count);
    free(paths);
}

static void write_module(struct writer *writer, const struct bundle_module *module, struct slice text)
{
    if (!utf8_is_valid(text)) {
        writer->repaired++;
        log_write(LOG_WARNING, LOGGER_BUNDLE,
            "%.*s at %s is not UTF-8: its ill-formed bytes are replaced by U+FFFD", (int)module->path.length,
            module->path.data, writer->content->hash);
    }
    write_key(writer, "{\"path\":");
    if (module->kind == BUNDLE_DATA) {
        write_string(writer, bundle_path_parent(module->path));
        write_key(writer, ",\"data\":");
    } else {
        write_string(writer, module->path);
        write_key(writer, ",\"package_name\":");
        write_string(writer, bundle_text_package(text));
        write_key(writer, ",\"rego\":");
    }
    write_string(writer, text);
    text_append_char(&writer->text, '}');
}

MUST_CHECK static int write_modules(struct writer *writer, enum bundle_kind kind, struct error *err)
{
    const struct bundle_modules *modules = writer->content->modules;
    bool first = true;
    text_append_char(&writer->text, '[');
    for (size_t i = 0; i < modules->count; i++) {
        const struct bundle_module *module = &modules->items[i];
        git_blob *blob;
        if (module->kind != kind)
            continue;
        if (bundle_blob_open(
                &blob, writer->content->repository, &module->oid, writer->content->file_bytes_max, err) < 0)
            return -1;
        if (!first)
            text_append_char(&writer->text, ',');
        first = false;
        write_module(
            writer, module, (struct slice){git_blob_rawcontent(blob), (size_t)git_blob_rawsize(blob)});
        git_blob_free(blob);
        if (writer->text.length > FLUSH_BYTES && bundle_output_take(writer->output, &writer->text) < 0)
            return 0; /* bundle_output_finish gives the reason */
    }
    text_append_char(&writer->text, ']');
    return 0;
}

/* Policies last to first, so that what depends on another goes before it. */
static void write_deleted(struct writer *writer)
{
    const struct bundle_modules *deleted = writer->content->deleted;
    struct slice *data = memory_allocate((deleted->count + 1) * sizeof *data);
    struct slice *policies = memory_allocate((deleted->count + 1) * sizeof *policies);
    size_t data_count = 0, policy_count = 0;
    for (size_t i = 0; i < deleted->count; i++)
        if (deleted->items[i].kind == BUNDLE_DATA)
            data[data_count++] = bundle_path_parent(deleted->items[i].path);
        else
            policies[policy_count++] = deleted->items[i].path;
    bundle_manifest_sort(writer->content->manifest, policies, policy_count);
    for (size_t low = 0, high = policy_count; low + 1 < high; low++) {
        struct slice swapped = policies[low];
        policies[low] = policies[--high];
        policies[high] = swapped;
    }
    write_key(writer, "{\"data_modules\":");
    write_strings(writer, data, data_count);
    write_key(writer, ",\"policy_modules\":");
    write_strings(writer, policies, policy_count);
    text_append_char(&writer->text, '}');
    free(data);
    free(policies);
}

/* The keys are in the reference's order. */
MUST_CHECK static int write_all(struct writer *writer, struct error *err)
{
    const struct bundle_content *content = writer->content;
    write_key(writer, "{\"manifest\":");
    write_manifest(writer);
    text_append_format(&writer->text, ",\"hash\":\"%s\",\"old_hash\":", content->hash);
    if (content->old_hash)
        text_append_format(&writer->text, "\"%s\"", content->old_hash);
    else
        write_key(writer, "null");
    write_key(writer, ",\"data_modules\":");
    if (write_modules(writer, BUNDLE_DATA, err) < 0)
        return -1;
    write_key(writer, ",\"policy_modules\":");
    if (write_modules(writer, BUNDLE_POLICY, err) < 0)
        return -1;
    write_key(writer, ",\"deleted_files\":");
    if (content->deleted->count > 0)
        write_deleted(writer);
    else
        write_key(writer, "null");
    write_key(writer, "}");
    bundle_output_take(writer->output, &writer->text);
    return 0;
}

int bundle_write(
    const struct bundle_content *content, struct bundle_output *output, uint64_t *repaired, struct error *err)
{
    struct writer writer = {.content = content, .output = output};
    int result = write_all(&writer, err);
    *repaired = writer.repaired;
    text_free(&writer.text);
    return result;
}
