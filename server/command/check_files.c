#include "server/command/check_files.h"

#include <errno.h>
#include <libpq-fe.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/common/memory.h"
#include "shm/common/text.h"
#include "broadcast/redis/redis_uri.h"
#include "server/policy/source/clone_folder.h"

struct check {
    problem_report *report;
    void *context;
    size_t problems;
};

static void wrong(struct check *check, const char *name, const char *path, const char *why)
{
    struct text line = {0};
    text_append_format(&line, "%s='%s': %s", name, path, why);
    check->report(check->context, line.data);
    check->problems++;
    text_free(&line);
}

/* ---- one path ---- */

enum kind { KIND_FILE, KIND_CERTIFICATES, KIND_FOLDER };

static bool has_certificate(const char *path)
{
    BIO *bio = BIO_new_file(path, "r");
    X509 *certificate = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    bool has = certificate != NULL;
    X509_free(certificate);
    BIO_free(bio);
    ERR_clear_error();
    return has;
}

static void check_path(struct check *check, const char *name, const char *path, enum kind kind)
{
    struct stat status;
    if (!path || !path[0])
        return;
    if (stat(path, &status) < 0 || access(path, R_OK) < 0)
        wrong(check, name, path, strerror(errno));
    else if (S_ISDIR(status.st_mode) != (kind == KIND_FOLDER))
        wrong(check, name, path, kind == KIND_FOLDER ? "is no folder" : "is a folder, a file is wanted");
    else if (kind == KIND_CERTIFICATES && !has_certificate(path))
        wrong(check, name, path, "holds no certificate in PEM format");
}

/* A folder that opald makes when it is not there: the nearest one above it that is there must let it. */
static void check_writable(struct check *check, const char *name, const char *path)
{
    char *at = memory_copy_string(path);
    struct stat status;
    while (stat(at, &status) < 0 && errno == ENOENT) {
        char *slash = strrchr(at, '/');
        if (!slash) {
            free(at);
            at = memory_copy_string(".");
            break;
        }
        slash[slash == at] = '\0';
    }
    bool there = stat(at, &status) == 0;
    if (there && !S_ISDIR(status.st_mode))
        wrong(check, name, path, "is a file, not a folder");
    else if (!there || access(at, W_OK | X_OK) < 0)
        wrong(check, name, path, strerror(errno));
    free(at);
}

/* ---- the backbone ---- */

/* "key=value" a line. */
static void check_kafka_settings(struct check *check, const char *settings)
{
    static const struct {
        const char *key;
        enum kind kind;
    } locations[] = {{"ssl.certificate.location", KIND_CERTIFICATES}, {"ssl.key.location", KIND_FILE},
        {"ssl.keystore.location", KIND_FILE}, {"ssl.crl.location", KIND_FILE}};
    char *copy = memory_copy_string(settings ? settings : ""), *rest = copy, *line;
    while ((line = strsep(&rest, "\n"))) {
        char *equals = strchr(line, '=');
        struct text name = {0};
        if (!equals)
            continue;
        *equals = '\0';
        text_append_format(&name, "OPAL_KAFKA_CONFIG: %s", line);
        for (size_t i = 0; i < sizeof locations / sizeof *locations; i++)
            if (strcmp(line, locations[i].key) == 0)
                check_path(check, name.data, equals + 1, locations[i].kind);
        /* librdkafka takes a file or a folder, or looks for one itself. */
        struct stat status;
        bool folder = stat(equals + 1, &status) == 0 && S_ISDIR(status.st_mode);
        if (strcmp(line, "ssl.ca.location") == 0 && strcmp(equals + 1, "probe") != 0)
            check_path(check, name.data, equals + 1, folder ? KIND_FOLDER : KIND_CERTIFICATES);
        text_free(&name);
    }
    free(copy);
}

static void check_kafka(struct check *check, const struct config *config)
{
    static const struct {
        const char *variable;
        enum kind kind;
    } files[] = {{"KAFKA_SSL_CAFILE", KIND_CERTIFICATES}, {"KAFKA_SSL_CAPATH", KIND_FOLDER},
        {"KAFKA_SSL_CERTFILE", KIND_CERTIFICATES}, {"KAFKA_SSL_KEYFILE", KIND_FILE}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        check_path(check, files[i].variable, getenv(files[i].variable), files[i].kind);
    check_kafka_settings(check, config->broadcast.kafka_config);
}

static void check_redis(struct check *check, const char *text)
{
    struct redis_uri uri = {0};
    struct error err = {0};
    if (redis_uri_parse(text, &uri, &err) < 0)
        return; /* reported by the backbone's own check */
    check_path(check, "OPAL_BROADCAST_URI: ssl_ca_certs", uri.ca_file, KIND_CERTIFICATES);
    check_path(check, "OPAL_BROADCAST_URI: ssl_ca_path", uri.ca_path, KIND_FOLDER);
    check_path(check, "OPAL_BROADCAST_URI: ssl_certfile", uri.certificate_file, KIND_CERTIFICATES);
    check_path(check, "OPAL_BROADCAST_URI: ssl_keyfile", uri.key_file, KIND_FILE);
    redis_uri_free(&uri);
}

static void check_postgres(struct check *check, const char *uri)
{
    PQconninfoOption *options = PQconninfoParse(uri, NULL);
    for (const PQconninfoOption *option = options; option && option->keyword; option++) {
        struct text name = {0};
        text_append_format(&name, "OPAL_BROADCAST_URI: %s", option->keyword);
        /* "system": the certificates of the operating system */
        bool is_root =
            strcmp(option->keyword, "sslrootcert") == 0 && option->val && strcmp(option->val, "system") != 0;
        if (is_root || strcmp(option->keyword, "sslcert") == 0)
            check_path(check, name.data, option->val, KIND_CERTIFICATES);
        else if (strcmp(option->keyword, "sslkey") == 0)
            check_path(check, name.data, option->val, KIND_FILE);
        text_free(&name);
    }
    PQconninfoFree(options);
}

size_t check_files_of_backbone(const struct config *config, problem_report *report, void *context)
{
    struct check check = {.report = report, .context = context};
    const char *uri = config->broadcast.uri ? config->broadcast.uri : "";
    if (strncmp(uri, "kafka", 5) == 0)
        check_kafka(&check, config);
    else if (strncmp(uri, "redis", 5) == 0)
        check_redis(&check, uri);
    else if (strncmp(uri, "postgres", 8) == 0)
        check_postgres(&check, uri);
    return check.problems;
}

/* ---- policies, and the whole ---- */

static void check_policy(struct check *check, const struct config *config)
{
    bool api = strcmp(config->policy_source_type, "API") == 0;
    if (!config->repo_watcher_enabled || !(api ? config->policy_bundle_url : config->policy_repo_url))
        return;
    const char *clones = config->policy_repo_clone_path;
    char *folder = clone_folder_expand(clones ? clones : "regoclone");
    check_writable(check, "OPAL_POLICY_REPO_CLONE_PATH", folder);
    free(folder);
}

size_t check_files(const struct config *config, problem_report *report, void *context)
{
    struct check check = {.report = report, .context = context};
    check.problems += check_files_of_backbone(config, report, context);
    check_policy(&check, config);
    if (config->auth_jwks_static_dir)
        check_writable(&check, "OPAL_AUTH_JWKS_STATIC_DIR", config->auth_jwks_static_dir);
    return check.problems;
}
