"""Policies from a server of bundles (OPAL_POLICY_SOURCE_TYPE=API), beside the reference where it can be."""

import asyncio
import hashlib
import hmac
import io
import subprocess
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness import RawClient, git

TOPICS = ["policy:.", "policy:a", "policy:a/b", "policy:users", "policy:été"]
FIRST = {"a/q.rego": b"package a.q\n", "users/z.rego": b"package users.z\n", "data.json": b"{}\n"}


def archive(files: dict, extra=()) -> bytes:
    """A tar.gz of files; `extra` are TarInfo objects (with their content, or None) put behind them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info, content in extra:
            info.size = len(content or b"")
            tar.addfile(info, io.BytesIO(content) if content else None)
    return out.getvalue()


def member(name: str, kind=tarfile.REGTYPE, link: str = ""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


class BundleServer:
    """Serves `body` as /base/bundle.tar.gz. `seen` are the headers of each request; `check(handler)` may refuse one by returning a status."""

    def __init__(self, body: bytes, etag: bool = True):
        outer = self
        self.body, self.etag, self.status, self.check = body, etag, 200, None
        self.seen: list = []

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                outer.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                status = outer.check(self) if outer.check else None
                body, tag = outer.body, f'"{hashlib.md5(outer.body).hexdigest()}"'
                if self.path != "/base/bundle.tar.gz":
                    status = 404
                status = status or outer.status
                if status == 200 and outer.etag and self.headers.get("If-None-Match") == tag:
                    status = 304
                self.send_response(status)
                if outer.etag:
                    self.send_header("ETag", tag)
                self.send_header("Content-Length", str(len(body)) if status == 200 else "0")
                self.end_headers()
                if status == 200:
                    self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.host}/base"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def bundles():
    server = BundleServer(archive(FIRST))
    yield server
    server.close()


def api_env(work: Path, url: str, **more) -> dict:
    return {"OPAL_REPO_WATCHER_ENABLED": "true", "OPAL_POLICY_SOURCE_TYPE": "API", "OPAL_POLICY_BUNDLE_URL": url,
            "OPAL_POLICY_BUNDLE_TMP_PATH": str(work / "bundle.tar.gz"), "OPAL_POLICY_REPO_CLONE_PATH": str(work / "clones"),
            **{f"OPAL_{k}": str(v) for k, v in more.items()}}


def clone_of(work: Path) -> Path:
    (clone,) = (work / "clones").glob("opal_repo_clone*")
    return clone


def trigger(server):
    return server.request("POST", "/webhook", json={"anything": 1})


def listing(clone: Path) -> set:
    return set(git(clone, "-c", "core.quotePath=false", "ls-tree", "-r", "--name-only", "refs/heads/master").splitlines())


@pytest.mark.limit(120)
async def test_updates_are_those_of_the_reference(opald, reference, bundles, work):
    ours = opald(env=api_env(work / "ours", bundles.url, POLICY_BUNDLE_SERVER_TOKEN="t0ken"))
    theirs = reference(env=api_env(work / "theirs", bundles.url, POLICY_BUNDLE_SERVER_TOKEN="t0ken"))
    ours.wait_until(lambda: (work / "ours/clones").exists() and list((work / "ours/clones").glob("opal_repo_clone*")), 10, "the repository")
    theirs.wait_until(lambda: list((work / "theirs/clones").glob("opal_repo_clone*/.git/refs/heads/*")), 30, "the reference's repository")
    assert listing(clone_of(work / "ours")) == set(FIRST)

    async with RawClient.open(ours.port) as mine, RawClient.open(theirs.port) as other:
        for client in (mine, other):
            assert await client.subscribe(*TOPICS) is True
        for files in ({**FIRST, "a/b/n.rego": b"package n\n"}, {**FIRST, "a/b/n.rego": b"package n2\n", "users/z.rego": b"package z2\n", "\u00e9t\u00e9/x.rego": b"package x\n"}):
            before = [len(c.notifies) for c in (mine, other)]
            bundles.body = archive(files)
            for server, client, count in ((ours, mine, before[0]), (theirs, other, before[1])):
                answer = await asyncio.to_thread(trigger, server)
                assert answer.json() == {"status": "ok", "event": "webhook_trigger", "repo_url": bundles.url}
                await client.until(lambda c, n=count: any(x.topic == "policy:a/b" for x in c.notifies[n:]), 20, "the change")
            await asyncio.sleep(0.1)
            got = [[(n.topic, n.data["changed_directories"]) for n in c.notifies[b:]] for c, b in ((mine, before[0]), (other, before[1]))]
            assert got[0] == got[1]
        clone = clone_of(work / "ours")
        await asyncio.to_thread(ours.wait_until, lambda: git(clone, "rev-parse", "master") == mine.notifies[-1].data["new_policy_hash"], 5, "the branch")
        assert mine.notifies[0].data["old_policy_hash"] == git(clone, "rev-parse", "master~2")
    own, others = [[h for _, h in bundles.seen if ("opald" in h.get("user-agent", "")) == mine] for mine in (True, False)]
    for name in ("content-type", "authorization", "etag", "if-none-match"):
        assert [h.get(name) for h in own[:2]] == [h.get(name) for h in others[:2]], name
    assert own[0]["authorization"] == "Bearer t0ken" and "t0ken" not in ours.log()


async def test_what_was_deleted_goes_and_the_same_is_not_new(opald, bundles, work):
    """The reference keeps deleted files for ever; 304, the same ETag, the same files in another archive and the same bytes without an ETag are no news."""
    server = opald(env=api_env(work, bundles.url))
    server.wait_until(lambda: bundles.seen and list((work / "clones").glob("opal_repo_clone*")), 10, "the repository")

    async with RawClient.open(server.port) as client:
        await client.subscribe(*TOPICS)
        bundles.body = archive({k: v for k, v in FIRST.items() if k != "users/z.rego"})
        await asyncio.to_thread(trigger, server)
        (data, *_) = [n.data for n in await client.expect(2)]
        assert data["changed_directories"] == [".", "users"]
        await asyncio.to_thread(server.wait_until, lambda: listing(clone_of(work)) == {"a/q.rego", "data.json"}, 5, "the branch")
        for change in ("304", "same files", "no etag", "same bytes"):
            if change == "same files":
                bundles.body = archive({**{k: v for k, v in FIRST.items() if k != "users/z.rego"}}, [(member("./"), None)])
            if change == "no etag":
                bundles.etag = False
            requests = len(bundles.seen)
            lines = server.log().count("No new version")
            await asyncio.to_thread(trigger, server)
            await asyncio.to_thread(server.wait_until, lambda: len(bundles.seen) > requests and server.log().count("No new version") > lines, 10, change)
        await client.barrier()
        assert len(client.notifies) == 2
    # and after a restart it is served at once, and not new either
    server.stop()
    bundles.status = 500
    server = opald(env=api_env(work, bundles.url))
    server.wait_for_log("Failed to update policy from remote API bundle server: .*status 500; trying again in 5 s")
    assert git(clone_of(work), "rev-list", "--count", "master") == "2"
    assert not (work / "bundle.tar.gz").exists()  # OPAL_POLICY_BUNDLE_TMP_PATH: the reference's place for it


def test_a_server_that_is_away_and_comes_back(opald, bundles, work):
    bundles.status = 404
    server = opald(env=api_env(work, bundles.url))
    server.wait_for_log("Failed to load initial policy from remote API bundle server: .*requested url not found")
    assert server.request("GET", "/policy").status == 503
    assert server.publish("t").status == 200
    bundles.status = 200
    server.wait_until(lambda: list((work / "clones").glob("opal_repo_clone*")), 15, "the repository")
    server.wait_until(lambda: not list((work / "clones").glob(".opald*")), 5, "nothing left behind")


BAD = {
    "absolute": ([(member("/etc/x.rego"), b"x")], "absolute path"),
    "parent": ([(member("a/../../x.rego"), b"x")], "not allowed"),
    "git": ([(member(".git/config"), b"x")], "not allowed"),
    "git below": ([(member("a/.GIT/hooks/post-checkout"), b"x")], "not allowed"),
    "symbolic link": ([(member("a/l", tarfile.SYMTYPE, "../../etc/passwd"), None)], "leads out"),
    "absolute link": ([(member("a/l", tarfile.SYMTYPE, "/etc/passwd"), None)], "leads out"),
    "hard link": ([(member("a/l", tarfile.LNKTYPE, "../etc/passwd"), None)], "leads out"),
    "hard link to nothing": ([(member("a/l", tarfile.LNKTYPE, "nowhere"), None)], "not in it"),
    "hard link to a link": ([(member("d/e/l", tarfile.SYMTYPE, "../../x"), None), (member("l", tarfile.LNKTYPE, "d/e/l"), None)], "leads out"),
    "device": ([(member("a/d", tarfile.CHRTYPE), None)], "neither file nor folder"),
    "fifo": ([(member("a/f", tarfile.FIFOTYPE), None)], "neither file nor folder"),
    "bomb": ([(member("a/big.rego"), b"\0" * 3_000_000)], "OPAL_POLICY_BUNDLE_UNPACKED_MAX_BYTES"),
    "members": ([(member(f"m/{i}.rego"), b"x") for i in range(60)], "OPAL_POLICY_BUNDLE_MAX_FILES"),
}


def test_archives_that_are_refused(opald, bundles, work):
    """Whole, with a reason, and what was served still is."""
    limits = dict(POLICY_BUNDLE_UNPACKED_MAX_BYTES="1m", POLICY_BUNDLE_MAX_FILES=50, POLICY_BUNDLE_MAX_BYTES="100k")
    server = opald(env=api_env(work, bundles.url, **limits))
    server.wait_until(lambda: list((work / "clones").glob("opal_repo_clone*")), 10, "the repository")
    # each starts a server of its own on the folder that is there: five seconds are too long to wait for each
    for name, bad in {**BAD, "empty": (None, "No files in bundle"), "no archive": (b"hello", "damaged|no tar.gz"), "cut off": (archive(FIRST)[:60], "damaged|no tar.gz"),
                      "too large": (b"\0" * 200_000, "OPAL_POLICY_BUNDLE_MAX_BYTES")}.items():
        extra, said = bad
        bundles.body = extra if isinstance(extra, bytes) else archive({}) if extra is None else archive(FIRST, extra)
        server.stop()
        server = opald(env=api_env(work, bundles.url, **limits), name=f"opald-{name.replace(' ', '-')}")
        server.wait_for_log(f"Failed to update policy from remote API bundle server: .*({said})", 10)
        assert git(clone_of(work), "rev-list", "--count", "master") == "1"
    assert not (work / "x.rego").exists()


def test_links_within_and_patterns(opald, work):
    server = BundleServer(archive({**FIRST, "notes.txt": b"n"}, [(member("a/in", tarfile.SYMTYPE, "../users/z.rego"), None), (member("a/same.rego", tarfile.LNKTYPE, "a/q.rego"), None)]))
    ours = opald(env=api_env(work, server.url, POLICY_BUNDLE_GIT_ADD_PATTERN="a/*"))
    ours.wait_until(lambda: list((work / "clones").glob("opal_repo_clone*")), 10, "the repository")
    assert listing(clone_of(work)) == {"a/q.rego", "a/in", "a/same.rego"}
    server.close()


def sigv4_is_right(handler, secret: str, region: str) -> bool:
    """The service's side of Signature Version 4, for whatever headers were signed."""
    fields = dict(part.strip().split("=", 1) for part in handler.headers["Authorization"].removeprefix("AWS4-HMAC-SHA256 ").split(","))
    key_id, date, got_region, service, end = fields["Credential"].split("/")
    names = fields["SignedHeaders"].split(";")
    assert (key_id, got_region, service, end) == ("KEYID", region, "s3", "aws4_request") and "host" in names and "x-amz-date" in names
    payload = handler.headers["x-amz-content-sha256"] or hashlib.sha256(b"").hexdigest()
    canonical = "\n".join(["GET", handler.path, "", *[f"{n}:{handler.headers[n].strip()}" for n in names], "", ";".join(names), payload])
    scope = f"{date}/{region}/s3/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{handler.headers['x-amz-date']}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = ("AWS4" + secret).encode()
    for part in (date, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest() == fields["Signature"]


@pytest.mark.limit(120)
def test_s3_signature(opald, reference, bundles, work):
    """The same check passes the reference's request and ours."""
    results = []

    def check(handler):
        right = sigv4_is_right(handler, "s3cr3t/key+", "eu-west-2") and handler.headers["x-amz-content-sha256"] is not None
        results.append(right)
        return None if right else 403
    bundles.check = check
    env = dict(POLICY_BUNDLE_SERVER_TYPE="AWS-S3", POLICY_BUNDLE_SERVER_TOKEN_ID="KEYID", POLICY_BUNDLE_SERVER_TOKEN="s3cr3t/key+",
               POLICY_BUNDLE_SERVER_AWS_REGION="eu-west-2")
    server = opald(env=api_env(work / "ours", bundles.url, **env))
    server.wait_until(lambda: results, 10, "a request")
    server.wait_until(lambda: list((work / "ours/clones").glob("opal_repo_clone*")), 10, "the repository")
    reference(env=api_env(work / "theirs", bundles.url, **env)).wait_until(lambda: len(results) >= 2, 20, "the reference's")
    assert all(results[:2])
