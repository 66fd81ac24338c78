"""The real opal-client and its OPA follow a policy repository through opald."""

import json
import re
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from harness import scaled
from harness.http import http_request
from harness.policy_repo import PolicyRepo
from test_policy_bundles import builder_pid, counter, look_now, wait_bundle


def policies(client) -> set:
    """The ids of OPA's policies, which are their paths in the repository."""
    listed = json.loads(http_request(client.opa_port, "GET", "/v1/policies").body)["result"]
    return {urllib.parse.unquote(policy["id"]) for policy in listed}


def wait_policies(client, expected: set, seconds: float = 20):
    return client.wait_until(lambda: policies(client) == expected, seconds, f"policies {expected}")


@pytest.fixture
def following(opald, opal_client, work):
    """(repository, server, client with its OPA) once the client has the first bundle."""
    repo = PolicyRepo(work / "repo", {
        "base.rego": "package base\nvalue = 1\n", "app/app.rego": "package app\nallow { data.base.value == 1 }\n",
        "users/data.json": '{"alice": "admin"}\n', "other.json": "{}\n", ".manifest": "base.rego\napp\n", "app/.manifest": "app.rego\n"})
    server = opald(env=repo.environment(work / "clone"), workers=2)
    wait_bundle(server, repo.head)
    client = opal_client(server.port, env={"OPAL_OPA_HEALTH_CHECK_POLICY_ENABLED": "false"})
    client.wait_connected()
    wait_policies(client, {"base.rego", "app/app.rego"})
    return repo, server, client


@pytest.mark.limit(150)
def test_follows_commits(following):
    repo, server, client = following
    assert client.stored("users") == {"alice": "admin"} and client.stored("app/allow") is True

    def push(expected: set):
        look_now(server)
        wait_policies(client, expected)

    have = {"base.rego", "app/app.rego"}
    repo.commit({"app/más.rego": "package mas\nñ = \"日本\"\n".replace("ñ", "n"), "日本/規則.rego": "package kisoku\nx = 2\n"})  # add, non-ASCII
    push(have := have | {"app/más.rego", "日本/規則.rego"})
    assert client.stored("mas/n") == "日本" and client.stored("kisoku/x") == 2

    repo.commit({"base.rego": "package base\nvalue = 2\n", "users/data.json": '{"alice": "viewer", "bob": 1.50}\n'})  # change, data too
    push(have)
    client.wait_stored("base/value", 2)
    client.wait_stored("users", {"alice": "viewer", "bob": 1.5})

    repo.rename("app/app.rego", "app/renamed.rego")
    push(have := have - {"app/app.rego"} | {"app/renamed.rego"})

    repo.commit({"日本/規則.rego": None, "users/data.json": None})  # delete
    push(have := have - {"日本/規則.rego"})
    client.wait_until(lambda: not client.stored("users"), 20, "data gone from OPA")

    repo.merge({"side/side.rego": "package side\n"})
    push(have := have | {"side/side.rego"})

    before = repo.head  # force push: a commit is taken back, another one comes in its place
    repo.commit({"bad.rego": "package bad\n"})
    push(have | {"bad.rego"})
    repo.reset(before)
    repo.commit({"good.rego": "package good\n"})
    push(have := have | {"good.rego"})

    # a manifest orders what depends on each other: the importing file sorts first by name
    repo.commit({"a_first.rego": "package afirst\nimport data.zlast\nx = zlast.y\n", "z_last.rego": "package zlast\ny = 7\n", ".manifest": "z_last.rego\na_first.rego\n"})
    push(have := have | {"a_first.rego", "z_last.rego"})
    client.wait_stored("afirst/x", 7)
    bundle = server.request("GET", "/policy").json()
    assert bundle["manifest"][:2] == ["z_last.rego", "a_first.rego"] and policies(client) == {m["path"] for m in bundle["policy_modules"]}
    assert counter(server, "bundle_builds_failed") == 0


@pytest.mark.limit(120)
def test_follows_a_change_of_branch(opald, following, work):
    """The server is started anew with another branch, on the same clone: the client comes back and has that branch's policies, no others."""
    repo, server, client = following
    repo.git("checkout", "-q", "-b", "release")
    repo.commit({"base.rego": "package base\nvalue = 3\n", "app/app.rego": None, "release.rego": "package release\n"})
    server.stop()
    environment = {**repo.environment(work / "clone"), "OPAL_POLICY_REPO_MAIN_BRANCH": "release"}
    server = opald(env=environment, port=server.port, name="opald-release")
    wait_bundle(server, repo.head)
    wait_policies(client, {"base.rego", "release.rego"}, 40)
    client.wait_stored("base/value", 3)


@pytest.mark.limit(200)
def test_twenty_thousand_files(opald, work):
    """50 MB in 20,000 files: the first bundle and a difference, in the time that tests/bench/RESULTS.md states; the memory of builder and worker."""
    files = 20_000
    stream = bytearray(b"commit refs/heads/main\nmark :1\ncommitter T <t@t> 1700000000 +0000\ndata 1\nx\n")
    for number in range(files):
        content = (f"package big.d{number % 200}.f{number}\n" + f"rule_{number} {{ input.user == {number} }}\n" * 90)[:2_600].encode()
        stream += f"M 100644 inline d{number % 200}/f{number}.rego\ndata {len(content)}\n".encode() + content + b"\n"
    stream += b"commit refs/heads/main\nmark :2\ncommitter T <t@t> 1700000001 +0000\ndata 1\ny\nfrom :1\n"
    for number in range(0, files, 20):
        stream += f"M 100644 inline d{number % 200}/f{number}.rego\ndata 10\npackage n\n\n".encode()
    repo = PolicyRepo(work / "repo")
    repo.git("fast-import", "--quiet", "--force", input=bytes(stream))
    second = repo.git("rev-parse", "main")
    first = repo.git("rev-parse", "main~1")
    repo.head = second
    server = opald(env=repo.environment(work / "clone"))
    wait_bundle(server, second, "/policy?path=d7", seconds=60)

    def fetch(target: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{target}", timeout=scaled(60)) as response:
            return response.read()

    started = time.monotonic()
    difference = json.loads(fetch(f"/policy?base_hash={first}"))
    took = time.monotonic() - started
    assert len(difference["policy_modules"]) == files // 20 and took < scaled(5), took
    started = time.monotonic()
    full = fetch("/policy")
    took = time.monotonic() - started
    assert len(json.loads(full)["policy_modules"]) == files and len(full) > 50_000_000
    assert took < scaled(10), took
    assert counter(server, "bundles_built") == 3
    high = int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{builder_pid(server)}/status").read_text()).group(1))
    assert high < scaled(200_000), high  # the body itself is 53 MB of it
