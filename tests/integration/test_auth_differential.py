"""Secure mode: the same requests and tokens against opal-server 0.9.9 and opald. Status, headers and body must be the same.

Where opald differs on purpose, DIFFERENT has the id of it (harness/differences.py) and what opald answers instead; an entry that differs
no more, or an id that is not there, fails the suite.
"""

import json
import random
import re
import time
import uuid

import pytest

from harness import Opald, Reference, WireClient, scaled
from harness.dice import seed
from harness.differences import check_ids
from harness.http import HttpConnection
from harness.tokens import AUDIENCE, ISSUER, MASTER, KeyPair, bearer

ECHO, EARLY, FIVE_HUNDRED, JWKS = "token-echo", "early-401", "auth-500", "jwks-file"


def error(text: str) -> str:
    return json.dumps({"detail": {"error": text}}, separators=(",", ":"), ensure_ascii=False)


NOT_PROVIDED, UNDECODABLE, UNKNOWN = error("access token was not provided"), error("Could not decode access token"), error("Unknown JWT error")
WRONG_MASTER = error("unauthorized to access this endpoint!")
CLIENT = error("Incorrect 'peer_type' claim for OPAL jwt token: PeerType.client, expected: PeerType.datasource")

# request -> (id in harness/differences.py, status, body)
DIFFERENT = {
    "malformed without token": (EARLY, 401, NOT_PROVIDED),
    "malformed with bad token": (EARLY, 401, UNDECODABLE),
    "client with a bad body": (EARLY, 401, CLIENT),
    "report malformed without token": (EARLY, 401, NOT_PROVIDED),
    "issue malformed without master": (EARLY, 401, error("Authorization header is required!")),
    "permitted topics null": (FIVE_HUNDRED, 401, error("Invalid 'topics' to publish {'a'}")),
    "permitted topics number": (FIVE_HUNDRED, 401, error("Invalid 'topics' to publish {'a'}")),
    "permitted topics string": (FIVE_HUNDRED, 401, error("Invalid 'topics' to publish {'a'}")),
    "issue iss number": (FIVE_HUNDRED, 422, '{"detail":"the claim iss must be a string"}'),
    "issue ttl for ever": (FIVE_HUNDRED, 422, '{"detail":[{"loc":["body","ttl"],"msg":"invalid duration format","type":"value_error.duration"}]}'),
    "jwks head": (JWKS, 200, ""),
    "jwks": (JWKS, 200, None),
}
check_ids([ECHO, *(entry[0] for entry in DIFFERENT.values())], "test_auth_differential.py::test_requests")

UPDATE = {"entries": [{"url": "u", "topics": ["a"]}]}


class Case:
    def __init__(self, method, target, headers=None, body=None, json=None):
        self.method, self.target, self.headers = method, target, headers or {}
        self.body = body if json is None else __import__("json").dumps(json).encode()


def build(keys: KeyPair, other: KeyPair) -> dict:
    """name -> request"""
    client, source, listener = (bearer(keys.token(kind)) for kind in ("client", "datasource", "listener"))
    cases = {}

    def add(name, method, target, headers=None, body=None, json=None):
        assert name not in cases
        cases[name] = Case(method, target, headers, body, json)

    # every route, with and without a token
    routes = [("GET", "/data/config"), ("GET", "/policy-data"), ("GET", "/policy"), ("GET", "/statistics"), ("GET", "/pubsub_client_info"), ("GET", "/stats"), ("GET", "/loadlimit"), ("GET", "/"),
              ("GET", "/healthcheck"), ("GET", "/nope"), ("DELETE", "/data/config"), ("HEAD", "/policy"), ("OPTIONS", "/data/config")]
    for method, target in routes:
        add(f"{method} {target} without", method, target)
        add(f"{method} {target} client", method, target, client)
    add("jwks", "GET", "/.well-known/jwks.json")
    add("jwks head", "HEAD", "/.well-known/jwks.json")
    for name, headers in {"client": client, "datasource": source, "listener": listener, "nobody": {}}.items():
        add(f"publish as {name}", "POST", "/data/config", headers, json=UPDATE)
        add(f"report as {name}", "POST", "/data/callback_report", headers, json={"reports": []})
    add("policy with query", "GET", "/policy?path=a&base_hash=b", client)
    # the header
    token = keys.token()
    for name, value in {"lower case": f"bearer {token}", "upper case": f"BEARER {token}", "basic": "Basic eDp5", "scheme alone": "Bearer", "scheme and space": "Bearer ",
                        "two spaces": f"Bearer  {token}", "no scheme": token, "two tokens": f"Bearer {token} {token}", "tab": f"Bearer\t{token}", "comma": f"Bearer {token},",
                        "quotes": f'Bearer "{token}"', "empty": "", "not ascii": "Bearer \xe9\xe9", "dots": "Bearer ..", "one dot": "Bearer a.b", "word": "Bearer THIS_IS_A_DEV_SECRET",
                        "cut": f"Bearer {token[:-5]}", "padded": f"Bearer {token}==", "more dots": f"Bearer {token}.x", "space inside": f"Bearer {token[:20]} {token[20:]}"}.items():
        add(f"header {name}", "GET", "/data/config", {"Authorization": value})
    add("token in query", "GET", f"/data/config?token={token}")
    add("origin", "GET", "/data/config", {"Origin": "http://a"})
    add("origin with cookie", "GET", "/data/config", {"Origin": "http://a", "Cookie": "a=b", **client})
    add("preflight", "OPTIONS", "/data/config", {"Origin": "http://a", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"})
    add("slash", "GET", "/data/config/", {"Host": "h"})
    # tokens
    tampered = token.split(".")
    tampered[1] = keys.token(peer_type="datasource").split(".")[1]
    public = keys.public_bytes("pem")
    for name, value in {"expired": keys.token(exp=int(time.time()) - 10), "other key": other.token(), "tampered": ".".join(tampered), "none": keys.none_token(),
                        "None": keys.none_token("None"), "hs256 with the public pem": keys.hmac_token(public), "hs256 with the public ssh": keys.hmac_token(keys.public_bytes()),
                        "rs384": keys.token(algorithm="RS384"), "ps256": keys.token(algorithm="PS256"), "rs256 signed, none named": keys.token(headers={"alg": "none"}),
                        "alg list": keys.token(headers={"alg": ["RS256"]}), "alg lower": keys.token(headers={"alg": "rs256"}), "no alg": keys.sign_text("{}", {"typ": "JWT"}),
                        "jwk in header": other.token(headers={"jwk": {"kty": "RSA"}}), "kid": keys.token(headers={"kid": "x"}), "kid number": keys.token(headers={"kid": 1}),
                        "crit": keys.token(headers={"crit": ["exp"]}), "crit b64": keys.token(headers={"crit": ["b64"], "b64": True}), "b64 false": keys.token(headers={"b64": False}),
                        "aud": keys.token(aud="x"), "aud list": keys.token(aud=["x", AUDIENCE]), "aud list of others": keys.token(aud=["x"]), "aud mixed": keys.token(aud=[1, AUDIENCE]),
                        "aud empty": keys.token(aud=""), "aud null": keys.token(aud=None), "aud number": keys.token(aud=1), "no aud": keys.token(drop=["aud"]), "iss": keys.token(iss="x"),
                        "iss number": keys.token(iss=1), "no iss": keys.token(drop=["iss"]), "no exp": keys.token(drop=["exp"]), "exp text": keys.token(exp="soon"),
                        "exp digits": keys.token(exp=str(int(time.time()) + 100)), "exp float": keys.token(exp=time.time() + 100), "exp null": keys.token(exp=None), "exp huge": keys.token(exp=10**30),
                        "nbf later": keys.token(nbf=int(time.time()) + 100), "nbf text": keys.token(nbf="x"), "iat later": keys.token(iat=int(time.time()) + 100), "iat text": keys.token(iat="x"),
                        "no sub": keys.token(drop=["sub"]), "sub word": keys.token(sub="me"), "sub empty": keys.token(sub=""), "sub number": keys.token(sub=5), "sub dashed": keys.token(sub=str(uuid.uuid4())),
                        "sub urn": keys.token(sub=uuid.uuid4().urn), "sub braces": keys.token(sub="{%s}" % uuid.uuid4()), "sub short": keys.token(sub="a" * 31), "jti number": keys.token(jti=1),
                        "payload list": keys.sign_text("[]"), "payload no json": keys.sign_text("{"), "payload bytes": keys.sign_text(b"\xff\xfe"), "header no json": keys.sign_text("{}", b"{"),
                        "header list": keys.sign_text("{}", b"[]"), "long": keys.token(pad="x" * 6000)}.items():
        add(f"token {name}", "GET", "/data/config", bearer(value))
    # peer types and topics
    for name, kind in {"none": None, "word": "zz", "number": 5, "list": ["datasource"], "true": True, "object": {"a": None}, "empty": ""}.items():
        add(f"peer type {name}", "POST", "/data/config", bearer(keys.token(kind)), json=UPDATE)
    for name, (permitted, topics) in {"same": (["a"], ["a"]), "other": (["b"], ["a"]), "child": (["a"], ["a/b"]), "one of two": (["a"], ["a", "c"]), "nothing": ([], ["a"]),
                                      "nothing asked": ([], []), "not ascii": (["a"], ["é'"]), "null": (None, ["a"]), "number": (5, ["a"]), "string": ("a", ["a"]),
                                      "default topic": (["x"], None)}.items():
        entry = {"url": "u"} if topics is None else {"url": "u", "topics": topics}
        add(f"permitted topics {name}", "POST", "/data/config", bearer(keys.token("datasource", permitted_topics=permitted)), json={"entries": [entry, {"url": "v", "topics": topics or ["x"]}]})
    # what comes first
    add("malformed without token", "POST", "/data/config", {}, b"{")
    add("malformed with bad token", "POST", "/data/config", bearer("x"), b"{")
    add("malformed", "POST", "/data/config", source, b"{")
    add("empty", "POST", "/data/config", source, b"")
    add("bad body", "POST", "/data/config", source, b"{}")
    add("client with a bad body", "POST", "/data/config", client, b"{}")
    add("report malformed without token", "POST", "/data/callback_report", {}, b"{")
    add("report bad body", "POST", "/data/callback_report", client, b"{}")
    # POST /token
    master = bearer(MASTER)
    for name, headers in {"nobody": {}, "wrong": bearer("x"), "prefix": bearer(MASTER[:-1]), "longer": bearer(MASTER + "x"), "basic": {"Authorization": f"Basic {MASTER}"},
                          "a jwt": source, "empty": {"Authorization": ""}}.items():
        add(f"issue as {name}", "POST", "/token", headers, b"{}")
    add("issue malformed without master", "POST", "/token", {}, b"{")
    add("issue malformed", "POST", "/token", master, b"{")
    for name, body in {"id word": {"id": "x"}, "id number": {"id": 5}, "id null": {"id": None}, "type word": {"type": "x"}, "type null": {"type": None}, "type number": {"type": 1},
                       "ttl word": {"ttl": "x"}, "ttl list": {"ttl": []}, "ttl null": {"ttl": None}, "ttl empty": {"ttl": ""}, "ttl for ever": {"ttl": 1e12}, "claims word": {"claims": "x"},
                       "claims null": {"claims": None}, "claims number": {"claims": 5}, "iss number": {"claims": {"iss": 1}}, "everything wrong": {"id": 1, "type": 2, "ttl": {}, "claims": 3},
                       "body list": [1]}.items():
        add(f"issue {name}", "POST", "/token", master, json=body)
    return cases


@pytest.fixture(scope="module")
def keys():
    return KeyPair.make()


@pytest.fixture(scope="module")
def other():
    return KeyPair.make()


@pytest.fixture(scope="module")
def servers(keys, tmp_path_factory):
    """The reference and opald with the same keys."""
    work = tmp_path_factory.mktemp("secure")
    made = Reference(work, env=keys.environment()), Opald(work, env=keys.environment(OPAL_AUTH_REFUSAL_DELAY=0), workers=2)
    yield made
    made[0].kill()
    assert made[1].stop() == 0 and not made[1].sanitizer_report()


def shown(response):
    """What is compared: status, headers in their order, body; without what differs by nature."""
    headers = [(name, value) for name, value in response.headers if name not in ("date",)]
    return response.status, headers, response.text


def ask(server, case: Case):
    with HttpConnection(server.port) as connection:
        headers = {"Host": "h", **case.headers}
        head = f"{case.method} {case.target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if case.body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(case.body)}\r\n"
        connection.send(head.encode("latin-1") + b"\r\n" + (case.body or b""))
        return connection.read_response(head_request=case.method == "HEAD")


def without_echo(response):
    """The reference's reply less the token that it echoes."""
    status, headers, text = shown(response)
    if status == 401 and '"token":' in text:
        detail = json.loads(text)["detail"]
        text = error(detail["error"])
        headers = [(name, str(len(text.encode())) if name == "content-length" else value) for name, value in headers]
    return status, headers, text


def test_requests(servers, keys, other):
    cases = build(keys, other)
    assert len(cases) >= 150
    wrong, unused = [], set(DIFFERENT)
    for name, case in cases.items():
        theirs, ours = (ask(server, case) for server in servers)
        same = shown(ours) == without_echo(theirs)
        if name in DIFFERENT:
            unused.discard(name)
            _, status, body = DIFFERENT[name]
            if same:
                wrong.append((name, "no longer differs", shown(ours)))
            if ours.status != status or (body is not None and ours.text != body):
                wrong.append((name, "not what was decided", shown(ours)))
        elif not same:
            wrong.append((name, shown(theirs), shown(ours)))
    assert not wrong, "\n".join(map(str, wrong))
    assert not unused


def test_nothing_secret_is_logged_or_echoed(servers, keys):
    server = servers[1]
    secret = keys.token(exp=1)
    for path, headers in (("/data/config", bearer(secret)), ("/policy", bearer(secret)), ("/token", bearer(secret))):
        answer = ask(server, Case("POST" if path == "/token" else "GET", path, headers, b"{}" if path == "/token" else None))
        assert answer.status == 401 and secret.split(".")[1] not in answer.text
    assert ask(server, Case("GET", f"/data/config?token={secret}", {})).status == 401
    log = server.log()
    assert "Authentication failed with 401 due to error: {'error': 'Access token is expired'} (" in log
    for word in (secret, secret.split(".")[1], MASTER, "PRIVATE KEY"):
        assert word not in log


# ---- tokens by the hundred, judged by the reference's own code

def random_claims(rng: random.Random) -> dict:
    now = time.time()
    odd = [None, True, False, 0, 5, -1, 1.5, "", "x", [], ["x"], {}, {"a": 1}, "1_0", " 12 ", "+5", 1e300, -1e300, "1e5", float("inf"), float("nan")]
    times = [now - 1000, now + 1000, int(now - 1000), int(now + 1000), str(int(now + 1000)), f" {int(now + 1000)} ", f"{int(now + 1000):_}", 10**20, -10**20]
    claims = {"iat": int(now), "exp": int(now) + 1000, "aud": AUDIENCE, "iss": ISSUER, "sub": uuid.uuid4().hex, "peer_type": "client"}
    for name in rng.sample(["iat", "exp", "nbf", "aud", "iss", "sub", "jti"], rng.randint(0, 3)):
        roll = rng.random()
        if roll < 0.2:
            claims.pop(name, None)
        elif roll < 0.6 and name in ("iat", "exp", "nbf"):
            claims[name] = rng.choice(times)
        elif roll < 0.6 and name == "aud":
            claims[name] = rng.choice([[AUDIENCE], [AUDIENCE, "x"], ["x"], [AUDIENCE, 5], AUDIENCE + "x", AUDIENCE.upper()])
        elif roll < 0.6 and name == "sub":
            claims[name] = rng.choice([str(uuid.uuid4()), "{" + uuid.uuid4().hex + "}", uuid.uuid4().urn, uuid.uuid4().hex.upper(), uuid.uuid4().hex + "0", "g" * 32, "-" * 36])
        else:
            claims[name] = rng.choice(odd)
    return claims


def random_token(rng: random.Random, keys: KeyPair) -> str:
    header = {"alg": "RS256", "typ": "JWT"}
    if rng.random() < 0.15:
        header[rng.choice(["alg", "kid", "crit", "b64", "typ"])] = rng.choice([None, True, False, "RS256", "none", "", 1, [], ["b64"], ["x"], {}])
    token = keys.sign_text(json.dumps(random_claims(rng)), header)
    if rng.random() < 0.15:
        at = rng.randrange(len(token))
        token = rng.choice([token[:at] + token[at + 1:], token[:at] + rng.choice("A=._-+/ ") + token[at:], token[:at], token + "=", token[:at] + "x" + token[at + 1:]])
    return token


def test_random_tokens(servers, keys):
    from opal_common.authentication.deps import get_token_from_header, verify_logged_in
    from opal_common.authentication.types import JWTAlgorithm
    from opal_common.authentication.verifier import JWTVerifier, Unauthorized

    verifier = JWTVerifier(keys.private.public_key(), JWTAlgorithm.RS256, AUDIENCE, ISSUER)
    rng = random.Random(seed(7))
    seen = {}
    connection = HttpConnection(servers[1].port)
    for _ in range(700):
        token = random_token(rng, keys)
        try:
            # as the reference's server sees it: the header's white space is gone
            verify_logged_in(verifier, get_token_from_header(f"Bearer {token}".strip(" \t")))
            wanted = (200, None)
        except Unauthorized as refusal:
            wanted = (401, refusal.detail["error"])
        answer = connection.request("GET", "/data/config", headers=bearer(token))
        got = (answer.status, answer.json()["detail"]["error"] if answer.status == 401 else None)
        assert got == wanted, (token, answer.text)
        seen[wanted[1]] = seen.get(wanted[1], 0) + 1
    connection.close()
    assert len(seen) == 7 and min(seen.values()) >= 5, seen


# ---- tokens that are given out

def payload_of(token: str) -> tuple:
    """Header and payload as texts."""
    import base64
    return tuple(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode() for part in token.split(".")[:2])


REQUESTS = [
    {}, [], {"type": "datasource"}, {"type": "listener", "ttl": 60}, {"id": "7e1f3a52-8a0b-4c1d-9e2f-000000000001"}, {"id": "urn:uuid:7e1f3a52-8a0b-4c1d-9e2f-000000000001"},
    {"ttl": -5}, {"ttl": 1.5}, {"ttl": True}, {"ttl": "90"}, {"ttl": "1 00:00:00"}, {"ttl": "P1DT2H"}, {"ttl": "-P1D"}, {"ttl": "PT1.5S"}, {"ttl": "10:00"}, {"ttl": "3 days, 1:02:03.25"},
    {"ttl": "-1:30"}, {"ttl": "1 day, 0:0:1"}, {"ttl": "P"}, {"ttl": "PT"}, {"ttl": "P1.25D"}, {"ttl": "00:00:00.1234567"},
    {"claims": {"permitted_topics": ["a", "b/c"], "x": {"y": [1, 2.5, None, "é\U0001f600"]}}}, {"claims": []}, {"claims": {"sub": "me", "exp": 5, "aud": "x", "peer_type": "zz"}},
    {"claims": {"é": "\u2028", "a\"b": "\\"}}, {"claims": [["a", 1]]}, {"claims": {"a": 1}, "unknown": 5},
]


def normal(text: str, times: bool = True) -> str:
    text = re.sub(r'"(iat|exp)":-?\d{9,}', lambda m: f'"{m[1]}":T', text)
    text = re.sub(r'"sub":"[0-9a-f]{32}"', '"sub":"ID"', text)
    return text


def test_tokens(servers, keys):
    for request in REQUESTS:
        theirs, ours = (ask(server, Case("POST", "/token", bearer(MASTER), json=request)) for server in servers)
        assert (ours.status, ours.header_names()) == (theirs.status, theirs.header_names()), (request, theirs.text, ours.text)
        if theirs.status != 200:
            assert ours.text == theirs.text, request
            continue
        theirs, ours = theirs.json(), ours.json()
        assert list(ours) == list(theirs) and list(ours["details"]) == list(theirs["details"])
        assert ours["details"]["claims"] == theirs["details"]["claims"] and list(ours["details"]["claims"]) == list(theirs["details"]["claims"])
        (their_head, their_payload), (our_head, our_payload) = payload_of(theirs["token"]), payload_of(ours["token"])
        assert our_head == their_head
        assert normal(our_payload) == normal(their_payload), request
        # times: the same, give or take the time between the two requests
        from datetime import datetime
        apart = datetime.fromisoformat(ours["details"]["expired"]) - datetime.fromisoformat(theirs["details"]["expired"])
        assert 0 <= apart.total_seconds() < scaled(5), request
        if "id" in request:
            assert ours["details"]["id"] == theirs["details"]["id"]
        for name in ("iat", "exp"):
            assert abs(json.loads(our_payload)[name] - json.loads(their_payload)[name]) < scaled(5), request
        # each server takes the other's
        for server in servers:
            assert ask(server, Case("GET", "/data/config", bearer(ours["token"]))).status == ask(server, Case("GET", "/data/config", bearer(theirs["token"]))).status


# ---- websocket handshakes

def handshake(server, *headers: str):
    with HttpConnection(server.port) as connection:
        connection.send(("GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + "".join(f"{header}\r\n" for header in headers) + "\r\n").encode("latin-1"))
        answer = connection.read_response()
        return answer.status, [(name.lower(), value) for name, value in answer.headers if name.lower() not in ("date", "server")], answer.body


def test_handshakes(servers, keys, other):
    curve = KeyPair.make("p256")
    good = keys.token()
    scripts = {
        "good": bearer(good), "lower case": {"authorization": f"bearer {good}"}, "nothing": {}, "basic": {"Authorization": "Basic x"}, "garbage": bearer("x"),
        "expired": bearer(keys.token(exp=1)), "wrong audience": bearer(keys.token(aud="x")), "wrong issuer": bearer(keys.token(iss="x")), "none": bearer(keys.none_token()),
        "hs256 signed with the public key": bearer(keys.hmac_token(keys.public_bytes("pem"))), "wrong curve": bearer(curve.token(algorithm="ES256")),
        "another's key": bearer(other.token()), "no audience": bearer(keys.token(drop=["aud"])), "no subject": bearer(keys.token(drop=["sub"])),
        "no peer type": bearer(keys.token(None)), "no expiry": bearer(keys.token(drop=["exp"])), "malformed": bearer("a.b.c"), "empty": {"Authorization": "Bearer "},
        "datasource": bearer(keys.token("datasource")), "early": bearer(keys.token(nbf=int(time.time()) + 100)),
    }
    statuses = set()
    for name, headers in scripts.items():
        lines = [f"{key}: {value}" for key, value in headers.items()]
        theirs, ours = (handshake(server, *lines) for server in servers)
        # the reference negotiates compression only when it is offered: the replies are the same
        assert ours == theirs, name
        statuses.add(ours[0])
    assert statuses == {101, 403}


def test_topics_that_are_a_plain_string(servers, keys):
    """Of a client that may use `a` and `p/q`: one topic when it publishes, letters when it subscribes, on both sides. Who is refused is cut off there."""
    answers = []
    for server in servers:
        for method, topic in (("publish", "aa"), ("publish", "p/q"), ("subscribe", "aa"), ("subscribe", "p/q")):
            with WireClient(server.port, headers=bearer(keys.token(permitted_topics=["a", "p/q"]))) as client:
                client.text(json.dumps({"request": {"method": method, "arguments": {"topics": topic}, "call_id": "1"}}))
                kind, text = client.read()[:2]
                answers.append(kind == "text" and json.loads(text)["response"]["result"])
    assert answers == [False, True, True, False] * 2


def test_a_header_of_a_mebibyte(servers, keys):
    server = servers[1]
    for target in ("/ws", "/data/config"):
        with HttpConnection(server.port) as connection:
            try:
                connection.send(f"GET {target} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nAuthorization: Bearer {'x' * (1 << 20)}\r\n\r\n".encode())
            except OSError:
                pass  # it had answered before all of it was sent
            assert connection.read_response().status == 431
    # within the head's limit but longer than a token may be
    answer = ask(server, Case("GET", "/data/config", bearer(keys.token(pad="x" * 70000))))
    assert (answer.status, answer.text) == (401, UNDECODABLE)
    assert handshake(server, f"Authorization: Bearer {keys.token()}")[0] == 101


# ---- data sources

def compare(reference, opald, environment: dict, requests: dict, ):
    servers = reference(env=environment), opald(env=environment)
    wrong = []
    for name, case in requests.items():
        theirs, ours = (ask(server, case) for server in servers)
        if shown(ours) != without_echo(theirs):
            wrong.append((name, shown(theirs), shown(ours)))
    assert not wrong, "\n".join(map(str, wrong))


def test_data_sources(reference, opald, keys):
    sources = {"config": {"entries": [{"url": "http://x/?token=a", "config": {"headers": {"Authorization": "Bearer x"}}, "topics": ["policy_data", "é"], "dst_path": "/d", "save_method": "PATCH",
                                       "data": [{"op": "add", "path": "/a", "value": 1}], "periodic_update_interval": 2.5}, {"url": "u"}]}}
    client = bearer(keys.token())
    compare(reference, opald, keys.environment(OPAL_DATA_CONFIG_SOURCES=json.dumps(sources), OPAL_DATA_CONFIG_ROUTE="/sources", OPAL_ALL_DATA_ROUTE="/all",
                                               OPAL_DATA_CALLBACK_DEFAULT_ROUTE="/report"), {
        "moved": Case("GET", "/sources", client), "moved without": Case("GET", "/sources"), "not there": Case("GET", "/data/config", client),
        "publish": Case("POST", "/sources", bearer(keys.token("datasource")), json=UPDATE), "publish as client": Case("POST", "/sources", client, json=UPDATE),
        "all": Case("GET", "/all"), "all not there": Case("GET", "/policy-data"), "report": Case("POST", "/report", client, json={"reports": []}),
        "report without": Case("POST", "/report", {}, json={"reports": []}), "wrong method": Case("PUT", "/sources"), "slash": Case("GET", "/sources/"),
    })


def test_external_source(reference, opald, keys):
    token = keys.token()
    compare(reference, opald, keys.environment(OPAL_DATA_CONFIG_SOURCES=json.dumps({"external_source_url": "https://sources.example/x?tenant=a%20b&token=old"}),
                                               OPAL_ALL_DATA_URL="http://y/z", OPAL_ALL_DATA_TOPIC="other"), {
        "redirect": Case("GET", "/data/config", bearer(token)), "lower case": Case("GET", "/data/config", {"authorization": f"bearer {token}"}),
        "without": Case("GET", "/data/config"), "expired": Case("GET", "/data/config", bearer(keys.token(exp=1))),
        "head": Case("HEAD", "/data/config", bearer(token)), "all": Case("GET", "/policy-data"),
    })


def test_all_data_options(reference, opald, keys):
    for environment in ({"OPAL_ALL_DATA_URL": "http://y/z?é", "OPAL_ALL_DATA_TOPIC": "other topic"},):
        compare(reference, opald, keys.environment(**environment), {"config": Case("GET", "/data/config", bearer(keys.token("listener")))})


# what is published in secure mode arrives as in open mode: patch actions, callbacks, several entries
EVENTS = [
    {"entries": [{"url": "u", "topics": ["a/b", "c"], "save_method": "PATCH", "data": [{"op": "replace", "path": "/x", "value": {"y": [1, None]}}, {"op": "move", "path": "/z", "from": "/x"}]}], "reason": "é"},
    {"id": "7", "entries": [{"url": "u", "topics": ["a"]}, {"url": "v", "topics": ["d:e/f"], "config": {"k": "v"}, "data": {"inline": True}, "dst_path": "/p"}],
     "callback": {"callbacks": ["http://cb", ["http://cb2", {"method": "put", "headers": {"h": "1"}, "is_json": False}]]}},
]


def test_events(servers, keys):
    publisher, subscriber = bearer(keys.token("datasource")), keys.token()
    for event in EVENTS:
        got = []
        for server in servers:
            with WireClient(server.port, headers=bearer(subscriber)) as client:
                topics = ["a", "a/b", "c", "d:e", "d:e/f"]
                client.text(json.dumps({"request": {"method": "subscribe", "arguments": {"topics": topics}, "call_id": "1"}}))
                assert '"result": true' in client.read()[1]
                assert ask(server, Case("POST", "/data/config", publisher, json=event)).status == 200
                texts = {}
                for _ in range({0: 3, 1: 3}[EVENTS.index(event)]):
                    kind, text = client.read()[:2]
                    arguments = json.loads(text)["request"]["arguments"]
                    marker = '}, "data": '
                    texts[arguments["subscription"]["topic"]] = text[text.index(marker) + len(marker):text.rindex('}, "call_id": ')]
                got.append(texts)
        assert got[0] == got[1] and len(got[0]) == 3
