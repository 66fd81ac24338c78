"""What stands around the routes: the description of the API and its page, the load limit, compression, the path prefix, upgrades."""

import concurrent.futures
import gzip
import json
import re
import shutil
import subprocess
import time

import pytest

from harness import http_bytes
from harness.http import HttpConnection

TEXTS = ("description",)  # what is said in our own words

# what opald describes otherwise than the reference: path in the document -> why
DESCRIBED_OTHERWISE: dict[str, str] = {}


def structure(value, at=""):
    """The document without its prose."""
    if isinstance(value, dict):
        return {key: ("text" if key in TEXTS and isinstance(inner, str) else structure(inner, f"{at}/{key}")) for key, inner in value.items()
                if f"{at}/{key}" not in DESCRIBED_OTHERWISE}
    return [structure(inner, at) for inner in value] if isinstance(value, list) else value


def prose(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in TEXTS and isinstance(inner, str):
                yield inner
            yield from prose(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from prose(inner)


# ---- description

@pytest.mark.sanitize
def test_same_description(shared_reference, shared_opald):
    theirs, ours = (server.request("GET", "/openapi.json") for server in (shared_reference, shared_opald))
    assert structure(ours.json()) == structure(theirs.json())
    assert list(structure(ours.json())["paths"]) == list(theirs.json()["paths"])
    assert b": " not in re.sub(rb'"[^"]*"', b'""', ours.body) and b"\n" not in ours.body  # no white space outside texts
    copied = {text for text in prose(ours.json()) if len(text) > 25} & set(prose(theirs.json()))
    assert not copied


@pytest.mark.sanitize
def test_every_operation_is_there(shared_reference, shared_opald):
    """What the reference describes is answered here, by the same methods and no others."""
    for path, operations in shared_reference.request("GET", "/openapi.json").json()["paths"].items():
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            theirs, ours = (server.request(method, path) for server in (shared_reference, shared_opald))
            assert (ours.status in (404, 405)) == (method.lower() not in operations), (method, path, ours.status)
            assert ours.header("allow") == theirs.header("allow"), (method, path)


def test_same_description_with_moved_routes(reference, opald):
    moved = {"OPAL_DATA_CONFIG_ROUTE": "/my-config", "OPAL_ALL_DATA_ROUTE": "/a/b.c", "OPAL_DATA_CALLBACK_DEFAULT_ROUTE": "/cb"}
    theirs, ours = (make(env=moved).request("GET", "/openapi.json").json() for make in (reference, opald))
    assert structure(ours) == structure(theirs)


@pytest.mark.sanitize
def test_description_is_cached(shared_opald):
    for path in ("/openapi.json", "/docs", "/redoc"):
        first = shared_opald.request("GET", path)
        with shared_opald.connection() as connection:
            for condition in (first.header("etag"), f'"other", W/"x", {first.header("etag")}'):
                again = connection.request("GET", path, headers={"if-none-match": condition})
                assert (again.status, again.body, again.header("etag"), again.header("content-length")) == (304, b"", first.header("etag"), None)
            assert connection.request("GET", path, headers={"if-none-match": '"other"'}).body == first.body


@pytest.mark.sanitize
@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_page_needs_nothing_from_outside(path, shared_opald):
    page = shared_opald.request("GET", path)
    assert page.header("content-type") == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.header("content-security-policy")
    references = re.findall(r"""(?:(?:src|href|action)\s*=|url\()\s*["']?([^"'\s>)]+)""", page.text)
    assert set(references) == {"data:,", "openapi.json"}, "only the description itself"
    assert not re.search(r"https?:|//[a-z]|@import|import\s*\(", page.text)


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium here")
def test_page_in_a_browser(opald, work):
    server = opald(args=["--root-path", "/opal"])
    for prefix in ("", "/opal"):
        done = subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
             f"--user-data-dir={work}/profile", "--virtual-time-budget=5000", "--dump-dom", f"http://127.0.0.1:{server.port}{prefix}/docs"],
            capture_output=True, text=True, timeout=60)
        operations = set(re.findall(r'<details class="operation" id="([^"]+)"', done.stdout))
        described = {what["operationId"] for methods in server.request("GET", "/openapi.json").json()["paths"].values() for what in methods.values()}
        assert operations == described, done.stdout[:2000] + done.stderr[-2000:]


# ---- load limit

def test_load_limit_is_the_reference_s(reference, opald):
    notation = {"OPAL_CLIENT_LOAD_LIMIT_NOTATION": "3 PER 2minutes; 100/hour"}
    answers = []
    for server in (reference(env=notation), opald(env=notation)):
        replies = [server.request("GET", "/loadlimit") for _ in range(5)]
        answers.append([(r.status, r.body, r.header("retry-after"), r.header("content-type")) for r in replies])
        assert server.request("POST", "/loadlimit").status == 405
    assert answers[1] == answers[0]
    assert [status for status, *_ in answers[1]] == [200, 200, 200, 429, 429]


@pytest.mark.sanitize
def test_load_limit_of_the_whole_host(opald):
    """The reference counts in each worker; and a worker that is replaced forgets nothing here."""
    server = opald(workers=3, env={"OPAL_CLIENT_LOAD_LIMIT_NOTATION": "20/minute"})
    with concurrent.futures.ThreadPoolExecutor(max_workers=12) as pool:
        statuses = list(pool.map(lambda _: server.request("GET", "/loadlimit").status, range(60)))
    assert statuses.count(200) == 20 and statuses.count(429) == 40
    assert 'load_limit_refusals' in server.request("GET", "/metrics").text
    assert "/loadlimit refused: 20 per 1 minute are used up" in server.log()


def test_load_limit_that_is_none(opald):
    server = opald(env={"OPAL_CLIENT_LOAD_LIMIT_NOTATION": "ten a second"}, ready=False)
    assert server.wait(10) not in (0, None)
    assert "OPAL_CLIENT_LOAD_LIMIT_NOTATION='ten a second': a number was expected" in server.log()


def test_client_waits_for_the_load_limit(opald, opal_client):
    """A real opal-client with OPAL_WAIT_ON_SERVER_LOAD comes only when /loadlimit says yes."""
    server = opald(env={"OPAL_CLIENT_LOAD_LIMIT_NOTATION": "1/3 second"})
    assert server.request("GET", "/loadlimit").status == 200
    started = time.monotonic()
    opal_client(server.port, env={"OPAL_WAIT_ON_SERVER_LOAD": "true"})
    server.wait_for_log(r"\[accepted\]", 30)
    log = server.log()
    assert log.index('"GET /loadlimit HTTP/1.1" 200') < log.index("[accepted]")
    assert log.count('"GET /loadlimit HTTP/1.1" 200') >= 2 or time.monotonic() - started > 3


# ---- compression

@pytest.mark.sanitize
def test_gzip_for_who_asks(opald):
    sources = {"config": {"entries": [{"url": f"http://127.0.0.1/{i}", "topics": ["policy_data"]} for i in range(1000)]}}
    server = opald(env={"OPAL_DATA_CONFIG_SOURCES": json.dumps(sources)})
    plain = server.request("GET", "/data/config")
    assert plain.header("content-encoding") is None and len(plain.body) > 100_000
    for accepted in ("gzip", "br;q=1.0, gzip;q=0.5", "GZIP, deflate", "*"):
        packed = server.request("GET", "/data/config", headers={"accept-encoding": accepted, "origin": "http://x", "cookie": "a"})
        assert packed.header("content-encoding") == "gzip", accepted
        assert [value for name, value in packed.headers if name == "vary"] == ["Accept-Encoding", "Origin"]
        assert gzip.decompress(packed.body) == plain.body and len(packed.body) < len(plain.body) / 8
    for refused in ("", "identity", "gzip;q=0", "gzip;q=0.000, *", "deflate", "xgzip", "*;q=0"):
        assert server.request("GET", "/data/config", headers={"accept-encoding": refused}).body == plain.body, refused
    small = server.request("GET", "/healthcheck", headers={"accept-encoding": "gzip"})
    assert small.header("content-encoding") is None and small.json() == {"status": "ok"}


def test_gzip_can_be_switched_off(opald):
    server = opald(args=["--http-gzip-min-bytes", "0"])
    assert server.request("GET", "/openapi.json", headers={"accept-encoding": "gzip"}).header("content-encoding") is None


# ---- prefix

@pytest.mark.sanitize
def test_root_path(opald):
    server = opald(env={"UVICORN_ROOT_PATH": "/opal"})
    assert server.request("GET", "/opal/healthcheck").json() == {"status": "ok"}
    assert server.request("GET", "/healthcheck").json() == {"status": "ok"}
    assert server.request("GET", "/opal").json() == {"status": "ok"}
    assert server.request("GET", "/opalx/healthcheck").status == 404
    assert server.request("GET", "/opal/opal/healthcheck").status == 404
    assert server.request("GET", "/opal/healthcheck/?a=b").header("location") == f"http://127.0.0.1:{server.port}/opal/healthcheck?a=b"
    assert server.request("GET", "/healthcheck/").header("location") == f"http://127.0.0.1:{server.port}/healthcheck"
    assert server.request("GET", "/openapi.json").json()["servers"] == [{"url": "/opal"}]
    with HttpConnection(server.port) as connection:
        connection.send(upgrade("GET /opal/ws HTTP/1.1", "Upgrade: websocket"))
        assert connection.read_response().status == 101


# ---- upgrades

def upgrade(line: str, *headers: str, connection: str = "Connection: Upgrade") -> bytes:
    fixed = [connection, "Host: x", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    return "\r\n".join([line, *headers, *fixed, "", ""]).encode()


UPGRADES = {
    "http 1.0": upgrade("GET /ws HTTP/1.0", "Upgrade: websocket"),
    "http 1.0 elsewhere": upgrade("GET /nope HTTP/1.0", "Upgrade: websocket"),
    "list": upgrade("GET /ws HTTP/1.1", "Upgrade: websocket, foo"),
    "list turned": upgrade("GET /ws HTTP/1.1", "Upgrade: foo, websocket"),
    "twice": upgrade("GET /ws HTTP/1.1", "Upgrade: websocket", "Upgrade: foo"),
    "twice turned": upgrade("GET /ws HTTP/1.1", "Upgrade: foo,bar", "Upgrade: websocket"),
    "twice the same": upgrade("GET /ws HTTP/1.1", "Upgrade: websocket", "Upgrade: websocket"),
    "case": upgrade("GET /ws HTTP/1.1", "Upgrade: WebSocket", connection="Connection: upgrade"),
    "connection list": upgrade("GET /ws HTTP/1.1", "Upgrade: websocket", connection="Connection: keep-alive, Upgrade"),
    "connection twice": upgrade("GET /ws HTTP/1.1", "Connection: keep-alive", "Upgrade: websocket"),
    "connection twice turned": upgrade("GET /ws HTTP/1.1", "Upgrade: websocket", connection="Connection: Upgrade\r\nConnection: keep-alive"),
    "post": upgrade("POST /ws HTTP/1.1", "Upgrade: websocket", "Content-Length: 0"),
    "put elsewhere": upgrade("PUT /healthcheck HTTP/1.1", "Upgrade: websocket"),
    "head": upgrade("HEAD /ws HTTP/1.1", "Upgrade: websocket"),
    "put twice": upgrade("PUT /ws HTTP/1.1", "Upgrade: foo", "Upgrade: websocket"),
}


@pytest.mark.sanitize
@pytest.mark.parametrize("name", UPGRADES)
def test_same_upgrade(name, shared_reference, shared_opald):
    def ask(server):
        return re.sub(rb"(?i)date: [^\r]*", b"date: X", http_bytes(server.port, UPGRADES[name], timeout=0.4))

    assert ask(shared_opald) == ask(shared_reference)
