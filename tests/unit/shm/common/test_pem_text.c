/* PEM text as environment variables deliver it: repaired to the byte, or what is wrong with it is said. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "shm/common/pem_text.h"

/* Keys made for this test. */
static const char openssh[] = "-----BEGIN OPENSSH PRIVATE KEY-----\n"
                              "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n"
                              "QyNTUxOQAAACBIzCPVNuzUmHBsEfsbli3ZWqW64hJnwGmPqTz3TgbmzQAAAIi7wuJku8Li\n"
                              "ZAAAAAtzc2gtZWQyNTUxOQAAACBIzCPVNuzUmHBsEfsbli3ZWqW64hJnwGmPqTz3TgbmzQ\n"
                              "AAAEDvZQtEVEp3bJjhcz4amH80KoRwSb92JStxb4il1OIHfUjMI9U27NSYcGwR+xuWLdla\n"
                              "pbriEmfAaY+pPPdOBubNAAAAAWMBAgME\n"
                              "-----END OPENSSH PRIVATE KEY-----\n";
static const char openssh_encrypted[] =
    "-----BEGIN OPENSSH PRIVATE KEY-----\n"
    "b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABCHn9UhtD\n"
    "ravFt+/AC82nBAAAAAEAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIDo+/Vupqh57FHno\n"
    "shiJtO9QF6/6u+ng3rFZFQNeM2rfAAAAkJhQLJ8NntU+VDrBFXgrK88owJMSqtKqs3QsIj\n"
    "bXOTsG2KF9SOfQ03SFpgyPEeaFx2IN0VhPZnnMGmiCR6Fn+E3gGWLGyTlKQfsuEVS712DZ\n"
    "Phs05aAPy8Ws5kayT/9brBSiRofDxY+JHiFkOz0vGgwsvumcPa6Nr/XdBVIFy6hi12d0Ei\n"
    "L21uuB9r0bC/S+eA==\n"
    "-----END OPENSSH PRIVATE KEY-----\n";
static const char ec_two_blocks[] = "-----BEGIN EC PARAMETERS-----\n"
                                    "BggqhkjOPQMBBw==\n"
                                    "-----END EC PARAMETERS-----\n"
                                    "-----BEGIN EC PRIVATE KEY-----\n"
                                    "MHcCAQEEINvO9P75dLzuBMQlK+oo7IjTQefnjfKsLowMbqZ/2N3hoAoGCCqGSM49\n"
                                    "AwEHoUQDQgAEFSRLqMZ5X8bdNfXBrEVbofjDydXvMa8K8qF5Pcla/RooY5mmDj9B\n"
                                    "EzAI7crtLwk9iqSIVl9cFVdFV5x0MP7hAw==\n"
                                    "-----END EC PRIVATE KEY-----\n";
static const char ec_encrypted[] = "-----BEGIN EC PRIVATE KEY-----\n"
                                   "Proc-Type: 4,ENCRYPTED\n"
                                   "DEK-Info: AES-128-CBC,E5ABEA9F63200E1C5A067625142B9F5B\n"
                                   "\n"
                                   "Uax3klvrnPpZ6JV3yuxQPQMgXKMae92JdQcysxD5Pnph3Ke6TX1kvHh23y6EL1xN\n"
                                   "Gl2q8VkGO2jH2PfjxE0H7PsWIUL1bqZo+y3WaoBxiLxmY80Htq97OY0zjzWP3Ifz\n"
                                   "kRlhwKouBVTTMtFmGN+AwVUzaLdjLK/cEjPt3vz76Xw=\n"
                                   "-----END EC PRIVATE KEY-----\n";

static const char *const keys[] = {openssh, openssh_encrypted, ec_two_blocks, ec_encrypted};

/* `key` with `line_end` in place of its line ends, between `before` and `after`. */
static void append_mangled(
    struct text *out, const char *key, const char *before, const char *line_end, const char *after)
{
    text_append_string(out, before);
    for (; *key; key++) {
        if (*key == '\n')
            text_append_string(out, line_end);
        else
            text_append_char(out, *key);
    }
    text_append_string(out, after);
}

static void test_repaired(void **state)
{
    static const char *const line_ends[] = {
        "\n", "\r\n", "\\n", "\\r\\n", "_", " ", "\r", "  \n", "\n\n", "\\n\n", "\n    "};
    static const char *const arounds[][2] = {{"", ""}, {"\"", "\""}, {"'", "'"}, {" ", "  "}, {"\n", "\n\n"},
        {"# comment\n", "\\n"}, {"\xef\xbb\xbf", ""}};
    (void)state;
    for (size_t key = 0; key < sizeof keys / sizeof *keys; key++) {
        for (size_t end = 0; end < sizeof line_ends / sizeof *line_ends; end++) {
            for (size_t around = 0; around < sizeof arounds / sizeof *arounds; around++) {
                struct text mangled = {0}, out = {0};
                struct error err = {0};
                append_mangled(&mangled, keys[key], arounds[around][0], line_ends[end], arounds[around][1]);
                assert_true(pem_text_is(text_slice(&mangled)));
                if (pem_text_repair(text_slice(&mangled), &out, &err) < 0)
                    fail_msg("%s: %s", mangled.data, err.text);
                assert_string_equal(out.data, keys[key]);
                text_free(&mangled);
                text_free(&out);
            }
        }
    }
}

/* A line end that vanished without a trace is no loss in base64 either. */
static void test_without_line_ends(void **state)
{
    struct text mangled = {0}, out = {0};
    struct error err = {0};
    (void)state;
    append_mangled(&mangled, openssh, "", "", "");
    assert_int_equal(pem_text_repair(text_slice(&mangled), &out, &err), 0);
    assert_string_equal(out.data, openssh);
    text_free(&mangled);
    text_free(&out);
}

static void test_named_exactly(void **state)
{
    static const struct {
        const char *text;
        const char *says;
    } rows[] = {
        {"", "it has no line -----BEGIN ...-----"},
        {"AAAA", "it has no line -----BEGIN ...-----"},
        {"LS0tLS1CRUdJTiBPUEVOU1NI", "PEM in base64 once more"},
        {"-----BEGIN RSA PRIVATE", "its first line, -----BEGIN ...-----, is not whole"},
        {"-----BEGIN RSA PRIVATE KEY-----", "only its first line has arrived"},
        {"-----BEGIN RSA PRIVATE KEY-----\\n", "write \\n in place of each line end"},
        {"-----BEGIN RSA PRIVATE KEY-----\nAAAA",
            "-----END RSA PRIVATE KEY-----, is missing: the text is cut"},
        {"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----",
            "its last line is not -----END RSA PRIVATE KEY-----"},
        {"-----BEGIN A-----\nAAAA\n-----END A", "its last line is not -----END A-----"},
        {"-----BEGIN A-----\nAAAA\nAA*A\n-----END A-----",
            "character 7 between its first and last line is not base64"},
        {"-----BEGIN A-----\nAA=A\n-----END A-----", "character 4 between"},
        {"-----BEGIN A-----\nAAAAA\n-----END A-----", "is cut: it has 5 characters"},
        {"-----BEGIN A-----\nA===\n-----END A-----", "is cut"},
        {"-----BEGIN A-----\n-----END A-----", "is cut: it has 0 characters"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct text out = {0};
        struct error err = {0};
        assert_int_equal(pem_text_repair(slice_from_string(rows[i].text), &out, &err), -1);
        if (!strstr(err.text, rows[i].says))
            fail_msg("%s: %s", rows[i].text, err.text);
        text_free(&out);
    }
}

static void test_ssh_keys(void **state)
{
    static const struct {
        const char *text;
        const char *says;
    } rows[] = {
        {"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI", "it is a public key"},
        {"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "it is a public key"},
        {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "it is not a private key"},
        {"~/.ssh/id_rsa", "it is a path"},
        {"/run/secrets/key", "the _FILE form takes a path"},
        {openssh_encrypted, "it is encrypted"},
        {ec_encrypted, "it is encrypted"},
        {"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----",
            "it is encrypted"},
        {"nothing", "it has no line"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct text out = {0};
        struct error err = {0};
        assert_int_equal(pem_text_repair_ssh_key(slice_from_string(rows[i].text), &out, &err), -1);
        if (!strstr(err.text, rows[i].says))
            fail_msg("%s: %s", rows[i].text, err.text);
        text_free(&out);
    }
    static const char *const good[] = {openssh, ec_two_blocks};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct text out = {0};
        struct error err = {0};
        assert_int_equal(pem_text_repair_ssh_key(slice_from_string(good[i]), &out, &err), 0);
        assert_string_equal(out.data, good[i]);
        text_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_repaired),
        cmocka_unit_test(test_without_line_ends), cmocka_unit_test(test_named_exactly),
        cmocka_unit_test(test_ssh_keys)};
    return cmocka_run_group_tests_name("shm/common/pem_text", tests, NULL, NULL);
}
