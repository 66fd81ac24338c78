#include "worker/policy/webhook_payload.h"

#include <stdlib.h>
#include <string.h>

#include "shm/common/git_url.h"

#define BRANCH_PREFIX "refs/heads/"

static uint32_t member(const struct json_document *document, uint32_t object, const char *key)
{
    if (object == JSON_ABSENT || document->tokens[object].type != JSON_OBJECT)
        return JSON_ABSENT;
    return json_member(document, object, key);
}

static void add_string(
    const struct json_document *document, uint32_t token, struct text *list, size_t *count, size_t most)
{
    if (token == JSON_ABSENT || document->tokens[token].type != JSON_STRING || *count == most)
        return;
    text_append_string(&list[*count], "");
    json_string_decode(document, token, &list[(*count)++]);
}

static void add_branch(struct webhook_payload *payload, const struct json_document *document, uint32_t token)
{
    size_t before = payload->branch_count;
    add_string(document, token, payload->branches, &payload->branch_count, WEBHOOK_BRANCHES_MAX);
    if (payload->branch_count == before)
        return;
    struct text *branch = &payload->branches[before];
    size_t prefix = strlen(BRANCH_PREFIX);
    if (branch->length >= prefix && memcmp(branch->data, BRANCH_PREFIX, prefix) == 0) {
        memmove(branch->data, branch->data + prefix, branch->length - prefix + 1);
        branch->length -= prefix;
    }
}

/* Azure DevOps: one reference, or a list of them. */
static void add_reference_updates(
    struct webhook_payload *payload, const struct json_document *document, uint32_t updates)
{
    if (updates == JSON_ABSENT)
        return;
    if (document->tokens[updates].type == JSON_OBJECT)
        add_branch(payload, document, json_member(document, updates, "name"));
    if (document->tokens[updates].type != JSON_ARRAY)
        return;
    for (uint32_t i = updates + 1; i < document->tokens[updates].next; i = document->tokens[i].next)
        add_branch(payload, document, member(document, i, "name"));
}

/* Bitbucket: a list of changes, each with the branch as it is now. */
static void add_pushed_changes(
    struct webhook_payload *payload, const struct json_document *document, uint32_t changes)
{
    if (changes == JSON_ABSENT || document->tokens[changes].type != JSON_ARRAY)
        return;
    for (uint32_t i = changes + 1; i < document->tokens[changes].next; i = document->tokens[i].next)
        add_branch(payload, document, member(document, member(document, i, "new"), "name"));
}

/* Bitbucket Server: a list of changes too, each with the reference by its whole name. */
static void add_reference_changes(
    struct webhook_payload *payload, const struct json_document *document, uint32_t changes)
{
    if (changes == JSON_ABSENT || document->tokens[changes].type != JSON_ARRAY)
        return;
    for (uint32_t i = changes + 1; i < document->tokens[changes].next; i = document->tokens[i].next)
        add_branch(payload, document, member(document, member(document, i, "ref"), "id"));
}

/* Bitbucket Server: one URL for each way to clone. */
static void add_clone_links(
    struct webhook_payload *payload, const struct json_document *document, uint32_t repository)
{
    uint32_t links = member(document, member(document, repository, "links"), "clone");
    if (links == JSON_ABSENT || document->tokens[links].type != JSON_ARRAY)
        return;
    for (uint32_t i = links + 1; i < document->tokens[links].next; i = document->tokens[i].next)
        add_string(
            document, member(document, i, "href"), payload->urls, &payload->url_count, WEBHOOK_URLS_MAX);
}

void webhook_payload_read(struct webhook_payload *payload, const struct json_document *document)
{
    static const char *const repository_urls[] = {
        "git_url", "ssh_url", "clone_url", "url", "git_ssh_url", "git_http_url"};
    uint32_t repository = member(document, 0, "repository");
    uint32_t project = member(document, 0, "project");
    uint32_t resource = member(document, 0, "resource");
    const uint32_t urls[] = {member(document, project, "git_http_url"),
        member(document, project, "git_ssh_url"),
        member(document, member(document, resource, "repository"), "remoteUrl")};
    for (size_t i = 0; i < sizeof repository_urls / sizeof *repository_urls; i++)
        add_string(document, member(document, repository, repository_urls[i]), payload->urls,
            &payload->url_count, WEBHOOK_URLS_MAX);
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++)
        add_string(document, urls[i], payload->urls, &payload->url_count, WEBHOOK_URLS_MAX);
    add_clone_links(payload, document, repository);
    add_string(document, member(document, project, "path_with_namespace"), payload->names,
        &payload->name_count, WEBHOOK_NAMES_MAX);
    add_string(document, member(document, repository, "full_name"), payload->names, &payload->name_count,
        WEBHOOK_NAMES_MAX);

    add_branch(payload, document, member(document, 0, "ref"));
    add_reference_updates(payload, document, member(document, 0, "refUpdates"));
    add_reference_updates(payload, document, member(document, resource, "refUpdates"));
    add_pushed_changes(payload, document, member(document, member(document, 0, "push"), "changes"));
    add_reference_changes(payload, document, member(document, 0, "changes"));
}

static void free_all(struct text *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        text_free(&list[i]);
}

void webhook_payload_free(struct webhook_payload *payload)
{
    free_all(payload->urls, payload->url_count);
    free_all(payload->names, payload->name_count);
    free_all(payload->branches, payload->branch_count);
    *payload = (struct webhook_payload){0};
}

static bool holds(const struct text *list, size_t count, struct slice value)
{
    for (size_t i = 0; i < count; i++)
        if (slice_equals(text_slice(&list[i]), value))
            return true;
    return false;
}

bool webhook_payload_has_branch(const struct webhook_payload *payload, const char *branch)
{
    return holds(payload->branches, payload->branch_count, slice_from_string(branch));
}

/* ---- the repository ---- */

static bool is_url_of(const struct text *list, size_t count, const struct git_url *tracked)
{
    bool same = false;
    for (size_t i = 0; i < count && !same; i++) {
        struct git_url url = {0};
        struct error err = {0};
        same = git_url_parse(&url, list[i].data, &err) == 0 && git_url_same(&url, tracked);
        git_url_free(&url);
    }
    return same;
}

/* "organisation/repository" of the tracked URL's path */
static struct slice repository_name(const struct git_url *tracked)
{
    struct slice name = slice_trim(text_slice(&tracked->path), "/");
    if (name.length >= 4 && memcmp(name.data + name.length - 4, ".git", 4) == 0)
        name.length -= 4;
    return name;
}

bool webhook_payload_matches(const struct webhook_payload *payload, const char *url)
{
    struct git_url tracked = {0};
    struct error err = {0};
    bool matches = false;
    if (git_url_parse(&tracked, url, &err) == 0)
        matches = payload->url_count > 0
                      ? is_url_of(payload->urls, payload->url_count, &tracked)
                      : holds(payload->names, payload->name_count, repository_name(&tracked));
    git_url_free(&tracked);
    return matches;
}
