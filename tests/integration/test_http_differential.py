"""The same HTTP requests against opal-server 0.9.9 and opald: status line, headers in their order and body must be the same to the byte.

Normalised: the date and the port. Where opald differs on purpose, DIFFERENT says why and what it must answer instead; an entry that
differs no more fails the suite. Bodies of POST /data/config also come out of a websocket on both sides, and are compared there.
"""

import concurrent.futures
import json
import random
import re
import time

import pytest

from harness import WireClient, scaled
from harness.dice import seed
from harness.differences import check_ids
from harness.http import HttpConnection

QUIET = 0.4  # seconds of silence after which a server has said everything

NOT_FOUND = ["404", '{"detail":"Not Found"}']
BAD_REQUEST = ["400", "Invalid HTTP request received."]

# name: (id in harness/differences.py, why, [status, body, status, body, ...] of opald). A body of None is not looked at.
DIFFERENT = {
    "http 0.9": ("http-two-ways", "a request without a version is refused", BAD_REQUEST),
    "http 2.0": ("http-version", "only HTTP/1.0 and 1.1 are known", BAD_REQUEST),
    "no host": ("http-two-ways", "RFC 9112 3.2: refused", BAD_REQUEST),
    "authorization twice": ("http-two-ways", "refused, two readers could take different ones", BAD_REQUEST),
    "host twice": ("http-two-ways", "RFC 9112 3.2: refused, two readers could take different ones", BAD_REQUEST),
    "gzip chunked": ("http-two-ways", "a coding that nobody here decodes is refused", BAD_REQUEST),
    "h2c with a body": ("h2c-body", "the body is read, whatever Upgrade says", ["422", '{"detail":[{"loc":["body","entries"],"msg":"field required","type":"value_error.missing"}]}']),
    "pipelined then garbage": ("garbage-behind", "the good request before it is answered", ["200", '{"status":"ok"}', *BAD_REQUEST]),
    "bad chunk behind an answer": ("garbage-behind", "one request gets one reply; the connection ends", NOT_FOUND),
    "jwks": ("jwks-file", "no conditional requests, no ranges: no etag, no last-modified", ["200", "{}"]),
    "jwks head": ("jwks-file", "the same", ["200", ""]),
    "jwks slash": ("jwks-file", "redirected like any other route", ["307", ""]),
    "jwks folder": ("jwks-file", "the folder itself is not served", NOT_FOUND),
    "docs": ("docs-page", "a page of our own that needs nothing from outside", ["200", None]),
    "openapi": ("openapi-words", "described in our own words; the same otherwise (test_http_face.py), with an etag", ["200", None]),
    "redoc": ("docs-page", "the same page as /docs", ["200", None]),
    "docs oauth": ("docs-page", "there is no OAuth2 here to come back from", NOT_FOUND),
    "livez": ("probes", "a probe of ours", ["200", '{"status":"ok"}']),
    "readyz": ("probes", "a probe of ours", ["200", '{"status":"ok"}']),
    "save method null with data": ("null-save-method", "the reference's validator fails", ["422", '{"detail":[{"loc":["body","entries",0,"save_method"],"msg":"none is not an allowed value","type":"type_error.none.not_allowed"}]}']),
    "utf-16": ("http-two-ways", "JSON is UTF-8", ["400", '{"detail":"There was an error parsing the body"}']),
    "surrogate bytes": ("surrogate-bytes", "not UTF-8", ["400", '{"detail":"There was an error parsing the body"}']),
    "too deep": ("json-depth", "a limit with a name", ["422", '{"detail":"JSON body has too many levels of nesting (limit 512)"}']),
    "topic too long": ("request-limits", "a limit", ["422", '{"detail":"the update has a topic that is too long (limit 4096 bytes)"}']),
    "too many topics": ("request-limits", "a limit", ["422", '{"detail":"the update names too many topics (limit 1024, ancestors included)"}']),
    "too many errors": ("validation-errors", "the reply stops after a thousand errors", ["422", None]),
    "event too large": ("request-limits", "refused at the door: clients could not take it", ["413", '{"detail":"the update is too large: an event may have at most 1048576 bytes, its envelope included"}']),
    "body too large": ("request-limits", "a limit", ["413", '{"detail":"request body too large (limit 16777216 bytes)"}']),
    "head too long": ("request-limits", "a limit", ["431", '{"detail":"request head too long (limit 131072 bytes)"}']),
    "too many headers": ("request-limits", "a limit", ["431", '{"detail":"too many headers (limit 128)"}']),
}
check_ids((entry[0] for entry in DIFFERENT.values()), "test_http_differential.py::test_same_as_the_reference")

# ---- requests: name -> pieces, sent with a pause between them
RAW: dict[str, list] = {}


def with_host(text: str) -> str:
    """HTTP/1.1 needs a Host: for the requests that name none."""
    return re.sub(r" HTTP/1\.1\r\n(?!Ho|[^\n]*\r\nHost)", " HTTP/1.1\r\nHost: x\r\n", text)


def raw(name: str, *pieces, host: bool = True):
    pieces = [with_host(p) if host and isinstance(p, str) else p for p in pieces]
    RAW[name] = [p.encode("latin-1") if isinstance(p, str) else p for p in pieces]


def get(name: str, target: str, *headers: str, method: str = "GET"):
    raw(name, f"{method} {target} HTTP/1.1\r\n" + "".join(f"{h}\r\n" for h in headers) + "\r\n")


def post(name: str, body, content_type: str | None = "application/json", path: str = "/data/config", *headers: str):
    body = body if isinstance(body, bytes) else body.encode()
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    raw(name, "\r\n".join(lines).encode() + b"\r\n\r\n" + body)


# routes
for route in ("/", "/healthcheck", "/data/config", "/policy-data", "/policy", "/loadlimit", "/statistics", "/stats", "/nope", "/ws", "/scopes", "/internal"):
    get(f"get {route}", route)
get("query", "/healthcheck?a=b&c")
get("policy with query", "/policy?path=a&base_hash=")
get("percent", "/health%63heck")
get("percent wrong", "/%zz")
get("percent NUL", "/healthcheck%00")
get("absolute", "http://foo/healthcheck")
get("fragment", "/healthcheck#a")
get("two slashes", "//healthcheck")
get("docs", "/docs")
get("openapi", "/openapi.json")
get("redoc", "/redoc")
get("docs oauth", "/docs/oauth2-redirect")
get("docs post", "/docs", method="POST")
get("docs slash", "/docs/", "Host: a")
get("openapi post", "/openapi.json", method="POST")
get("redoc options", "/redoc", method="OPTIONS")
get("webhook get", "/webhook")
get("client info", "/pubsub_client_info")
get("livez", "/livez")
get("readyz", "/readyz")
get("jwks", "/.well-known/jwks.json")
get("jwks head", "/.well-known/jwks.json", method="HEAD")
get("jwks post", "/.well-known/jwks.json", method="POST")
get("jwks other", "/.well-known/other.json")
get("jwks slash", "/.well-known/jwks.json/", "Host: a")
get("jwks folder", "/.well-known", "Host: a")
# methods
for method in ("HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"):
    get(f"{method} /", "/", method=method)
for method in ("HEAD", "PUT", "DELETE", "OPTIONS"):
    get(f"{method} /data/config", "/data/config", method=method)
get("HEAD /nope", "/nope", method="HEAD")
get("GET report", "/data/callback_report")
get("GET token", "/token")
get("POST policy", "/policy", method="POST")
get("options star", "*", method="OPTIONS")
get("get star", "*")
# slashes
get("slash", "/data/config/", "Host: abc:1")
get("slash with query", "/data/config/?a=b&c=%20d", "Host: abc:1")
raw("slash without host", "GET /data/config/ HTTP/1.0\r\n\r\n")
get("slash post", "/data/config/", "Host: abc:1", "Content-Length: 0", method="POST")
get("slash delete", "/healthcheck//", "Host: abc:1", method="DELETE")
get("slash percent", "/data%2Fconfig/", "Host: abc:1")
get("slash behind https", "/data/config/", "Host: abc:1", "X-Forwarded-Proto: https")
get("slash head", "/data/config/", "Host: abc:1", method="HEAD")
get("slash of nothing", "/nope/")
# connection
raw("no host", "GET / HTTP/1.1\r\n\r\n", host=False)
get("authorization twice", "/", "Authorization: Bearer a", "Authorization: Bearer b")
raw("http 1.0", "GET / HTTP/1.0\r\n\r\n")
raw("http 1.0 keep-alive", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
get("close", "/", "Connection: close")
get("close among others", "/", "Connection: foo, close")
raw("empty lines first", "\r\n\r\nGET / HTTP/1.1\r\n\r\n")
raw("pipelined", "GET / HTTP/1.1\r\n\r\nGET /nope HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n")
raw("in pieces", "GE", "T / HTTP/1.1\r\nHo", "st: x\r\n", "\r\n")
raw("pipelined publish", "POST /data/config HTTP/1.1\r\nContent-Length: 14\r\n\r\n{\"entries\":[]}GET / HTTP/1.1\r\n\r\n")
raw("unread body", "POST /nope HTTP/1.1\r\nContent-Length: 10\r\n\r\n12", "34567890GET / HTTP/1.1\r\n\r\n")
raw("unread body unfinished", "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n12")
raw("get with a body", "GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /nope HTTP/1.1\r\n\r\n")
raw("pipelined then garbage", "GET / HTTP/1.1\r\n\r\nGARBAGE\r\n\r\n")
get("h2c", "/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: x")
get("upgrade without connection", "/ws", "Upgrade: websocket")
raw("h2c with a body", "POST /data/config HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}")
# expect
raw("expect", "POST /data/config HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", "{}")
raw("expect, all at once", "POST /data/config HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}")
get("expect without body", "/", "Expect: 100-continue")
raw("expect nothing there", "POST /nope HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", "{}")
raw("expect something else", "POST /data/config HTTP/1.1\r\nExpect: foo\r\nContent-Length: 2\r\n\r\n", "{}")
# chunks
CHUNKED = "POST /data/config HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
raw("chunked", CHUNKED + "2\r\n{}\r\n0\r\n\r\n")
raw("chunked in pieces", CHUNKED + "1\r", "\n{\r\n", "1\r\n}\r\n0\r\n", "\r\n")
raw("chunked extension and trailer", CHUNKED + "2;a=b\r\n{}\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n\r\n")
raw("chunked empty", CHUNKED + "0\r\n\r\n")
raw("chunk not hex", CHUNKED + "zz\r\n{}\r\n0\r\n\r\n")
raw("bad chunk late", CHUNKED + "2\r\n{}\r\n", "zz\r\n")
raw("chunk end missing", CHUNKED + "2\r\n{}xx0\r\n\r\n")
raw("space before chunk extension", CHUNKED + "2 ;a=b\r\n{}\r\n0\r\n\r\n")
raw("bad chunk behind an answer", "POST /nope HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxx\r\n", "zz\r\n")
raw("gzip chunked", "POST /data/config HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
# malformed
for name, request in {
    "tls": "\x16\x03\x01\x02\r\n\r\n", "garbage": "GARBAGE\r\n\r\n", "method unknown": "FOO / HTTP/1.1\r\n\r\n", "method lower case": "get / HTTP/1.1\r\n\r\n",
    "connect": "CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n", "h2 preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http 0.9": "GET /\r\n\r\n",
    "http 1.2": "GET / HTTP/1.2\r\n\r\n", "http 2.0": "GET / HTTP/2.0\r\nHost: x\r\n\r\n", "no slash": "GET healthcheck HTTP/1.1\r\n\r\n",
    "high byte in target": "GET /\xe9 HTTP/1.1\r\n\r\n", "bare LF": "GET / HTTP/1.1\nHost: x\n\n", "space before colon": "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "folded": "GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n", "NUL in value": "GET / HTTP/1.1\r\nX: a\0b\r\n\r\n", "control in value": "GET / HTTP/1.1\r\nX: a\x01b\r\n\r\n",
    "high byte in value": "GET / HTTP/1.1\r\nX: a\xe9b\r\n\r\n", "tab in value": "GET / HTTP/1.1\r\nX: a\tb\r\n\r\n", "header name": "GET / HTTP/1.1\r\nX(y): a\r\n\r\n",
    "no colon": "GET / HTTP/1.1\r\nfoo\r\n\r\n", "empty name": "GET / HTTP/1.1\r\n: foo\r\n\r\n", "host twice": "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "length twice": "POST /data/config HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "length twice, other": "POST /data/config HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "length and chunked": "POST /data/config HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": "POST /data/config HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "identity": "POST /data/config HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n",
    "length negative": "POST /data/config HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "length with plus": "POST /data/config HTTP/1.1\r\nContent-Length: +2\r\n\r\n{}",
    "length hex": "POST /data/config HTTP/1.1\r\nContent-Length: 0x2\r\n\r\n{}", "length list": "POST /data/config HTTP/1.1\r\nContent-Length: 2, 2\r\n\r\n{}",
}.items():
    raw(name, request)
# cross-origin
ORIGIN = "Origin: http://a"
for target in ("/", "/nope", "/stats"):
    get(f"origin {target}", target, ORIGIN)
get("origin cookie", "/", ORIGIN, "Cookie: x=1")
get("origin empty", "/", "Origin:")
get("origin wrong method", "/", ORIGIN, method="POST")
get("origin slash", "/data/config/", "Host: q", ORIGIN, "Cookie: x=1")
get("preflight", "/zz", ORIGIN, "Access-Control-Request-Method: GET", method="OPTIONS")
get("preflight headers", "/data/config", ORIGIN, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: X-A, b", method="OPTIONS")
get("preflight method", "/zz", ORIGIN, "Access-Control-Request-Method: FOO", "Access-Control-Request-Headers: X-A", method="OPTIONS")
get("preflight lower case", "/zz", ORIGIN, "Access-Control-Request-Method: get", method="OPTIONS")
get("preflight without origin", "/", "Access-Control-Request-Method: GET", method="OPTIONS")
get("options with origin", "/", ORIGIN, method="OPTIONS")
raw("preflight with a body", "OPTIONS / HTTP/1.1\r\nOrigin: http://a\r\nAccess-Control-Request-Method: GET\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n")
# bodies
for body in ("", "null", "[]", "{}", '""', '"ab"', "5", "true", "NaN", "[1]", '["ab"]', '[["entries",[]]]', "[[1,2]]", '[[[],2]]', '{"entries":null}', '{"entries":{}}',
             '{"entries":"x"}', '{"entries":[5,null,[],"",{}]}', '{"entries":[{"url":null}]}', '{"entries":[{"url":[]}]}',
             '{"entries":[{"url":5},{"url":true},{"url":1e5},{"url":NaN}]}',
             '{"entries":[{"url":"u","config":[["a",1]]},{"url":"u","config":"ab"},{"url":"u","config":""},{"url":"u","config":5},{"url":"u","config":["ab"]}]}',
             '{"entries":[{"url":"u","topics":null},{"url":"u","topics":"a"},{"url":"u","topics":{}},{"url":"u","topics":[1,null,[],true]}]}',
             '{"entries":[{"url":"u","dst_path":null,"save_method":null}]}',
             '{"entries":[{"url":"u","save_method":"FOO","data":null},{"url":"u","save_method":"PATCH","data":null},{"url":"u","save_method":"PATCH","data":{}},'
             '{"url":"u","save_method":"PATCH","data":[]},{"url":"u","save_method":"FOO","data":5},{"url":"u","save_method":"FOO"}]}',
             '{"entries":[{"url":"u","data":5},{"url":"u","data":"x"},{"url":"u","data":""},{"url":"u","data":true}]}',
             '{"entries":[{"url":"u","save_method":"PATCH","data":[{"op":"add","path":"/a"}]},{"url":"u","save_method":"PATCH","data":[{"op":"remove","path":"/a","value":null}]}]}',
             '{"entries":[],"reason":5,"id":false,"callback":null}', '{"entries":[],"callback":{}}', '{"entries":[],"callback":[]}', '{"entries":[],"callback":{"callbacks":null}}',
             '{"entries":[],"callback":{"callbacks":[5,null,[],["a"],["a",{}],["a",null],["a",5],[null,{"method":"x","is_json":null,"process_data":"maybe","headers":5,'
             '"fetcher":[]}],["a",{},1],{}]}}',
             '{"entries":[{"url":"u"}', '{"entries":[{"url":"u",}]}', "{'a':1}", '{"a":1}x', '\ufeff{"entries":[]}', '{"a":"\x01"}', "é", "nul", '{"é":}', "[", '"', '"\\x"', '"\\u12"',
             "01", "-", "1.", "1e", "[1,]", '{"a" 1}', '{"a":1 "b"}', '{"entries":[],"id":"a","id":[]}', '{"entries":[{"url":"u","topics":[]}]}', " {} "):
    post(f"body {body}", body)
post("save method null with data", '{"entries":[{"url":"u","save_method":null,"data":{}}]}')
post("not utf-8", b'{"a":"\xff"}')
post("utf-16", '{"entries":[]}'.encode("utf-16"))
post("surrogate bytes", b'{"entries":[],"reason":"\xed\xa0\x80"}')
post("too deep", '{"entries":[{"url":"u","data":' + "[" * 600 + "]" * 600 + "}]}")
post("topic too long", json.dumps({"entries": [{"url": "u", "topics": ["a" * 5000]}]}))
post("too many topics", json.dumps({"entries": [{"url": "u", "topics": [f"t{i}" for i in range(1025)]}]}))
post("too many errors", json.dumps({"entries": [0] * 1001}))
post("event too large", json.dumps({"entries": [{"url": "u", "data": {"a": "x" * (1 << 20)}}]}))
raw("body too large", "POST /data/config HTTP/1.1\r\nContent-Length: 16777217\r\n\r\n")
raw("head too long", "GET / HTTP/1.1\r\nX: " + "a" * 132000 + "\r\n\r\n")
raw("head of 70 kB", "GET / HTTP/1.1\r\nX: " + "a" * 70000 + "\r\n\r\n")
raw("too many headers", "GET / HTTP/1.1\r\n" + "a: b\r\n" * 129 + "\r\n")
for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json", "application/jsonx", "json",
                     "application/json/x", "", " ", "application/json,foo", "application /json", "application/json ;a", "text/json", "application/+json"):
    post(f"content type {content_type!r}", "{}", content_type)
post("no content type", "{}", None)
post("empty text", "", "text/plain")
for body in ("{}", '{"reports":[]}', '{"reports":[{}]}', '{"reports":{}}', '{"reports":[],"user_data":[]}', '{"reports":[],"user_data":5}',
             '{"reports":[{"entry":{"url":"u","data":[{"op":"a","path":"b"}],"config":{"a":1}},"fetched":null,"saved":"yes","hash":5}],"user_data":[["a",1]],"policy_hash":1.5}',
             '{"reports":[{"entry":null,"fetched":"x","saved":2}],"user_data":null}', '{"reports":[{"entry":{"url":"u","save_method":"X","data":1},"fetched":1.0,"saved":0.0}]}'):
    post(f"report {body}", body, path="/data/callback_report")
post("report with origin", "{}", "application/json", "/data/callback_report", ORIGIN)
post("token", '{"type":"client"}', path="/token")
post("token without a body", "", path="/token")
post("token malformed", '{"type":"client"', path="/token")
post("token with a wrong type", '{"type":"foo"}', path="/token")
post("webhook", "{}", path="/webhook")


def normal(data: bytes, port: int) -> str:
    return re.sub(r"(?m)^date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r$", "date: DATE\r", data.decode("latin-1").replace(f":{port}", ":PORT").replace("allow: HEAD, GET\r", "allow: GET, HEAD\r"))  # a set's order


def exchange(port: int, pieces: list, quiet: float = QUIET) -> tuple:
    """(everything the server says, whether it closed)."""
    with HttpConnection(port) as connection:
        ended = False
        try:
            for index, piece in enumerate(pieces):
                if index:
                    time.sleep(0.1)
                connection.send(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all was sent: the reply may still be there
        while not ended:
            before = len(connection.buffer)
            ended = connection.is_closed_by_peer(quiet if before else 3 * quiet)
            if not ended and len(connection.buffer) == before:
                break
        return normal(connection.buffer, port), ended


def replies(text: str) -> list:
    """[status, body, status, body, ...]"""
    found = []
    while text:
        head, _, text = text.partition("\r\n\r\n")
        length = re.search(r"(?m)^content-length: (\d+)\r?$", head)
        size = int(length.group(1)) if length else 0
        found += [head.split(" ")[1], text[:size]]
        text = text[size:]
    return found


@pytest.fixture(scope="module")
def answers(shared_reference, shared_opald):
    """Everything is asked at once; name -> (future of the reference's answer, future of opald's)."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=24) as pool:
        yield {name: (pool.submit(exchange, shared_reference.port, pieces), pool.submit(exchange, shared_opald.port, pieces)) for name, pieces in RAW.items()}


@pytest.mark.sanitize
@pytest.mark.parametrize("name", RAW)
def test_same_as_the_reference(name, answers, shared_reference, shared_opald):
    theirs, ours = (future.result() for future in answers[name])
    if name not in DIFFERENT:
        if ours != theirs:  # silence looks like the end on a busy machine: once more, alone and with more patience
            theirs, ours = (exchange(server.port, RAW[name], 5 * QUIET) for server in (shared_reference, shared_opald))
        assert ours == theirs
        return
    _, why, wanted = DIFFERENT[name]
    got = replies(ours[0])
    assert len(got) == len(wanted) and all(w is None or w == g for w, g in zip(wanted, got)), f"differs on purpose ({why}): {ours}\nreference: {theirs}"
    assert ours != theirs, "no difference any more: take it out of DIFFERENT"


def test_nothing_different_is_left_over():
    assert set(DIFFERENT) <= set(RAW)


# ---- bodies at random

SCALARS = [None, True, False, 0, 1, 2, -0.0, 1.0, 1.5, 1e300, "", "a", "ab", "PUT", "PATCH", "true", "Off", "get", "POST", "é", "1", 10**20, "x/y", "\ud800"]


class Bodies:
    """Updates and reports, mostly sensible, with a slip here and there."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)

    def chance(self, p: float) -> bool:
        return self.random.random() < p

    def any(self, depth: int = 0):
        if depth > 3 or self.chance(0.6):
            return self.random.choice(SCALARS)
        if self.chance(0.5):
            return [self.any(depth + 1) for _ in range(self.random.randint(0, 3))]
        return {self.random.choice(["op", "path", "value", "from", "a", "b", "url", "data"]): self.any(depth + 1) for _ in range(self.random.randint(0, 3))}

    def mostly(self, make, p: float = 0.85):
        return make() if self.chance(p) else self.any()

    def many(self, make, most: int = 3) -> list:
        return [make() for _ in range(self.random.randint(0, most))]

    def object(self, fields: dict, required: tuple = ()):
        made = {}
        for key in self.random.sample(list(fields), len(fields)):
            if self.chance(0.95 if key in required else 0.4):
                made[key] = self.mostly(fields[key])
        if self.chance(0.1):
            made["extra"] = self.any()
        if self.chance(0.08):  # what Python's dict() takes as well
            pairs = [[key, value] for key, value in made.items()]
            return pairs if self.chance(0.7) else pairs + [self.random.choice(["xy", "x", [1, 2], {"a": 1, "b": 2}, [], [None, 1], [[], 1]])]
        return made

    def word(self):
        return self.random.choice(["a", "b/c", "é", "p:q/r", ""])

    def patch(self):
        return self.object({"op": lambda: self.random.choice(["add", "remove", "replace", "move"]), "path": self.word, "value": self.any, "from": self.word}, ("op", "path"))

    def data(self):
        return self.many(lambda: self.mostly(self.patch, 0.9)) if self.chance(0.5) else self.mostly(lambda: {"k": self.any()}, 0.6)

    def entry(self):
        return self.object({"url": self.word, "config": lambda: {"a": self.any()}, "topics": lambda: self.many(lambda: self.mostly(self.word, 0.93)), "dst_path": self.word,
                            "save_method": lambda: self.random.choice(["PUT", "PATCH", "PUT", "put"]), "data": self.data}, ("url", "topics"))

    def callback(self):
        if self.chance(0.4):
            return self.word()
        fetcher = {"fetcher": self.word, "headers": lambda: {"a": "b"}, "is_json": lambda: True, "process_data": lambda: "no",
                   "method": lambda: self.random.choice(["get", "post", "put", "patch", "head", "delete"]), "data": self.any}
        return self.mostly(lambda: [self.mostly(self.word, 0.9), self.mostly(lambda: self.object(fetcher), 0.9)])

    def update(self):
        return self.object({"id": self.word, "entries": lambda: self.many(lambda: self.mostly(self.entry, 0.95)), "reason": self.word,
                            "callback": lambda: self.object({"callbacks": lambda: self.many(lambda: self.mostly(self.callback))}, ("callbacks",))}, ("entries",))

    def report(self):
        report = {"entry": self.entry, "fetched": lambda: self.random.choice(SCALARS), "saved": lambda: self.random.choice(SCALARS), "hash": self.word}
        return self.object({"update_id": self.word, "reports": lambda: self.many(lambda: self.mostly(lambda: self.object(report, ("entry",))), 2), "policy_hash": self.word,
                            "user_data": lambda: {"a": self.any()}}, ("reports",))

    def text(self, value) -> bytes:
        body = json.dumps(value, ensure_ascii=self.chance(0.5)).replace("\ud800", "\\ud800").encode()
        if not self.chance(0.12):
            return body
        at = self.random.randrange(len(body))
        slip = self.random.choice([b'"', b"{", b"]", b",", b"\\", b"\n", b"\x01", b"\xff", b"nul", b"0", b"-", b"."])
        return self.random.choice([body[:at] + body[at + 1:], body[:at] + slip + body[at:], body[:at]])


@pytest.mark.limit(180)
@pytest.mark.parametrize("usual", [1, 2])
def test_random_bodies(usual, shared_reference, shared_opald):
    bodies = Bodies(seed(usual))
    seen = {}
    for _ in range(600):
        report = bodies.chance(0.3)
        body = bodies.text(bodies.report() if report else bodies.update())
        path = "/data/callback_report" if report else "/data/config"
        theirs, ours = (server.request("POST", path, body) for server in (shared_reference, shared_opald))
        seen[ours.status] = seen.get(ours.status, 0) + 1
        if theirs.status == 500:  # its validator of `data` fails when save_method is wrong
            assert ours.status == 422 and b'"save_method"' in ours.body, body
        else:
            assert (ours.status, ours.body) == (theirs.status, theirs.body), body
    assert seen[200] > 50 and seen[422] > 50 and seen[400] > 0


# ---- what subscribers get

# entry fields beside url and topics, exactly as Python writes them; both sides must deliver the same bytes
EVENTS = {
    "plain": '"config": null',
    "strings": '"dst_path": "é\\u0001\\ud83d\\ude00\\/\\"😀\\ud800", "config": {"k": "\\u00e9"}',
    "coerced": '"dst_path": 1e5, "save_method": "PUT"',
    "inline object": '"data": {"a": [1, 2.5, null, true, "x"]}',
    "inline list": '"data": [1, {"op": "add"}, "x"]',
    "patch": '"save_method": "PATCH", "data": [{"op": "add", "path": "/a", "value": {"b": [1]}, "x": 1}, {"path": 5, "op": "move", "from": "/c"}]',
    "patch for put": '"data": [{"op": "remove", "path": "/a"}]',
    "no patch": '"data": [{"op": "add", "path": "/a"}]',
    "empty string": '"data": "", "config": ""',
    "pairs": '"config": [["a", {"b": 1}], [7, 2], [null, 3], [true, 4], [2.5, 5], "xy"]',
    "big number": '"data": {"n": 9007199254740993, "m": 123456789012345678901234567890}',
}
# what the publisher sent passes through unchanged (the reference writes it anew): name -> the text that must arrive
UNTOUCHED = {
    "numbers": '{"a": 1.0, "b":1E-7,"c":  1e400, "d": -0}',
    "spaces": '{ "a" :[ ]}',
    "keys twice": '{"a":1,"a":2}',
    "escapes": '{"a": "\\u0041\\/é"}',
    "not numbers": '{"a":NaN,"b":-Infinity}',
}


def delivered(port: int, body: str) -> str:
    """The `data` of the notify, as text."""
    with WireClient(port) as client:
        client.text(json.dumps({"request": {"method": "subscribe", "arguments": {"topics": ["own:x/y"]}, "call_id": "s"}}))
        assert json.loads(client.read()[1])["response"]["result"] is True
        with HttpConnection(port) as connection:
            assert connection.request("POST", "/data/config", body.encode("utf-8", "surrogatepass"), {"content-type": "application/json"}).status == 200
        text = client.read()[1]
        call_id = json.loads(text)["request"]["call_id"]
        client.text(json.dumps({"response": {"result": None, "call_id": call_id}}))
        return re.search(r'"notifier_id": null}, "data": (.*)}, "call_id": "[0-9a-f]{32}"}, "response": null}$', text).group(1)


def update_body(fields: str) -> str:
    return '{"reason": "é", "entries": [{"url": "u", "topics": ["own:x/y", "own:x"], %s}], "callback": {"callbacks": ["c", ["d", {"headers": {"h": "v"}}]]}}' % fields


@pytest.mark.sanitize
@pytest.mark.parametrize("name", EVENTS)
def test_same_event(name, shared_reference, shared_opald):
    body = update_body(EVENTS[name])
    assert delivered(shared_opald.port, body) == delivered(shared_reference.port, body)


@pytest.mark.sanitize
@pytest.mark.parametrize("name", UNTOUCHED)
def test_untouched_data(name, shared_opald):
    text = delivered(shared_opald.port, update_body(f'"data": {UNTOUCHED[name]}, "config": {UNTOUCHED[name]}'))
    assert f'"config": {UNTOUCHED[name]}, ' in text and f'"data": {UNTOUCHED[name]}}}]' in text


@pytest.mark.sanitize
def test_log_lines(reference, opald):
    update = '{"reason": "why", "entries": [{"url": "http://u:p@h/x?token=s", "topics": ["a/b"]}, {"url": "v", "topics": [], "dst_path": "/p", "data": {}}]}'
    report = '{"update_id": "a\'b", "reports": [{"entry": {"url": "u", "config": {"a": 1}}, "saved": "yes", "hash": 5}], "user_data": {"x": [null, true, 1.5, "é\\n"]}}'
    lines = []
    for server in (reference(), opald()):
        assert server.request("POST", "/data/config", update).status == 200
        assert server.request("POST", "/data/callback_report", report).status == 200
        server.request("GET", "/data/config?x=%20y")
        server.request("GET", "/policy-data")
        server.request("HEAD", "/caf%C3%A9")
        server.wait_until(lambda: "HEAD" in server.log(), 5, "last access line")
        found = [re.sub(r"^\S+ \| \S+ +\|", "", line) for line in server.log().splitlines() if re.search("update|topics|sources? config|all-data|\" \\d{3}$", line)]
        found = [re.sub(r"\[\d+\]", "[PID]", re.sub(r"127\.0\.0\.1:\d+ ", "PEER ", line)).replace("{'a/b', 'a'}", "{'a', 'a/b'}") for line in found]
        lines.append([line for line in found if "healthcheck" not in line])
    assert len(lines[0]) >= 8
    assert lines[1] == lines[0]


# ---- options

def compare_with_options(reference, opald, environment: dict, requests: dict):
    servers = reference(env=environment), opald(env=environment)
    for name, request in requests.items():
        theirs, ours = (exchange(server.port, [with_host(request).encode()]) for server in servers)
        assert ours == theirs, name
    return servers


def test_allowed_origins(reference, opald):
    preflight = "OPTIONS / HTTP/1.1\r\nOrigin: {}\r\nAccess-Control-Request-Method: {}\r\n\r\n"
    compare_with_options(reference, opald, {"OPAL_ALLOWED_ORIGINS": "http://ok,http://ok2"}, {
        "allowed": "GET / HTTP/1.1\r\nOrigin: http://ok2\r\nCookie: a\r\n\r\n",
        "foreign": "GET / HTTP/1.1\r\nOrigin: http://bad\r\n\r\n",
        "no origin": "GET / HTTP/1.1\r\n\r\n",
        "preflight": preflight.format("http://ok", "PUT"),
        "preflight foreign": preflight.format("http://bad", "PUT"),
        "preflight both": preflight.format("http://bad", "FOO"),
    })


def test_sources(reference, opald):
    sources = '{"config":{"entries":[{"url":"é","topics":["a/b"],"config":{"a": ["\\u00e9", 1.5]},"data":[{"op":"x","path":""}],"periodic_update_interval":5},{"url":"u"}]}}'
    compare_with_options(reference, opald, {"OPAL_DATA_CONFIG_SOURCES": sources, "OPAL_ALL_DATA_ROUTE": "/everything", "OPAL_DATA_CALLBACK_DEFAULT_ROUTE": "/cb"}, {
        "config": "GET /data/config HTTP/1.1\r\nAuthorization: Bearer x\r\n\r\n",
        "moved": "GET /everything HTTP/1.1\r\n\r\n",
        "gone": "GET /policy-data HTTP/1.1\r\n\r\n",
        "report": "POST /cb HTTP/1.1\r\nContent-Length: 14\r\n\r\n{\"reports\":[]}",
    })


def test_external_sources(reference, opald):
    url = "https://x/é?a=b&token=old&q=a%20b+c&e=#f"
    request = "GET /data/config HTTP/1.1\r\nAuthorization: {}\r\nOrigin: http://o\r\n\r\n"
    _, server = compare_with_options(reference, opald, {"OPAL_DATA_CONFIG_SOURCES": json.dumps({"external_source_url": url})}, {
        "token": request.format("Bearer T.k-_~+/="),
        "lower case": request.format("bearer abc"),
    })
    # the reference fails with 500 here
    without = server.request("GET", "/data/config")
    assert (without.status, without.header("location"), without.body) == (307, "https://x/%C3%A9?a=b&token=old&q=a%20b+c&e=#f", b"")


# ---- time

@pytest.mark.sanitize
def test_slow_clients_are_cut_off(opald):
    server = opald(env={"OPAL_HTTP_HEADER_TIMEOUT": "1", "OPAL_HTTP_BODY_TIMEOUT": "1", "OPAL_HTTP_KEEPALIVE_TIMEOUT": "1"})
    started = time.monotonic()
    connections = [HttpConnection(server.port) for _ in range(4)]
    silent, head, body, idle = connections
    head.send(b"GET / HTTP/1.1\r\nX: a")
    body.send(b"POST /data/config HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{")
    assert idle.request("GET", "/").status == 200
    for _ in range(8):  # trickling does not wind the clock up again
        time.sleep(0.1)
        try:
            head.send(b"x")
            body.send(b" ")
        except OSError:
            break
    assert head.read_response().status == 408
    assert body.read_response().status == 408
    for connection in connections:
        assert connection.read_all() == b""
        connection.close()
    assert 0.8 < time.monotonic() - started < scaled(4)
    log = server.log()
    assert "the request did not come in time" in log


def test_idle_connections_are_kept_as_long(shared_reference, shared_opald):
    """Five seconds on both sides."""
    def idle(port):
        with HttpConnection(port, timeout=20) as connection:
            assert connection.request("GET", "/").status == 200
            started = time.monotonic()
            assert connection.read_all() == b""
            return time.monotonic() - started

    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        theirs, ours = pool.map(idle, (shared_reference.port, shared_opald.port))
    assert 4.5 < theirs < 6.5 and 4.5 < ours < scaled(6.5)
