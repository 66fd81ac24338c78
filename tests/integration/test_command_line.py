"""The command line against the reference's: print-config shows the same options with the same defaults, publish-data-update
sends and prints the same."""

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from harness import OPALD, VENV, clean_environment, scaled

REFERENCE = VENV / "bin" / "opal-server"


def run(program, *arguments, env=None, cwd=None):
    done = subprocess.run([program, *map(str, arguments)], env=clean_environment(env), cwd=cwd, capture_output=True, text=True, timeout=scaled(60))
    return done.returncode, done.stdout, done.stderr


# ---------------------------------------------------------------- print-config
def objects(printed):
    head, rest = printed.split("\n", 1)
    assert head == "Printing configuration values"
    decoder = json.JSONDecoder()
    server, end = decoder.raw_decode(rest)
    common, _ = decoder.raw_decode(rest[end:].lstrip())
    return server, common


# named otherwise in ours: the attribute's name there, the variable's name here
OTHER_NAMES = {"OPAL_WS_LOCAL_URL": "WS_LOCAL_URL", "OPAL_WS_TOKEN": "WS_TOKEN"}
# SERVER_PORT is another name of SERVER_BIND_PORT, the trigger route shares a variable with DATA_CONFIG_ROUTE
NOT_OPTIONS = {"SERVER_PORT", "DATA_UPDATE_TRIGGER_ROUTE"}
# computed by the reference when it is asked, or secret by ours
OTHER_VALUES = {"AUTH_JWKS_STATIC_DIR", "BASE_DIR", "POLICY_REPO_CLONE_PATH", "GIT_SSH_KEY_FILE", "LOG_FORMAT", "DATA_CONFIG_SOURCES",
                "POLICY_REPO_WEBHOOK_PARAMS", "SERVER_WORKER_COUNT", "WS_TOKEN", "BUNDLE_IGNORE", "POLICY_REPO_MANIFEST_PATH",
                "BROADCAST_FREEZE_ON_DISCONNECT"}  # deploy/guide/operating.md says why


def test_every_option_of_the_reference_with_its_default(work):
    work.mkdir(parents=True, exist_ok=True)
    status, ours, err = run(OPALD, "print-config", cwd=work)
    assert status == 0, err
    status, theirs, err = run(REFERENCE, "print-config", cwd=work)
    assert status == 0, err
    for mine, reference in zip(objects(ours), objects(theirs)):
        for name, value in reference.items():
            name = OTHER_NAMES.get(name, name)
            if name in NOT_OPTIONS or (name in ("ALLOWED_ORIGINS", "ENABLE_DATADOG_APM") and name not in mine):
                continue  # the last two are in both of its objects and in one of ours
            assert name in mine, name
            if name not in OTHER_VALUES:
                enum = value.split(".")[-1] if value.split(".")[0] in ("EncryptionKeyFormat", "JWTAlgorithm") else value
                enum = {"PolicySourceTypes.Git": "GIT", "PolicyBundleServerType.HTTP": "HTTP"}.get(enum, enum)
                assert mine[name] == enum, name
        assert list(mine) == sorted(mine)


# ---------------------------------------------------------------- publish-data-update
class Recorder:
    def __init__(self):
        recorder = self
        self.requests = []
        self.status = 200

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                recorder.requests.append((self.path, self.headers.get("authorization"), self.headers["content-type"], body))
                reply = b'{"detail":"told"}'
                self.send_response(recorder.status)
                self.send_header("content-length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def ask(self, program, *arguments, env=None):
        self.requests.clear()
        status, out, err = run(program, "publish-data-update", "--server-url", self.url, *arguments, env=env)
        return status, out, err, list(self.requests)


@pytest.fixture
def recorder():
    made = Recorder()
    yield made
    made.server.shutdown()
    made.server.server_close()


UPDATES = {
    "the_docs_example": (["--src-url", "http://host/users/bob/location", "-t", "policy_data", "--dst-path", "/users/bob/location"], None),
    "everything": (["--src-url", "http://user:pw@host/x?token=secret&a=1", "--topic", "a/b", "-t", "it's", "--dst-path", "/é", "--save-method", "PUT",
                    "--data", '{"n": 9007199254740993, "é": [1.5, null]}', "--src-config", '{"headers": {"a": "b"}}', "--reason", "wéll \"quoted\"", "TOKEN"], None),
    "entries": (["-e", '[{"url": "u", "extra": 1}, {"url": "v", "topics": ["x"], "dst_path": "/p", "config": null, "data": [1, {"a": 2}]}]'], {"OPAL_CLIENT_TOKEN": "from-env"}),
    "route": (["--server-route", "/other?a=1", "--src-url", "u", "-t", "a, b"], None),
}


@pytest.mark.parametrize("name", sorted(UPDATES))
def test_publish_data_update_as_the_reference(recorder, name):
    arguments, env = UPDATES[name]
    mine = recorder.ask(OPALD, *arguments, env=env)
    reference = recorder.ask(REFERENCE, *arguments, env=env)
    assert mine[0] == reference[0] == 0, mine[2]
    assert mine[1] == reference[1]
    assert [r[:3] for r in mine[3]] == [r[:3] for r in reference[3]]
    (my_body,), (their_body,) = [r[3] for r in mine[3]], [r[3] for r in reference[3]]
    assert json.loads(my_body) == json.loads(their_body)
    assert list(json.loads(my_body)) == list(json.loads(their_body))


def test_numbers_pass_as_they_are(recorder):
    data = '{"a": 9007199254740993, "b": 1.10, "c": 1e2}'
    _, _, _, ((_, _, _, body),) = recorder.ask(OPALD, "--src-url", "u", "-t", "t", "--data", data)
    assert data.encode() in body


def test_a_refusal_is_told_with_its_status(recorder):
    recorder.status = 422
    status, out, _, requests = recorder.ask(OPALD, "--src-url", "u", "-t", "t")
    assert status == 1 and len(requests) == 1  # the reference ends with 0
    assert out.splitlines()[-2:] == ["Event publishing failed with status-code - 422", '{"detail":"told"}']


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["-t", "x"], "You must provide either multiple entries (-e / --entries) or a single entry update (--src-url)"),
        (["--src-url", "", "-t", "x"], "You must provide either multiple entries (-e / --entries) or a single entry update (--src-url)"),
        (["--src-url", "u"], "--topic"),
        (["--src-url", "u", "-t", "t", "--data", "[1"], "Expecting ',' delimiter"),
        (["--src-url", "u", "-t", "t", "--data", "1"], "--data: must be a JSON object, array or null"),
        (["--src-url", "u", "-t", "t", "--src-config", "[]"], "--src-config: must be a JSON object"),
        (["-e", "{}"], "--entries: must be a JSON array of objects"),
        (["-e", "[1]"], "--entries: must be a JSON array of objects"),
        (["-e", '[{"topics": []}]'], '"url" must be a string'),
        (["-e", '[{"url": "u", "topics": "x"}]'], '"topics" must be an array of strings'),
        (["--nonsense"], "--nonsense: no such option"),
        (["--src-url"], "--src-url: a value is missing"),
        (["one", "two"], "only one TOKEN"),
        (["--server-url", "ftp://h", "--src-url", "u", "-t", "t"], "must be a URL like"),
        (["--server-url", "h:7002", "--src-url", "u", "-t", "t"], "must be a URL like"),
    ],
)
def test_wrong_arguments_end_with_2_and_one_line(recorder, arguments, told):
    status, out, err, requests = recorder.ask(OPALD, *arguments)
    assert status == 2 and not requests
    assert told in err and len(err.splitlines()) == 1
    assert not out
