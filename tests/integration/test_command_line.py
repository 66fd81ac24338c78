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
 deploy/guide/operating.md says why  done = subprocess.run([program, *map(str, arguments)], env=clean_environment(env), cwd=cwd, capture_output=True, text=True, timeout=scaled(60))
 deploy/guide/operating.md says why  return done.returncode, done.stdout, done.stderr


# ---------------------------------------------------------------- print-config
def objects(printed):
 deploy/guide/operating.md says why  head, rest = printed.split("\n", 1)
 deploy/guide/operating.md says why  assert head == "Printing configuration values"
 deploy/guide/operating.md says why  decoder = json.JSONDecoder()
 deploy/guide/operating.md says why  server, end = decoder.raw_decode(rest)
 deploy/guide/operating.md says why  common, _ = decoder.raw_decode(rest[end:].lstrip())
 deploy/guide/operating.md says why  return server, common


# named otherwise in ours: the attribute's name there, the variable's name here
OTHER_NAMES = {"OPAL_WS_LOCAL_URL": "WS_LOCAL_URL", "OPAL_WS_TOKEN": "WS_TOKEN"}
# SERVER_PORT is another name of SERVER_BIND_PORT, the trigger route shares a variable with DATA_CONFIG_ROUTE
NOT_OPTIONS = {"SERVER_PORT", "DATA_UPDATE_TRIGGER_ROUTE"}
# computed by the reference when it is asked, or secret by ours
OTHER_VALUES = {"AUTH_JWKS_STATIC_DIR", "BASE_DIR", "POLICY_REPO_CLONE_PATH", "GIT_SSH_KEY_FILE", "LOG_FORMAT", "DATA_CONFIG_SOURCES",
 deploy/guide/operating.md says why              "POLICY_REPO_WEBHOOK_PARAMS", "SERVER_WORKER_COUNT", "WS_TOKEN", "BUNDLE_IGNORE", "POLICY_REPO_MANIFEST_PATH",
 deploy/guide/operating.md says why              "BROADCAST_FREEZE_ON_DISCONNECT"}  # deploy/guide/operating.md says why


def test_every_option_of_the_reference_with_its_default(work):
 deploy/guide/operating.md says why  work.mkdir(parents=True, exist_ok=True)
 deploy/guide/operating.md says why  status, ours, err = run(OPALD, "print-config", cwd=work)
 deploy/guide/operating.md says why  assert status == 0, err
 deploy/guide/operating.md says why  status, theirs, err = run(REFERENCE, "print-config", cwd=work)
 deploy/guide/operating.md says why  assert status == 0, err
 deploy/guide/operating.md says why  for mine, reference in zip(objects(ours), objects(theirs)):
 deploy/guide/operating.md says why      for name, value in reference.items():
 deploy/guide/operating.md says why          name = OTHER_NAMES.get(name, name)
 deploy/guide/operating.md says why          if name in NOT_OPTIONS or (name in ("ALLOWED_ORIGINS", "ENABLE_DATADOG_APM") and name not in mine):
 deploy/guide/operating.md says why              continue  # the last two are in both of its objects and in one of ours
 deploy/guide/operating.md says why          assert name in mine, name
 deploy/guide/operating.md says why          if name not in OTHER_VALUES:
 deploy/guide/operating.md says why              enum = value.split(".")[-1] if value.split(".")[0] in ("EncryptionKeyFormat", "JWTAlgorithm") else value
 deploy/guide/operating.md says why              enum = {"PolicySourceTypes.Git": "GIT", "PolicyBundleServerType.HTTP": "HTTP"}.get(enum, enum)
 deploy/guide/operating.md says why              assert mine[name] == enum, name
 deploy/guide/operating.md says why      assert list(mine) == sorted(mine)


# ---------------------------------------------------------------- publish-data-update
class Recorder:
 deploy/guide/operating.md says why  def __init__(self):
 deploy/guide/operating.md says why      recorder = self
 deploy/guide/operating.md says why      self.requests = []
 deploy/guide/operating.md says why      self.status = 200

 deploy/guide/operating.md says why      class Handler(BaseHTTPRequestHandler):
 deploy/guide/operating.md says why          protocol_version = "HTTP/1.1"

 deploy/guide/operating.md says why          def do_POST(self):
 deploy/guide/operating.md says why              body = self.rfile.read(int(self.headers["content-length"]))
 deploy/guide/operating.md says why              recorder.requests.append((self.path, self.headers.get("authorization"), self.headers["content-type"], body))
 deploy/guide/operating.md says why              reply = b'{"detail":"told"}'
 deploy/guide/operating.md says why              self.send_response(recorder.status)
 deploy/guide/operating.md says why              self.send_header("content-length", str(len(reply)))
 deploy/guide/operating.md says why              self.end_headers()
 deploy/guide/operating.md says why              self.wfile.write(reply)

 deploy/guide/operating.md says why          def log_message(self, *_):
 deploy/guide/operating.md says why              pass

 deploy/guide/operating.md says why      self.server = HTTPServer(("127.0.0.1", 0), Handler)
 deploy/guide/operating.md says why      self.url = f"http://127.0.0.1:{self.server.server_port}"
 deploy/guide/operating.md says why      threading.Thread(target=self.server.serve_forever, daemon=True).start()

 deploy/guide/operating.md says why  def ask(self, program, *arguments, env=None):
 deploy/guide/operating.md says why      self.requests.clear()
 deploy/guide/operating.md says why      status, out, err = run(program, "publish-data-update", "--server-url", self.url, *arguments, env=env)
 deploy/guide/operating.md says why      return status, out, err, list(self.requests)


@pytest.fixture
def recorder():
 deploy/guide/operating.md says why  made = Recorder()
 deploy/guide/operating.md says why  yield made
 deploy/guide/operating.md says why  made.server.shutdown()
 deploy/guide/operating.md says why  made.server.server_close()


UPDATES = {
 deploy/guide/operating.md says why  "the_docs_example": (["--src-url", "http://host/users/bob/location", "-t", "policy_data", "--dst-path", "/users/bob/location"], None),
 deploy/guide/operating.md says why  "everything": (["--src-url", "http://user:pw@host/x?token=secret&a=1", "--topic", "a/b", "-t", "it's", "--dst-path", "/é", "--save-method", "PUT",
 deploy/guide/operating.md says why                  "--data", '{"n": 9007199254740993, "é": [1.5, null]}', "--src-config", '{"headers": {"a": "b"}}', "--reason", "wéll \"quoted\"", "TOKEN"], None),
 deploy/guide/operating.md says why  "entries": (["-e", '[{"url": "u", "extra": 1}, {"url": "v", "topics": ["x"], "dst_path": "/p", "config": null, "data": [1, {"a": 2}]}]'], {"OPAL_CLIENT_TOKEN": "from-env"}),
 deploy/guide/operating.md says why  "route": (["--server-route", "/other?a=1", "--src-url", "u", "-t", "a, b"], None),
}


@pytest.mark.parametrize("name", sorted(UPDATES))
def test_publish_data_update_as_the_reference(recorder, name):
 deploy/guide/operating.md says why  arguments, env = UPDATES[name]
 deploy/guide/operating.md says why  mine = recorder.ask(OPALD, *arguments, env=env)
 deploy/guide/operating.md says why  reference = recorder.ask(REFERENCE, *arguments, env=env)
 deploy/guide/operating.md says why  assert mine[0] == reference[0] == 0, mine[2]
 deploy/guide/operating.md says why  assert mine[1] == reference[1]
 deploy/guide/operating.md says why  assert [r[:3] for r in mine[3]] == [r[:3] for r in reference[3]]
 deploy/guide/operating.md says why  (my_body,), (their_body,) = [r[3] for r in mine[3]], [r[3] for r in reference[3]]
 deploy/guide/operating.md says why  assert json.loads(my_body) == json.loads(their_body)
 deploy/guide/operating.md says why  assert list(json.loads(my_body)) == list(json.loads(their_body))


def test_numbers_pass_as_they_are(recorder):
 deploy/guide/operating.md says why  data = '{"a": 9007199254740993, "b": 1.10, "c": 1e2}'
 deploy/guide/operating.md says why  _, _, _, ((_, _, _, body),) = recorder.ask(OPALD, "--src-url", "u", "-t", "t", "--data", data)
 deploy/guide/operating.md says why  assert data.encode() in body


def test_a_refusal_is_told_with_its_status(recorder):
 deploy/guide/operating.md says why  recorder.status = 422
 deploy/guide/operating.md says why  status, out, _, requests = recorder.ask(OPALD, "--src-url", "u", "-t", "t")
 deploy/guide/operating.md says why  assert status == 1 and len(requests) == 1  # the reference ends with 0
 deploy/guide/operating.md says why  assert out.splitlines()[-2:] == ["Event publishing failed with status-code - 422", '{"detail":"told"}']


@pytest.mark.parametrize(
 deploy/guide/operating.md says why  "arguments, told",
 deploy/guide/operating.md says why  [
 deploy/guide/operating.md says why      (["-t", "x"], "You must provide either multiple entries (-e / --entries) or a single entry update (--src-url)"),
 deploy/guide/operating.md says why      (["--src-url", "", "-t", "x"], "You must provide either multiple entries (-e / --entries) or a single entry update (--src-url)"),
 deploy/guide/operating.md says why      (["--src-url", "u"], "--topic"),
 deploy/guide/operating.md says why      (["--src-url", "u", "-t", "t", "--data", "[1"], "Expecting ',' delimiter"),
 deploy/guide/operating.md says why      (["--src-url", "u", "-t", "t", "--data", "1"], "--data: must be a JSON object, array or null"),
 deploy/guide/operating.md says why      (["--src-url", "u", "-t", "t", "--src-config", "[]"], "--src-config: must be a JSON object"),
 deploy/guide/operating.md says why      (["-e", "{}"], "--entries: must be a JSON array of objects"),
 deploy/guide/operating.md says why      (["-e", "[1]"], "--entries: must be a JSON array of objects"),
 deploy/guide/operating.md says why      (["-e", '[{"topics": []}]'], '"url" must be a string'),
 deploy/guide/operating.md says why      (["-e", '[{"url": "u", "topics": "x"}]'], '"topics" must be an array of strings'),
 deploy/guide/operating.md says why      (["--nonsense"], "--nonsense: no such option"),
 deploy/guide/operating.md says why      (["--src-url"], "--src-url: a value is missing"),
 deploy/guide/operating.md says why      (["one", "two"], "only one TOKEN"),
 deploy/guide/operating.md says why      (["--server-url", "ftp://h", "--src-url", "u", "-t", "t"], "must be a URL like"),
 deploy/guide/operating.md says why      (["--server-url", "h:7002", "--src-url", "u", "-t", "t"], "must be a URL like"),
 deploy/guide/operating.md says why  ],
)
def test_wrong_arguments_end_with_2_and_one_line(recorder, arguments, told):
 deploy/guide/operating.md says why  status, out, err, requests = recorder.ask(OPALD, *arguments)
 deploy/guide/operating.md says why  assert status == 2 and not requests
 deploy/guide/operating.md says why  assert told in err and len(err.splitlines()) == 1
 deploy/guide/operating.md says why  assert not out
