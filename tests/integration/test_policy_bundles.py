"""GET /policy of opald: the reference's answers, and what comes on top of them: one build for all, ETag, gzip, limits, bad days."""

import asyncio
import concurrent.futures
import gzip
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from harness import close_all, connect_many, expect_all, scaled
from harness.coroutines import run_to_end
from harness.http import http_request
from harness.policy_history import History
from harness.policy_repo import PolicyRepo
from harness.process import freeze, live_children, process_state, wait_until
from harness.servers import Opald, Reference

NOBODY = "0123456789012345678901234567890123456789"


def wait_bundle(server, hash: str, target: str = "/policy", seconds: float = 20):
    """Polls until the bundle is that commit's; returns the response."""
    def find():
        response = server.request("GET", target)
        return response if response.status == 200 and response.json()["hash"] == hash else None

    return server.wait_until(find, seconds, f"bundle of {hash[:12]}")


def look_now(server):
    """An event on the topic `webhook` makes the server look for changes."""
    assert server.publish("webhook").status == 200


def counter(server, name: str) -> int:
    return int(re.search(rf"^opald_{name}_total (\d+)$", server.request("GET", "/metrics").text, re.M).group(1))


def builder_pid(server, but: int = 0) -> int:
    """The live bundle builder, when it is there; not the one that was killed."""
    return server.wait_until(
        lambda: next((b for policy in server.policy_pids() for b in live_children(policy, "--as-bundle-builder") if b != but), None), 10, "bundle builder")


def builder_peak_kib(server) -> int:
    return int(re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{builder_pid(server)}/status").read_text(), re.M).group(1))


@pytest.fixture
def repo(work):
    return PolicyRepo(work / "repo", {"a/a.rego": "package a\n", "b/b.rego": "package b\n", "data.json": '{"k": 1}\n'})


@pytest.fixture
def follow(opald, work):
    """follow(repo, env={}, **Opald's): an opald that follows it, once it serves bundles."""
    def start(repo, env=None, **keywords):
        server = opald(env=repo.environment(work / "clone", **{"OPAL_POLICY_REPO_POLLING_INTERVAL": 0, **(env or {})}), **keywords)
        wait_bundle(server, repo.head)
        return server

    return start


# ---- the same as the reference's

@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Reference and opald on one generated history."""
    work = tmp_path_factory.mktemp("policy")
    history = History(work / "history", 4711, commits=8, files=40)
    environment = {"OPAL_POLICY_REPO_URL": history.path, "OPAL_POLICY_REPO_MAIN_BRANCH": "main", "OPAL_REPO_WATCHER_ENABLED": "true"}
    reference = Reference(work, env={**environment, "OPAL_POLICY_REPO_CLONE_PATH": work / "clone-reference"}, name="shared-reference")
    server = Opald(work, env={**environment, "OPAL_POLICY_REPO_CLONE_PATH": work / "clone"}, name="shared-opald")
    for each in (reference, server):
        wait_bundle(each, history.commits[-1], seconds=60)
    yield history, reference, server
    reference.kill()
    assert server.stop() == 0
    assert not server.sanitizer_report()


def queries(history) -> list:
    base = history.commits[2]
    return ["", "?path=.", "?path=", "?path=/", "?path=a", "?path=/a&path=users", "?path=a%2Fb", "?path=users/%C3%A9t%C3%A9", "?path=x+y", "?path=x%20y",
            "?path=nope", "?path=//a", "?path=..", "?path=a/../a", "?path=%FF", "?path=a&path=nope", "?base_hash=", f"?base_hash={base}",
            f"?base_hash={base}&path=a", f"?base_hash={base[:9]}", "?base_hash=HEAD", "?base_hash=HEAD~3", "?base_hash=main",
            f"?base_hash={NOBODY}&base_hash={history.commits[-1]}", f"?base_hash={history.commits[0]}&path=.&other=1&pathx", "?path", "?PATH=nope"]


@pytest.mark.sanitize
def test_answers_of_the_reference(pair):
    history, reference, server = pair
    for query in queries(history):
        theirs, ours = reference.request("GET", "/policy" + query), server.request("GET", "/policy" + query)
        assert (ours.status, ours.body) == (theirs.status, theirs.body), query
        extra = [name for name in ours.header_names() if name not in theirs.header_names()]
        assert extra == (["etag", "vary"] if ours.status == 200 else []), query
        assert [n for n in ours.header_names() if n not in extra] == theirs.header_names(), query
        assert ours.header("content-type") == theirs.header("content-type") == "application/json"
    for method in ("POST", "HEAD", "DELETE"):
        theirs, ours = reference.request(method, "/policy"), server.request(method, "/policy")
        assert (ours.status, ours.body, ours.header("allow")) == (theirs.status, theirs.body, theirs.header("allow"))


@pytest.mark.sanitize
def test_unknown_base_gives_a_full_bundle(pair):
    """The reference answers 500 unless the base has the form of a full hash."""
    history, reference, server = pair
    full = server.request("GET", "/policy").body
    for base in (NOBODY, "deadbeef", "zzzz", "%00", f"{history.commits[0]}%00", ":/x", "HEAD@{0}", "HEAD^{/x}", "../../etc/passwd", "--output=x", "%FF"):
        assert server.request("GET", f"/policy?base_hash={base}").body == full, base
    assert reference.request("GET", f"/policy?base_hash=deadbeef").status == 500
    assert reference.request("GET", f"/policy?base_hash={NOBODY}").body == full
    # one bundle however it is asked for
    assert counter(server, "bundles_built") < 25


@pytest.mark.sanitize
def test_several_missing_paths(pair):
    """The reference names the first of them; here it is one of them."""
    names = ("nope", "neither", "nor")
    response = pair[2].request("GET", "/policy?" + "&".join(f"path={name}" for name in ("a", *names)))
    assert response.status == 404
    assert response.json()["detail"] in [f"requested path {name} was not found in the policy repo!" for name in names]


@pytest.mark.sanitize
def test_etag_and_gzip(pair):
    _, _, server = pair
    plain = server.request("GET", "/policy")
    packed = server.request("GET", "/policy", headers={"accept-encoding": "gzip, deflate"})
    assert gzip.decompress(packed.body) == plain.body and len(packed.body) < len(plain.body)
    assert packed.header("content-encoding") == "gzip" and plain.header("content-encoding") is None
    assert plain.header("vary") == packed.header("vary") == "Accept-Encoding"
    tag, packed_tag = plain.header("etag"), packed.header("etag")
    assert re.fullmatch('"[0-9a-f]{32}"', tag) and packed_tag == tag[:-1] + '-gzip"'
    for encoding in ("identity", "br", "gzip;q=0", "xgzip"):
        assert server.request("GET", "/policy", headers={"accept-encoding": encoding}).body == plain.body
    for value in (tag, packed_tag, "W/" + tag, f'"x", {tag}', "*"):
        response = server.request("GET", "/policy", headers={"if-none-match": value})
        assert (response.status, response.body, response.header("etag")) == (304, b"", tag), value
        assert response.header("content-length") is None
    for value in ('"x"', tag[:-2] + '"', tag.strip('"'), '"', tag[:-1] + '-gzipx"'):
        assert server.request("GET", "/policy", headers={"if-none-match": value}).status == 200, value
    assert server.request("GET", "/policy?path=a").header("etag") != tag
    with server.connection() as connection:  # goes on after each kind of reply
        for headers in ({"if-none-match": tag}, {}, {"accept-encoding": "gzip"}, {"if-none-match": tag}):
            assert connection.request("GET", "/policy", headers=headers).status in (200, 304)


@pytest.mark.sanitize
def test_pipelined_requests(pair):
    """Answered in order, whatever is held and what has to be built."""
    history, _, server = pair
    targets = ["/policy?path=rbac", "/healthcheck", f"/policy?path=rbac&base_hash={history.commits[1]}", "/policy", "/policy?path=nope", "/policy"]
    with server.connection() as connection:
        connection.send(b"".join(f"GET {t} HTTP/1.1\r\nhost: x\r\n\r\n".encode() for t in targets))
        got = [connection.read_response() for _ in targets]
    assert [r.status for r in got] == [200, 200, 200, 200, 404, 200]
    assert got[3].body == got[5].body and got[2].json()["old_hash"] == history.commits[1]


# ---- commits

@pytest.mark.limit(90)
async def test_never_an_old_bundle_after_the_event(follow, repo):
    """Who asks because of the event gets the new commit, on any worker, also where the old bundle was held."""
    server = follow(repo, workers=3)

    clients = await connect_many(server.port, 12, "policy:.")
    for number in range(8):
        old = repo.head
        for _ in range(6):  # every worker holds both
            assert server.request("GET", "/policy").json()["hash"] == old
        new = repo.commit({f"n{number}.rego": f"package n{number}\n"})
        look_now(server)
        await expect_all(clients, number + 1)
        for _ in range(6):
            assert server.request("GET", f"/policy?base_hash={old}").json()["hash"] == new
            assert server.request("GET", "/policy").json()["hash"] == new
    await close_all(clients)


def test_head_before_requests(follow, repo):
    """A worker that finds a request and the news of a commit at the same time answers with the new commit, though it holds the old bundle."""
    server = follow(repo, env={"OPAL_POLICY_REPO_POLLING_INTERVAL": 1})
    with server.connection() as connection:
        assert connection.request("GET", "/policy").json()["hash"] == repo.head
        worker = server.worker_pids()[0]
        freeze(worker)
        connection.send(b"GET /policy HTTP/1.1\r\nhost: x\r\n\r\n")  # readable before the link is
        time.sleep(0.1)
        repo.commit({"n.rego": "package n\n"})
        server.wait_for_log(f"Found new commits: .* new HEAD is '{repo.head}'")
        time.sleep(0.2)
        os.kill(worker, signal.SIGCONT)
        assert connection.read_response().json()["hash"] == repo.head


def ask_all_at_once(port: int, count: int, target: str) -> list:
    """Opens all connections first, then sends all requests; the bodies' lengths and statuses."""
    request = f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()

    async def go():
        connections = []
        for _ in range(count):
            connections.append(await asyncio.open_connection("127.0.0.1", port))
        for _, writer in connections:
            writer.write(request)
        replies = await asyncio.gather(*(reader.read() for reader, _ in connections))
        for _, writer in connections:
            writer.close()
        return [reply.partition(b"\r\n\r\n") for reply in replies]

    return run_to_end(asyncio.wait_for(go(), scaled(60)))


def test_built_once_for_a_thousand_clients(follow, repo):
    server = follow(repo, workers=2)
    old = repo.head
    new = repo.commit({f"many/f{i}.rego": f"package many.f{i}\n" * 50 for i in range(300)})
    look_now(server)
    wait_bundle(server, new)
    before = counter(server, "bundles_built")
    replies = ask_all_at_once(server.port, 1000, f"/policy?path=.&base_hash={old}")
    assert len(replies) == 1000 and all(head.startswith(b"HTTP/1.1 200 ") for head, _, _ in replies)
    assert len({body for _, _, body in replies}) == 1 and json.loads(replies[0][2])["old_hash"] == old
    assert counter(server, "bundles_built") == before + 1


def test_unknown_bases_harm_nobody(follow, work):
    """Requests with bases that no repository has share the full bundle: it is built once and stays in the worker's memory."""
    repo = PolicyRepo(work / "repo", {f"d{i % 50}/f{i}.rego": f"package p{i}\n" + "# x" * 300 for i in range(1000)})
    full = 2 << 20  # bytes: more than JSON and gzip have
    server = follow(repo, {"OPAL_BUNDLE_CACHE_BYTES": 8 * full})  # a worker holds a quarter of it
    server.request("GET", "/policy")
    built, shared = counter(server, "bundles_built"), counter(server, "bundle_answers_shared")
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        junk = [pool.submit(http_request, server.port, "GET", f"/policy?base_hash={i:040x}", timeout=scaled(60)) for i in range(150)]
        assert all(future.result().json()["old_hash"] is None for future in junk)
    assert counter(server, "bundles_built") == built
    asked = counter(server, "bundle_answers_shared")
    assert asked <= shared + 150
    assert server.request("GET", "/policy").status == 200
    assert counter(server, "bundle_answers_shared") == asked, "the worker has lost the full bundle"


def test_force_push_and_merge(follow, repo):
    server = follow(repo)
    first = repo.head
    taken_back = repo.commit({"bad.rego": "package bad\n"})
    look_now(server)
    wait_bundle(server, taken_back)
    repo.reset(first)
    pushed = repo.commit({"good.rego": "package good\n"})
    look_now(server)
    bundle = wait_bundle(server, pushed, f"/policy?base_hash={taken_back}").json()
    assert bundle["manifest"] == ["good.rego"] and bundle["deleted_files"] == {"data_modules": [], "policy_modules": ["bad.rego"]}
    merged = repo.merge({"side.rego": "package side\n"})
    look_now(server)
    assert wait_bundle(server, merged, f"/policy?base_hash={pushed}").json()["manifest"] == ["side.rego"]


# ---- what is refused, what is bad

@pytest.mark.sanitize
def test_limits(follow, repo):
    server = follow(repo, env={"OPAL_BUNDLE_PATHS_MAX": 3, "OPAL_BUNDLE_PATH_MAX_BYTES": 100, "OPAL_BUNDLE_MAX_BYTES": "8k"})
    wide = follow(repo, env={"OPAL_HTTP_HEADER_MAX_BYTES": "1m", "OPAL_POLICY_REPO_CLONE_FOLDER_PREFIX": "wide"}, name="wide")
    many = "/policy?" + "&".join(["path=" + "y" * 4000] * 40)
    assert wide.request("GET", many).json() == {"detail": "the paths are longer than 131072 bytes together"}
    assert wide.request("GET", many[:4009 * 20]).status == 404
    assert server.request("GET", "/policy?" + "&".join(["path=a"] * 3)).status == 200
    refused = server.request("GET", "/policy?" + "&".join(["path=a"] * 4))
    assert (refused.status, refused.json()) == (422, {"detail": "more than 3 paths are asked for"})
    for name in ("path", "base_hash"):
        assert server.request("GET", f"/policy?{name}=" + "x" * 101).json() == {"detail": "path or base_hash is longer than 100 bytes"}
    assert server.request("GET", "/policy?path=" + "x" * 100).status == 404
    repo.commit({"big/big.rego": b"# " + b"x" * 9000 + b"\n"})
    look_now(server)
    wait_until(lambda: server.request("GET", "/policy").status == 500, 20, "a bundle that is too large")
    assert server.request("GET", "/policy").json() == {"detail": "policy bundle is larger than 8192 bytes"}
    assert server.request("GET", "/policy?path=a").json()["hash"] == repo.head
    assert counter(server, "bundle_builds_failed") >= 2 and counter(server, "http_requests_refused") == 3


def test_a_huge_manifest(follow, repo):
    """It is refused by its size, before it is inflated; so are manifests that are too large together. The builder goes on."""
    server = follow(repo, env={"OPAL_BUNDLE_MAX_BYTES": "1m"})
    good = repo.commit({".manifest": "b\na\n"})
    look_now(server)
    wait_bundle(server, good)
    half = b"nothing.rego\n" * 50_000
    for files in ({".manifest": bytes(64 * 1024 * 1024)}, {".manifest": b"b\n" + half, "b/.manifest": half}):
        repo.commit(files)
        look_now(server)
        before = counter(server, "bundle_builds_failed")
        server.wait_until(lambda: server.request("GET", "/policy").status == 500, 20, "a bundle of the new commit")
        assert server.request("GET", "/policy?path=a").json() == {"detail": "the policy manifests are larger than 1048576 bytes"}
        assert counter(server, "bundle_builds_failed") >= before + 2
    assert builder_peak_kib(server) < 48 * 1024
    server.wait_for_log("The manifest file '.manifest' is too large")
    assert len(re.findall("The manifest file .* is too large", server.log())) < 3  # however many ask
    fixed = repo.commit({".manifest": "b/b.rego\n", "b/.manifest": None})
    look_now(server)
    assert wait_bundle(server, fixed).json()["manifest"] == ["b/b.rego", "data.json", "a/a.rego"]


def test_a_base_that_is_a_huge_file(follow, repo):
    """It is seen to be none without being inflated, however it is spelled; a full bundle is given."""
    repo.commit({"huge.bin": bytes(64 * 1024 * 1024)})
    server = follow(repo)
    full = server.request("GET", "/policy").body
    blob = repo.git("rev-parse", "HEAD:huge.bin")
    for base in (blob, blob[:12], blob.upper(), f"{blob}^0", f"{blob}~1", f"{blob[:9]}^^"):
        assert server.request("GET", f"/policy?base_hash={base}").body == full, base
    for base in (repo.head, repo.head[:12], f"{repo.head}~1"):
        assert server.request("GET", f"/policy?base_hash={base}").status == 200
    assert server.request("GET", f"/policy?base_hash={repo.head[:12]}~1").json()["old_hash"] == repo.git("rev-parse", "HEAD~1")
    assert builder_peak_kib(server) < 48 * 1024


@pytest.mark.sanitize
def test_files_that_are_not_utf8(follow, repo):
    server = follow(repo)
    repo.commit({"latin.rego": "package latin # ü\n".encode("latin-1"), "b/ok.rego": "package ok # ü\n"})
    look_now(server)
    bundle = wait_bundle(server, repo.head).json()
    regos = {m["path"]: m["rego"] for m in bundle["policy_modules"]}
    assert regos["latin.rego"] == "package latin # \ufffd\n" and regos["b/ok.rego"] == "package ok # ü\n"
    assert counter(server, "bundle_files_not_utf8") == 1
    server.wait_for_log("latin.rego at [0-9a-f]{40} is not UTF-8")


@pytest.mark.sanitize
def test_without_a_clone(opald, work):
    server = opald(env={"OPAL_POLICY_REPO_URL": work / "nowhere", "OPAL_POLICY_REPO_CLONE_PATH": work / "clone"})
    response = server.request("GET", "/policy?path=a&base_hash=HEAD")
    assert (response.status, response.json()) == (503, {"detail": "policy repo was not found"})
    plain = opald(name="plain")  # no repository at all
    assert plain.request("GET", "/policy").json() == {"detail": "policy repo was not found"}


def test_readers_that_stand_still(follow, repo):
    """Forty clients that never read a 10 MB bundle: they cost the worker no memory of its own, others are served, and they are cut off."""
    server = follow(repo, env={"OPAL_CLIENT_QUEUE_MAX_SECONDS": 2})
    repo.commit({f"big/f{i}.rego": b"package big\n" + os.urandom(500_000).hex().encode() for i in range(10)})
    look_now(server)
    full = wait_bundle(server, repo.head)
    assert len(full.body) > 10_000_000
    worker = server.worker_pids()[0]

    def private_kib() -> int:
        return int(re.search(r"^Anonymous:\s+(\d+) kB", Path(f"/proc/{worker}/smaps_rollup").read_text(), re.M).group(1))

    before = private_kib()
    stuck = [server.connection(receive_buffer=4096) for _ in range(40)]
    for connection in stuck:
        connection.send(b"GET /policy HTTP/1.1\r\nhost: x\r\n\r\n")
    wait_until(lambda: counter(server, "bundle_requests") >= 42, 10, "requests")
    assert server.request("GET", "/policy").body == full.body
    assert private_kib() - before < 8192
    gauge = re.compile(r"^opald_connections (\d+)$", re.M)
    wait_until(lambda: int(gauge.search(server.request("GET", "/metrics").text).group(1)) <= 1, 20, "the end of those who don't read")
    for connection in stuck:
        with pytest.raises((EOFError, OSError)):
            connection.read_response()
        connection.close()


@pytest.mark.limit(60)
def test_deaths_of_builder_and_policy_process(follow, repo):
    server = follow(repo)
    pid = builder_pid(server)
    os.kill(pid, signal.SIGKILL)  # idle: the next question starts another one
    wait_until(lambda: process_state(pid) in ("", "Z"), 5, "its end")
    assert server.request("GET", "/policy?path=a").status == 200
    pid = builder_pid(server, but=pid)
    freeze(pid)  # at work: it dies with a question unanswered, another one answers it
    with server.connection() as connection:
        connection.send(b"GET /policy?path=b HTTP/1.1\r\nhost: x\r\n\r\n")
        time.sleep(0.3)
        os.kill(pid, signal.SIGKILL)
        assert connection.read_response().status == 200
    assert counter(server, "bundle_builders_died") in (1, 2)  # two when the first one was given a question before its end was noticed
    [old] = server.policy_pids()
    freeze(old)  # what a worker holds is served without it; what it does not hold waits for the next one
    assert server.request("GET", "/policy?path=b").status == 200
    with server.connection(timeout=40) as connection:
        connection.send(b"GET /policy?path=a&path=b HTTP/1.1\r\nhost: x\r\n\r\n")
        time.sleep(0.3)
        os.kill(old, signal.SIGKILL)
        response = connection.read_response()
    assert response.status == 200 and response.json()["hash"] == repo.head
    assert old not in server.policy_pids()


def test_a_builder_that_hangs(follow, repo):
    server = follow(repo, env={"OPAL_BUNDLE_BUILD_SECONDS": 1})
    pid = builder_pid(server)
    freeze(pid)
    started = time.monotonic()
    response = server.request("GET", "/policy?path=a", timeout=20)
    assert response.status == 503 and time.monotonic() - started < scaled(6)
    assert response.json() == {"detail": "the policy bundle was not built in time, retry shortly"}
    assert not Path(f"/proc/{pid}").exists() or wait_until(lambda: not Path(f"/proc/{pid}").exists(), 5, "end of the builder")
    assert server.request("GET", "/policy?path=a").status == 200
    assert counter(server, "bundle_requests_refused") == 1


@pytest.mark.parametrize("extensions", ['[".rego",".json"]', "rego,json", "*.rego, .json"])
def test_extensions_in_other_spellings(opald, work, extensions):
    """A chart's JSON list, or extensions without their dots: an empty bundle in silence before."""
    repo = PolicyRepo(work / "repo")
    server = opald(env={**repo.environment(work / "clones"), "OPAL_FILTER_FILE_EXTENSIONS": extensions})
    server.wait_for_log("Clone succeeded", 20)
    assert server.request("GET", "/policy").json()["manifest"] == ["data.json", "a/a.rego"]


def test_a_bundle_that_filters_leave_empty(opald, work):
    repo = PolicyRepo(work / "repo")
    server = opald(env={**repo.environment(work / "clones"), "OPAL_FILTER_FILE_EXTENSIONS": ".cedar"})
    server.wait_for_log("Clone succeeded", 20)
    assert server.request("GET", "/policy").json()["manifest"] == []
    server.wait_for_log(r"WARNING.*The policy bundle of .* is empty: 0 of the repository's 2 files are in it. OPAL_FILTER_FILE_EXTENSIONS=.cedar")
