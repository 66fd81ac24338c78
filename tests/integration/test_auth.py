"""Secure mode from end to end: key formats, algorithms, the command line, the real opal-client, permitted topics, tokens that expire."""

import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
import warnings

import pytest

from harness import OPALD, RawClient, SANITIZER, VENV, opal_client_command, scaled
from harness.process import clean_environment
from harness.tokens import AUDIENCE, ISSUER, MASTER, KeyPair, bearer


def run(*arguments, env=None, seconds=30):
    done = subprocess.run([OPALD, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=scaled(seconds),
                          env=clean_environment({k: str(v) for k, v in (env or {}).items()}))
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def pairs():
    return {kind: KeyPair.make(kind) for kind in ("rsa", "p256", "p384", "p521", "k256", "ed25519", "ed448")}


@pytest.fixture(scope="module")
def other():
    return KeyPair.make()


# ---- key formats: the reference's own code says which of them it reads

def reference_reads(private: str, private_format: str, passphrase, public: str, public_format: str, algorithm: str) -> bool:
    from opal_common.authentication.casting import cast_private_key, cast_public_key
    from opal_common.authentication.signer import JWTSigner
    from opal_common.authentication.types import EncryptionKeyFormat, JWTAlgorithm

    try:
        signer = JWTSigner(cast_private_key(private, EncryptionKeyFormat[private_format], passphrase), cast_public_key(public, EncryptionKeyFormat[public_format]),
                           JWTAlgorithm[algorithm], AUDIENCE, ISSUER)
        return signer.enabled
    except Exception:
        return False


def underscored(data: bytes) -> str:
    return data.decode().replace("\n", "_")


def matrix(pairs, work):
    """(name, environment, passphrase): rsa/ec/ed25519 x pem/ssh/der x path/text x passphrase, and public keys x formats x path/text."""
    algorithms = {"rsa": "RS256", "p256": "ES256", "ed25519": "EdDSA"}
    for kind, algorithm in algorithms.items():
        pair = pairs[kind]
        for private_format in ("pem", "ssh", "der"):
            for passphrase in (None, "a passphrase"):
                try:
                    private = pair.private_bytes(private_format, passphrase)
                except Exception:  # the library writes no encrypted OpenSSH key without another module: ssh-keygen does
                    private = encrypted_ssh_key(pair, passphrase, work)
                path = work / f"{kind}-{private_format}-{bool(passphrase)}"
                path.write_bytes(private)
                given = {"path": str(path)}
                if private_format != "der":
                    given |= {"lines": private.decode(), "underscores": underscored(private)}
                for how, value in given.items():
                    yield (f"{kind} private {private_format} {how} {'encrypted' if passphrase else ''}",
                           (value, private_format, passphrase, pair.public_bytes().decode(), "ssh", algorithm))
        for public_format in ("pem", "ssh", "der"):
            public = pair.public_bytes(public_format)
            path = work / f"{kind}-public-{public_format}"
            path.write_bytes(public)
            given = {"path": str(path)} | ({} if public_format == "der" else {"text": public.decode(), "underscores": underscored(public)})
            for how, value in given.items():
                yield f"{kind} public {public_format} {how}", (pair.private_bytes().decode(), "pem", None, value, public_format, algorithm)
    rsa, p256 = pairs["rsa"], pairs["p256"]
    for name, private, passphrase in (("pkcs1", rsa.private_bytes(traditional=True), None), ("pkcs1 encrypted", rsa.private_bytes("pem", "x", True), "x")):
        yield f"rsa private {name}", (private.decode(), "pem", passphrase, rsa.public_bytes().decode(), "ssh", "RS256")
    yield "sec1", (p256.private_bytes(traditional=True).decode(), "pem", None, p256.public_bytes().decode(), "ssh", "ES256")
    yield "rsa public pkcs1 pem", (rsa.private_bytes().decode(), "pem", None, rsa.public_bytes("pem", True).decode(), "pem", "RS256")
    ssh = rsa.public_bytes().decode()
    for name, value in {"comment": ssh + " somebody@somewhere", "newline": ssh + "\n", "cut": ssh[:-20], "type only": "ssh-rsa", "empty word": "x", "other type": "ssh-dss" + ssh[7:]}.items():
        yield f"rsa public ssh {name}", (rsa.private_bytes().decode(), "pem", None, value, "ssh", "RS256")
    # what does not fit
    for algorithm in ("RS256", "PS512", "ES256", "ES384", "ES512", "ES521", "ES256K", "EdDSA", "HS256", "none"):
        for kind in ("rsa", "p256", "p384", "p521", "k256", "ed25519", "ed448"):
            pair = pairs[kind]
            yield f"{algorithm} with {kind}", (pair.private_bytes().decode(), "pem", None, pair.public_bytes("pem").decode(), "pem", algorithm)
    yield "passphrase for nothing", (rsa.private_bytes().decode(), "pem", "x", ssh, "ssh", "RS256")
    yield "passphrase missing", (rsa.private_bytes("pem", "x").decode(), "pem", None, ssh, "ssh", "RS256")
    yield "passphrase wrong", (rsa.private_bytes("pem", "x").decode(), "pem", "y", ssh, "ssh", "RS256")
    yield "der passphrase wrong", (str(work / "rsa-der-True"), "der", "y", ssh, "ssh", "RS256")
    yield "public key in the private's place", (rsa.public_bytes("pem").decode(), "pem", None, ssh, "ssh", "RS256")
    yield "private key in the public's place", (rsa.private_bytes().decode(), "pem", None, rsa.private_bytes().decode(), "pem", "RS256")
    yield "openssh key as pem", (rsa.private_bytes("ssh").decode(), "pem", None, ssh, "ssh", "RS256")
    yield "pem as ssh", (rsa.private_bytes().decode(), "ssh", None, ssh, "ssh", "RS256")
    yield "no such file", ("/nonexistent/key.pem", "pem", None, ssh, "ssh", "RS256")
    yield "garbage", ("garbage", "pem", None, ssh, "ssh", "RS256")
    yield "not a pair", (rsa.private_bytes().decode(), "pem", None, KeyPair.make().public_bytes().decode(), "ssh", "RS256")


def encrypted_ssh_key(pair, passphrase, work) -> bytes:
    path = work / "to-encrypt"
    path.write_bytes(pair.private_bytes("ssh"))
    path.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", passphrase, "-P", "", "-f", path], check=True, stdout=subprocess.DEVNULL)
    data = path.read_bytes()
    path.unlink()
    return data


@pytest.mark.limit(120)
def test_key_formats(pairs, work):
    wrong, read = [], 0
    for name, (private, private_format, passphrase, public, public_format, algorithm) in matrix(pairs, work):
        theirs = reference_reads(private, private_format, passphrase, public, public_format, algorithm)
        environment = {"OPAL_AUTH_PRIVATE_KEY": private, "OPAL_AUTH_PRIVATE_KEY_FORMAT": private_format, "OPAL_AUTH_PUBLIC_KEY": public,
                       "OPAL_AUTH_PUBLIC_KEY_FORMAT": public_format, "OPAL_AUTH_JWT_ALGORITHM": algorithm}
        if passphrase:
            environment["OPAL_AUTH_PRIVATE_KEY_PASSPHRASE"] = passphrase
        status, out, err = run("check-config", env=environment)
        read += theirs
        if (status == 0) != theirs:
            wrong.append((name, "the reference reads it" if theirs else "the reference does not read it", out, err))
        # what is wrong is said in one line, which names the option and holds nothing of the key
        if status and (len(out.strip().splitlines()) != 1 or "OPAL_AUTH_" not in out or (len(private) > 200 and private[100:140] in out)):
            wrong.append((name, out))
    assert not wrong, "\n".join(map(str, wrong))
    assert read >= 50


WRONG = {
    "only private": (lambda k, o: {"OPAL_AUTH_PUBLIC_KEY": ""}, "OPAL_AUTH_PRIVATE_KEY is set, but OPAL_AUTH_PUBLIC_KEY is not"),
    "only public": (lambda k, o: {"OPAL_AUTH_PRIVATE_KEY": ""}, "OPAL_AUTH_PUBLIC_KEY is set, but OPAL_AUTH_PRIVATE_KEY is not"),
    "no pair": (lambda k, o: {"OPAL_AUTH_PUBLIC_KEY": o.public_bytes().decode()}, "don't belong together"),
    "passphrase": (lambda k, o: {"OPAL_AUTH_PRIVATE_KEY": k.private_bytes("pem", "x").decode(), "OPAL_AUTH_PRIVATE_KEY_PASSPHRASE": "hunter2"}, "the passphrase is wrong for this key"),
    "no passphrase": (lambda k, o: {"OPAL_AUTH_PRIVATE_KEY": k.private_bytes("pem", "x").decode()}, "the key is encrypted, and no passphrase is set"),
    "passphrase for nothing": (lambda k, o: {"OPAL_AUTH_PRIVATE_KEY_PASSPHRASE": "hunter2"}, "not encrypted, but a passphrase is set"),
    "hmac": (lambda k, o: {"OPAL_AUTH_JWT_ALGORITHM": "HS256"}, "OPAL_AUTH_JWT_ALGORITHM=HS256: must be an algorithm for a pair of keys"),
    "none": (lambda k, o: {"OPAL_AUTH_JWT_ALGORITHM": "none"}, "OPAL_AUTH_JWT_ALGORITHM=none: must be an algorithm for a pair of keys"),
    "curve": (lambda k, o: {"OPAL_AUTH_JWT_ALGORITHM": "ES256"}, "ES256 needs an elliptic curve key"),
    "file": (lambda k, o: {"OPAL_AUTH_PRIVATE_KEY": "/nonexistent/key"}, "there is no file /nonexistent/key"),
    "both": (lambda k, o: {"OPAL_AUTH_MASTER_TOKEN_FILE": "/dev/null"}, "OPAL_AUTH_MASTER_TOKEN and OPAL_AUTH_MASTER_TOKEN_FILE: must not both be set"),
    "folder": (lambda k, o: {"OPAL_AUTH_JWKS_STATIC_DIR": "/proc/nothing"}, "OPAL_AUTH_JWKS_STATIC_DIR: cannot make the folder /proc/nothing"),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_what_is_wrong_with_the_keys_stops_the_start(name, pairs, other):
    change, words = WRONG[name]
    status, out, err = run("run", "--port", "0", env={**pairs["rsa"].environment(), **change(pairs["rsa"], other)})
    assert status == 2, (out, err)
    lines = (out + err).strip().splitlines()
    assert len(lines) == 1 and words in lines[0], lines
    assert "hunter2" not in lines[0] and "PRIVATE KEY-----" not in lines[0]


ALGORITHMS = {"RS256": "rsa", "RS384": "rsa", "RS512": "rsa", "PS256": "rsa", "PS384": "rsa", "PS512": "rsa", "ES256": "p256", "ES256K": "k256", "ES384": "p384", "ES512": "p521",
              "ES521": "p521", "EdDSA": "ed25519", "EdDSA ": "ed448"}


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_algorithms(name, pairs, opald, work):
    """Each takes what PyJWT signs, and PyJWT takes what it signs; the JWK set is the reference's."""
    import jwt
    from opal_common.authentication.signer import JWTSigner
    from opal_common.authentication.types import JWTAlgorithm

    algorithm, pair = name.strip(), pairs[ALGORITHMS[name]]
    signer = JWTSigner(pair.private, pair.private.public_key(), JWTAlgorithm[algorithm], AUDIENCE, ISSUER)
    public_format = "pem" if name.strip() in ("EdDSA", "ES256K") else "ssh"
    server = opald(env={"OPAL_AUTH_PRIVATE_KEY": pair.private_bytes().decode(), "OPAL_AUTH_PUBLIC_KEY": pair.public_bytes(public_format).decode(),
                        "OPAL_AUTH_PUBLIC_KEY_FORMAT": public_format, "OPAL_AUTH_JWT_ALGORITHM": algorithm, "OPAL_AUTH_MASTER_TOKEN": MASTER,
                        "OPAL_AUTH_JWKS_STATIC_DIR": work / "deep" / "jwks", "OPAL_AUTH_JWKS_URL": "/keys/set.json"})
    for _ in range(8):  # ECDSA signatures have leading zeros now and then
        assert server.request("GET", "/data/config", headers=bearer(pair.token(algorithm=algorithm))).status == 200
        token = server.request("POST", "/token", json={}, headers=bearer(MASTER)).json()["token"]
        assert jwt.decode(token, pair.private.public_key(), algorithms=[algorithm], audience=AUDIENCE, issuer=ISSUER)["peer_type"] == "client"
        assert server.request("GET", "/data/config", headers=bearer(token)).status == 200
    stranger = KeyPair.make(ALGORITHMS[name])
    assert server.request("GET", "/data/config", headers=bearer(stranger.token(algorithm=algorithm))).status == 401
    wanted = json.dumps({"keys": [json.loads(signer.get_jwk())]})
    assert server.request("GET", "/keys/set.json").text == wanted
    assert (work / "deep" / "jwks" / "set.json").read_text() == wanted
    assert server.request("GET", "/.well-known/jwks.json").status == 404


# ---- secrets from files, /token without a master token

def test_secrets_from_files(pairs, opald, work):
    pair = pairs["rsa"]
    files = {"OPAL_AUTH_PRIVATE_KEY": pair.private_bytes("pem", "a b"), "OPAL_AUTH_PRIVATE_KEY_PASSPHRASE": b"a b\n", "OPAL_AUTH_PUBLIC_KEY": pair.public_bytes() + b"\n",
             "OPAL_AUTH_MASTER_TOKEN": MASTER.encode() + b"\n"}
    environment = {}
    for name, content in files.items():
        (work / name).write_bytes(content)
        environment[f"{name}_FILE"] = work / name
    server = opald(env=environment)
    assert server.request("POST", "/token", json={}, headers=bearer(MASTER)).status == 200
    assert server.request("POST", "/token", json={}, headers=bearer("x")).status == 401


def test_without_a_master_token_no_tokens(pairs, opald):
    environment = pairs["rsa"].environment(OPAL_AUTH_MASTER_TOKEN="")
    closed, opened = opald(env=environment), opald(env={**environment, "OPAL_AUTH_TOKEN_WITHOUT_MASTER": "true"})
    for headers in ({}, bearer(""), bearer("x")):
        answer = closed.request("POST", "/token", json={}, headers=headers)
        assert (answer.status, answer.json()) == (401, {"detail": {"error": "no master token is configured (OPAL_AUTH_MASTER_TOKEN): no tokens are given out"}})
        assert opened.request("POST", "/token", json={}, headers=headers).status == 200


# ---- websockets

@pytest.fixture(scope="module")
def secure(pairs, tmp_path_factory):
    from harness import Opald
    server = Opald(tmp_path_factory.mktemp("secure"), env=pairs["rsa"].environment(), workers=2)
    yield server
    assert server.stop() == 0 and not server.sanitizer_report()


async def test_permitted_topics_on_the_websocket(secure, pairs):
    async def main():
        token = pairs["rsa"].token(permitted_topics=["a", "p/q"])
        async with RawClient.open(secure.port, headers=bearer(token)) as client, RawClient.open(secure.port, headers=bearer(pairs["rsa"].token())) as free:
            assert await client.subscribe("a", "p/q") is True
            assert await free.subscribe("a", "b") is True
            # refused as a whole, and the connection lives
            assert await client.subscribe("b") is False
            assert await client.subscribe("a", "b") is False
            assert await client.subscribe("p") is False
            assert await client.publish("b", 1) is False
            assert await client.publish(["a", "b"], 1) is False
            assert await client.publish("b", 1, sync=False) is False
            assert await client.publish("a", "mine") is True
            assert await free.publish("a", "theirs") is True
            assert [n.data for n in await free.expect(1)] == ["mine"]
            assert [n.data for n in await client.expect(1)] == ["theirs"]
            # unsubscribing is never refused
            assert await client.unsubscribe("b") is True
            assert not client.is_closed
    await main()
    assert "subscribe of the client on port" in secure.log() and "not permit" in secure.log()


async def test_who_may_publish(pairs, opald):
    """OPAL_PUBLISH_PEER_TYPES: a client's token subscribes only; the topic webhook is reserved; each publish leaves a line."""
    server = opald(env=pairs["rsa"].environment(OPAL_PUBLISH_PEER_TYPES="datasource", OPAL_STATISTICS_ENABLED="true"))
    client_token, source_token = pairs["rsa"].token(peer_type="client"), pairs["rsa"].token(peer_type="datasource", permitted_topics=["a/*", "webhook"])
    async with RawClient.open(server.port, headers=bearer(client_token)) as client, RawClient.open(server.port, headers=bearer(source_token)) as source:
        assert await client.subscribe("a/b", "webhook") is True
        assert await client.publish("a/b", 1) is False
        assert await client.publish("a/b", 1, sync=False) is False
        assert await client.publish("__opal_stats_add", {"rpc_id": "r", "client_id": "c", "topics": ["a/b"]}) is True
        assert await source.publish("webhook", None) is False
        assert await source.publish(["a/b", "webhook"], None) is False
        assert await source.publish("b", 1) is False
        assert await source.publish("a/b", "theirs") is True
        assert [n.data for n in await client.expect(1)] == ["theirs"]
        port = source.local_port
    entry = {"entries": [{"url": "u", "topics": ["webhook"]}]}
    refused = server.request("POST", "/data/config", json=entry, headers=bearer(pairs["rsa"].token(peer_type="datasource")))
    assert (refused.status, refused.json()) == (401, {"detail": {"error": "Invalid 'topics' to publish {'webhook'}"}})
    assert re.search(rf"publish of the client on port {port}( of \S+)? to topics: {{'a/b'}}", server.log())
    assert len(re.findall(r"publish of the client on port .* to topics", server.log())) == 2  # the announcement too


def test_publish_peer_types_are_checked(pairs):
    check = lambda types: run("check-config", env=pairs["rsa"].environment(**types))
    status, out, err = check({"OPAL_PUBLISH_PEER_TYPES": "datasource,agent"})
    assert status == 2 and "OPAL_PUBLISH_PEER_TYPES: 'agent' must be one of client, datasource, listener" in out + err
    assert "recommended: OPAL_PUBLISH_PEER_TYPES=datasource" in check({})[1]
    assert "recommended" not in check({"OPAL_PUBLISH_PEER_TYPES": "datasource"})[1]


async def test_a_connection_ends_with_its_token(pairs, opald, secure):
    lasting = opald(env=pairs["rsa"].environment(OPAL_AUTH_CLOSE_EXPIRED="false"))

    async def main():
        now = time.time()
        clients = [await RawClient.connect(server.port, headers=bearer(pairs["rsa"].token(exp=int(now) + 3))) for server in (secure, lasting)]
        forever = await RawClient.connect(secure.port, headers=bearer(pairs["rsa"].token(drop=["exp"])))
        assert await clients[0].subscribe("a") is True
        assert await clients[0].wait_closed() == 1008
        assert clients[0].close_reason == "token expired"
        assert int(now) + 3 <= time.time() < int(now) + 3 + scaled(2)
        assert await clients[1].call("ping") == "pong" and await forever.call("ping") == "pong"
        for client in (*clients, forever):
            await client.close()
    await main()
    assert secure.request("GET", "/data/config", headers=bearer(pairs["rsa"].token(exp=int(time.time()) - 1))).status == 401


def test_a_cached_token_still_expires(secure, pairs):
    token = pairs["rsa"].token(exp=int(time.time()) + 2)
    statuses = []
    deadline = time.time() + scaled(10)
    while time.time() < deadline and (not statuses or statuses[-1] == 200):
        statuses.append(secure.request("GET", "/data/config", headers=bearer(token)).status)
        time.sleep(0.1)
    assert len(statuses) > 5 and statuses[-1] == 401


def test_one_token_on_many_workers_and_many_tokens(secure, pairs):
    """More tokens than the cache has room for, each asked for twice."""
    tokens = [pairs["rsa"].token() for _ in range(60)] + [pairs["rsa"].token()[:-4] + "AAAA" for _ in range(20)]
    connection = secure.connection()
    for _ in range(2):
        for i, token in enumerate(tokens):
            assert connection.request("GET", "/loadlimit", headers=bearer(token)).status == (200 if i < 60 else 401)
    connection.close()


# ---- the command line

def test_obtain_token(secure, pairs, work):
    import jwt
    url = f"http://127.0.0.1:{secure.port}"
    status, out, err = run("obtain-token", MASTER, "--server-url", url)
    assert (status, err) == (0, "") and out.count("\n") == 1
    status, out, err = run("obtain-token", "--server-url", url, "--type", "datasource", "--ttl", "5", "minutes", "--claims", '{"permitted_topics": ["a"], "x": "é"}', "--no-just-the-token",
                           env={"OPAL_MASTER_TOKEN": MASTER})
    reply = eval(out)  # a Python dict, as the reference prints it
    claims = jwt.decode(reply["token"], options={"verify_signature": False})
    assert (claims["peer_type"], claims["exp"] - claims["iat"], claims["permitted_topics"], claims["x"]) == ("datasource", 300, ["a"], "é")
    secret = work / "master-token"
    secret.write_text(MASTER + "\n")
    status, out, err = run("obtain-token", "--server-url", url, env={"OPAL_MASTER_TOKEN_FILE": secret, "OPAL_MASTER_TOKEN": ""})
    assert (status, err) == (0, "") and jwt.decode(out.strip(), options={"verify_signature": False})["peer_type"] == "client"
    assert run("obtain-token", "--server-url", url, MASTER, env={"OPAL_MASTER_TOKEN_FILE": "/none"})[0] == 0  # the argument wins
    for env, words in (({"OPAL_MASTER_TOKEN_FILE": "/none"}, "OPAL_MASTER_TOKEN_FILE='/none': must be a file that can be read"),
                       ({"OPAL_MASTER_TOKEN_FILE": secret, "OPAL_MASTER_TOKEN": MASTER}, "must not both be set"),
                       ({"OPAL_MASTER_TOKEN_FILE": "/dev/null"}, "MASTER_TOKEN is missing"), ({"OPAL_MASTER_TOKEN_FILE": "/dev/zero"}, "a text file of at most")):
        status, out, err = run("obtain-token", "--server-url", url, env=env)
        assert status == 2 and not out and words in err and MASTER not in err, (env, status, out, err)
    theirs = eval(opal_client_command("obtain-token", MASTER, "--server-url", url, "--type", "datasource", "--no-just-the-token").splitlines()[-1])
    assert list(reply) == list(theirs) and list(reply["details"]) == list(theirs["details"])
    for arguments, code, words in ((["wrong", "--server-url", url], 1, "401"), ([MASTER, "--server-url", "http://127.0.0.1:1"], 1, "cannot connect"),
                                   ([], 2, "MASTER_TOKEN is missing"), ([MASTER, "--type", "x"], 2, "--type=x"), ([MASTER, "--ttl", "5", "years"], 2, "weeks, days"),
                                   ([MASTER, "--claims", "{"], 2, "--claims"), ([MASTER, "--nope"], 2, "--nope"), ([MASTER, "--server-url", "ftp://x"], 2, "--server-url")):
        status, out, err = run("obtain-token", *arguments)
        assert status == code and not out and words in err and MASTER not in err, (arguments, status, out, err)


def test_generate_secret():
    import base64
    import re
    status, out, _ = run("generate-secret")
    assert status == 0 and len(base64.urlsafe_b64decode(out.strip() + "=")) == 32
    assert run("generate-secret")[1] != out
    assert re.fullmatch(r"[0-9a-f]{20}\n", run("generate-secret", "--size", "10", "--format", "hex")[1])
    for _ in range(5):
        text = run("generate-secret", "--format=bytes", "--size=300")[1].strip()
        assert len(eval(text)) == 300 and repr(eval(text)) == text
    assert run("generate-secret", "--size", "0") == (0, "\n", "")
    for arguments in (["--size", "-1"], ["--size", "x"], ["--format", "x"], ["--nope"], ["--size"]):
        assert run("generate-secret", *arguments)[0] == 2


def test_publish_data_update(secure, pairs, work):
    url = f"http://127.0.0.1:{secure.port}"
    arguments = ["--server-url", url, "--src-url", "http://x", "-t", "a"]
    for token, status, words in ((pairs["rsa"].token("datasource"), 0, "Event Published Successfully"), (pairs["rsa"].token(), 1, "status-code - 401"), (None, 1, "access token was not provided")):
        done = run("publish-data-update", *([token] if token else []), *arguments)
        assert done[0] == status and words in done[1], done
    assert run("publish-data-update", *arguments, env={"OPAL_CLIENT_TOKEN": pairs["rsa"].token("datasource")})[0] == 0
    (work / "token").write_text(pairs["rsa"].token("datasource") + "\n")
    assert run("publish-data-update", *arguments, env={"OPAL_CLIENT_TOKEN_FILE": work / "token"})[0] == 0
    status, out, err = run("publish-data-update", *arguments, env={"OPAL_CLIENT_TOKEN_FILE": "/none"})
    assert status == 2 and "OPAL_CLIENT_TOKEN_FILE='/none'" in err


def tls_listener(context: ssl.SSLContext, answer) -> socket.socket:
    """answer(socket) talks to each who comes in over TLS, one after the other, until the listener is closed."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(plain, server_side=True) as front:
                    answer(front)
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()
    return listener


def test_https(secure, pairs, work):
    """A TLS proxy before the server: the commands check its certificate."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost", "-keyout", work / "key.pem", "-out", work / "cert.pem"], check=True, stderr=subprocess.DEVNULL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(work / "cert.pem", work / "key.pem")

    def answer(front):
        with socket.create_connection(("127.0.0.1", secure.port)) as back:
            request = b""
            while b'"callbacks": []}}' not in request and b'"claims": {}}' not in request:
                request += front.recv(65536)
            back.sendall(request)
            while chunk := back.recv(65536):
                front.sendall(chunk)

    listener = tls_listener(context, answer)
    port = listener.getsockname()[1]
    trusted = {"SSL_CERT_FILE": work / "cert.pem"}
    status, token, err = run("obtain-token", MASTER, "--type", "datasource", "--server-url", f"https://localhost:{port}", env=trusted)
    assert status == 0, err
    assert run("publish-data-update", token.strip(), "--server-url", f"https://localhost:{port}", "--src-url", "http://x", "-t", "a", env=trusted)[0] == 0
    for url, env in ((f"https://localhost:{port}", {}), (f"https://127.0.0.1:{port}", trusted)):
        status, out, err = run("obtain-token", MASTER, "--server-url", url, env=env)
        assert status == 1 and not out and "certificate" in err, (out, err)
    status, out, err = run("obtain-token", MASTER, "--server-url", f"https://localhost:{secure.port}", env=trusted)
    assert status == 1 and not out and err, (out, err)
    listener.close()


def test_no_old_tls(work):
    """Where the system's OpenSSL allows TLS 1.1, the commands do not: a server that has nothing better is refused."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                    "-keyout", work / "old-key.pem", "-out", work / "old-cert.pem"], check=True, stderr=subprocess.DEVNULL)
    (work / "openssl.cnf").write_text("openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nMinProtocol = TLSv1\nCipherString = ALL:@SECLEVEL=0\n")

    def old(protocol):
        context = ssl.SSLContext(protocol)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        return context

    front, back = old(ssl.PROTOCOL_TLS_SERVER), old(ssl.PROTOCOL_TLS_CLIENT)
    front.load_cert_chain(work / "old-cert.pem", work / "old-key.pem")
    back.load_verify_locations(work / "old-cert.pem")
    spoken = []

    def answer(secure):
        spoken.append(secure.version())
        secure.recv(65536)
        secure.sendall(b'HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{"token": "abc"}')

    listener = tls_listener(front, answer)
    port = listener.getsockname()[1]
    with back.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost") as client:
        assert client.version() == "TLSv1.1"  # so there is something to refuse
        client.sendall(b"x")
        assert client.recv(10)
    status, out, err = run("obtain-token", MASTER, "--server-url", f"https://localhost:{port}", env={"SSL_CERT_FILE": work / "old-cert.pem", "OPENSSL_CONF": work / "openssl.cnf"})
    assert status == 1 and not out and "protocol" in err and spoken == ["TLSv1.1"], (out, err, spoken)
    listener.close()


# ---- the real client

@pytest.mark.limit(150)
def test_real_client(secure, pairs, opal_client, source):
    """opal-client with a client token that permits its topics; a data source with its own token; what it may not have it does not get."""
    base = source.serve("/base", {"seed": True})
    token = run("obtain-token", MASTER, "--server-url", f"http://127.0.0.1:{secure.port}", "--claims",
                json.dumps({"permitted_topics": ["policy_data", "policy_data/a", "policy:.", "other"]}))[1].strip()
    publisher = run("obtain-token", MASTER, "--server-url", f"http://127.0.0.1:{secure.port}", "--type", "datasource", "--claims", '{"permitted_topics": ["policy_data/a"]}')[1].strip()
    client = opal_client(secure.port, topics="policy_data", env={"OPAL_CLIENT_TOKEN": token}).wait_connected()
    update = {"entries": [{"url": base, "topics": ["policy_data/a"], "dst_path": "/got"}], "reason": "test"}
    assert secure.request("POST", "/data/config", json=update, headers=bearer(token)).status == 401  # a client may not
    assert secure.request("POST", "/data/config", json=update, headers=bearer(publisher)).status == 200
    client.wait_stored("got", {"seed": True})
    update["entries"][0]["topics"] = ["policy_data"]
    assert secure.request("POST", "/data/config", json=update, headers=bearer(publisher)).json() == {"detail": {"error": "Invalid 'topics' to publish {'policy_data'}"}}


async def test_a_client_with_a_bad_token_is_slowed_down(pairs, opald, opal_client):
    """It comes back a hundred times a second; a good one from the same address does not wait."""
    server = opald(env=pairs["rsa"].environment())
    client = opal_client(server.port, env={"OPAL_CLIENT_TOKEN": "THIS_IS_A_DEV_SECRET"})
    client.wait_until(lambda: refused(server) >= 11, 60, "refused handshakes")
    first, started = refused(server), time.monotonic()
    time.sleep(3)
    rate = (refused(server) - first) / (time.monotonic() - started)
    assert 0.5 < rate < 4, rate  # two connections, a second each
    async def main():
        started = time.monotonic()
        async with RawClient.open(server.port, headers=bearer(pairs["rsa"].token())) as good:
            assert await good.subscribe("a") is True
        assert time.monotonic() - started < scaled(0.8)
        # a stop does not wait for those that are held
    await main()
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < scaled(4)


def refused(server) -> int:
    import re
    return int(re.search(r"opald_websocket_handshakes_refused\S* (\d+)", server.request("GET", "/metrics").text)[1])


def test_a_late_worker_has_the_keys_of_the_others(pairs, other, opald, work):
    """The key files change under a running server: a worker that is replaced must not split it in two."""
    import os
    import signal
    pair = pairs["rsa"]
    (work / "private.pem").write_bytes(pair.private_bytes())
    (work / "public").write_bytes(pair.public_bytes())
    server = opald(workers=1, env={"OPAL_AUTH_PRIVATE_KEY": work / "private.pem", "OPAL_AUTH_PUBLIC_KEY": work / "public", "OPAL_AUTH_MASTER_TOKEN": MASTER})
    token = server.request("POST", "/token", json={}, headers=bearer(MASTER)).json()["token"]
    for files in ((other.private_bytes(), other.public_bytes()), (b"", b"")):
        (work / "private.pem").write_bytes(files[0])
        (work / "public").write_bytes(files[1])
        before = server.worker_pids()
        os.kill(before[0], signal.SIGKILL)
        server.wait_until(lambda: len(server.worker_pids()) == 1 and server.worker_pids() != before, 20, "another worker")
        assert server.request("GET", "/data/config", headers=bearer(token)).status == 200
        assert server.request("GET", "/data/config", headers=bearer(other.token())).status == 401
        fresh = server.request("POST", "/token", json={}, headers=bearer(MASTER)).json()["token"]
        assert server.request("GET", "/data/config", headers=bearer(fresh)).status == 200


@pytest.mark.parametrize("kind, algorithm", [("p256", "ES256"), ("ed25519", "EdDSA"), ("ed448", "EdDSA"), ("k256", "ES256K")])
def test_the_same_of_other_kinds(kind, algorithm, pairs, opald):
    import os
    import signal
    pair = pairs[kind]
    server = opald(workers=1, env={"OPAL_AUTH_PRIVATE_KEY": pair.private_bytes().decode(), "OPAL_AUTH_PUBLIC_KEY": pair.public_bytes("pem").decode(), "OPAL_AUTH_PUBLIC_KEY_FORMAT": "pem",
                                   "OPAL_AUTH_JWT_ALGORITHM": algorithm, "OPAL_AUTH_MASTER_TOKEN": MASTER})
    before = server.worker_pids()
    os.kill(before[0], signal.SIGKILL)
    server.wait_until(lambda: len(server.worker_pids()) == 1 and server.worker_pids() != before, 20, "another worker")
    token = server.request("POST", "/token", json={}, headers=bearer(MASTER)).json()["token"]
    assert server.request("GET", "/data/config", headers=bearer(token)).status == 200
