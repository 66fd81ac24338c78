"""Policies from a git repository: what a commit publishes (beside the reference), the ways to reach a repository, and what goes wrong with one."""

import asyncio
import os
import random
import re
import shutil
import signal
import socket
import string
import subprocess
from pathlib import Path

import pytest

from harness import OPALD, GitDaemon, GitHttp, PolicyRemote, RawClient, Sshd, clean_environment, git, process_state, scaled, wait_until
from harness.dice import seed
from harness.process import child_pids, command_line, freeze

DIRECTORIES = [".", "a", "a/b", "a/b/c", "users", "newdir", "d e", "été", "日本", "moved", "moved/deep"]
TOPICS = [f"policy:{d}" for d in DIRECTORIES]
GITHUB = {"X-GitHub-Event": "push"}


def policy_env(work: Path, url, **more) -> dict:
    return {"OPAL_REPO_WATCHER_ENABLED": "true", "OPAL_POLICY_REPO_URL": str(url), "OPAL_POLICY_REPO_CLONE_PATH": str(work / "clones"),
            "HOME": str(work), **{f"OPAL_{key}": str(value) for key, value in more.items()}}


def clones(work: Path) -> list:
    return sorted(p for p in (work / "clones").glob("opal_repo_clone*"))


def trigger(server, url):
    response = server.request("POST", "/webhook", json={"repository": {"clone_url": str(url)}, "ref": "refs/heads/master"}, headers=GITHUB)
    assert response.status == 200 and response.json()["status"] == "ok", response.text
    return response


async def change_seen(server, client, count: int, seconds: float = 10):
    notifies = await client.expect(count, seconds)
    return notifies[-1].data


# ---- what is published
def steps(repo: PolicyRemote):
    """(name, what to do); each ends with a push."""
    def merge():
        git(repo.tree, "checkout", "-q", "-b", "side", "HEAD~1")
        repo.commit({"newdir/side.rego": "package side\n"}, push=False)
        git(repo.tree, "checkout", "-q", "master")
        git(repo.tree, "merge", "-q", "--no-ff", "-m", "merge", "side")
        repo.push()

    def two_commits():
        repo.commit({"users/one.rego": "package one\n"}, push=False)
        repo.commit({"a/b/c/two.rego": "package two\n"})

    long = "package long\n" + "".join(f"rule{i} {{ input.x == {i} }}\n" for i in range(30))
    return [
        ("add", lambda: repo.commit({"newdir/x.rego": "package x\n", "a/b/long.rego": long})),
        ("change", lambda: repo.commit({"a/q.rego": "package a.q\nallow { true }\n", "data.json": "{\"k\": 1}\n"})),
        ("only untracked", lambda: repo.commit({"README.md": "nothing\n", "users/notes.txt": "n\n"})),
        ("other json", lambda: repo.commit({"users/other.json": "{}\n"})),
        ("rename", lambda: repo.commit({}, rename={"a/b/long.rego": "moved/deep/long.rego"})),
        ("rename out of what counts", lambda: repo.commit({}, rename={"moved/deep/long.rego": "moved/long.txt"})),
        ("delete", lambda: repo.commit({}, remove=["newdir/x.rego"])),
        ("names", lambda: repo.commit({"été/ö.rego": "package e\n", "日本/語.rego": "package n\n", "d e/f g.rego": "package f\n"})),
        ("ignored", lambda: repo.commit({"users/skip/x.rego": "package s\n", "a/ignored_test.rego": "package t\n"})),
        ("ignored and not", lambda: repo.commit({"users/skip/x.rego": "package s2\n", "a/b/c/n.rego": "package n\n"})),
        ("two commits", two_commits),
        ("merge", merge),
        ("executable bit", lambda: (os.chmod(repo.tree / "a/q.rego", 0o755), repo.commit({}))),
    ]


@pytest.mark.limit(120)
async def test_events_are_those_of_the_reference(opald, reference, work):
    repo = PolicyRemote(work)
    ignore = "users/skip/**,*_test.rego"
    ours = opald(workers=2, env=policy_env(work / "ours", repo.remote, BUNDLE_IGNORE=ignore))
    theirs = reference(env=policy_env(work / "theirs", repo.remote, BUNDLE_IGNORE=ignore))
    ours.wait_for_log("Clone succeeded")
    theirs.wait_for_log("Clone succeeded", 30)

    async with RawClient.open(ours.port) as mine, RawClient.open(theirs.port) as other:
        for client in (mine, other):
            assert await client.subscribe(*TOPICS, "webhook") is True
        for name, step in steps(repo):
            step()
            for server, client in ((ours, mine), (theirs, other)):
                before = len(client.notifies)
                await asyncio.to_thread(trigger, server, repo.remote)
                head = repo.head
                await asyncio.to_thread(server.wait_until, lambda s=server, h=head: f"new HEAD is '{h}'" in s.log(), 10, name)
                expected = {"only untracked": 1, "ignored": 1, "rename out of what counts": None, "executable bit": None}.get(name)
                if expected is None:
                    await client.until(lambda c, b=before: any(n.topic == "policy:." for n in c.notifies[b:]), 10, name)
                await asyncio.sleep(0.1)
                await client.barrier()
                if expected:
                    assert [n.topic for n in client.notifies[before:]] == ["webhook"], name
        def events(client):
            return [(n.topic, n.data_text()) for n in client.notifies]
        assert sorted(events(mine)) == sorted(events(other))
        assert [e for e in events(mine) if e[0] != "webhook"] == [e for e in events(other) if e[0] != "webhook"]
        assert len(mine.notifies) > 40
    assert "no tracked files were affected" in ours.log()


async def test_polling_force_push_and_no_event_at_the_start(opald, work):
    repo = PolicyRemote(work)
    first = repo.head
    server = opald(env=policy_env(work, f"file://{repo.remote}", POLICY_REPO_POLLING_INTERVAL=1))
    server.wait_for_log(f"No new commits: HEAD is at '{first}'")

    async with RawClient.open(server.port) as client:
        await client.subscribe(*TOPICS)
        second = repo.commit({"a/new.rego": "package new\n"})
        data = await change_seen(server, client, 2)
        assert data == {"old_policy_hash": first, "new_policy_hash": second, "changed_directories": [".", "a"]}
        # back to before, and elsewhere from there: what was taken back must go
        git(repo.tree, "reset", "-q", "--hard", first)
        third = repo.commit({"users/other.rego": "package other\n"})
        data = await change_seen(server, client, 5)
        assert data == {"old_policy_hash": second, "new_policy_hash": third, "changed_directories": [".", "a", "users"]}
    (clone,) = clones(work)
    wait_until(lambda: git(clone, "rev-parse", "refs/heads/master") == repo.head, 5, "branch of the clone, which is moved after the word of it is out")


def test_another_branch(opald, work):
    repo = PolicyRemote(work)
    git(repo.tree, "checkout", "-q", "-b", "release/1")
    repo.branch = "release/1"
    head = repo.commit({"a/r.rego": "package r\n"})
    server = opald(env=policy_env(work, repo.remote, POLICY_REPO_MAIN_BRANCH="release/1"))
    server.wait_for_log("Clone succeeded")
    (clone,) = clones(work)
    assert git(clone, "rev-parse", "HEAD") == head
    # the same folder, told to follow the other branch: it is fetched, or cloned anew, and served
    server.stop()
    server = opald(env=policy_env(work, repo.remote, POLICY_REPO_MAIN_BRANCH="master"))
    server.wait_for_log("Clone succeeded|No new commits")
    server.wait_until(lambda: len(clones(work)) == 1, 10, "one clone")
    (clone,) = clones(work)
    assert git(clone, "rev-parse", "refs/heads/master") == git(repo.remote, "rev-parse", "master") != head


def test_a_repository_with_another_branch_only(opald, work):
    """The first contact of many: the branch is main, the default of the option is master."""
    PolicyRemote(work, branch="main")
    server = opald(env=policy_env(work, work / "remotes/policies.git"))
    server.wait_for_log("cannot clone policy repo: the repository has no branch 'master'; OPAL_POLICY_REPO_MAIN_BRANCH names the branch, "
                        "and the repository's default branch is 'main'")


def test_a_branch_that_is_removed(opald, work):
    repo = PolicyRemote(work)
    server = opald(env=policy_env(work, repo.remote))
    server.wait_for_log("Clone succeeded")
    git(repo.remote, "branch", "-m", "master", "other")
    trigger(server, repo.remote)
    server.wait_for_log("cannot pull changes of the policy repo: .*the repository has no branch 'master' .OPAL_POLICY_REPO_MAIN_BRANCH")


def test_a_repository_that_is_not_there_yet(opald, work):
    """Everything else is served meanwhile; the clone comes when the repository does, and half of one never gets its place."""
    server = opald(env=policy_env(work, work / "remotes/policies.git"))
    server.wait_for_log("cannot clone policy repo: .*does not (appear to be|exist)")
    assert server.request("GET", "/policy").status == 503
    assert server.publish("t").status == 200
    assert clones(work) == []
    PolicyRemote(work)
    server.wait_for_log("Clone succeeded", 20)
    assert len(clones(work)) == 1
    server.wait_until(lambda: not list((work / "clones").glob(".opald-work*")), 10, "nothing left behind")


def test_no_repository_configured(opald, work):
    server = opald(env={"OPAL_REPO_WATCHER_ENABLED": "true"})
    server.wait_for_log("POLICY_REPO_URL is unset but repo watcher is enabled! disabling watcher.")
    assert server.request("GET", "/policy").status == 503


# ---- ways to it
def test_password_over_http_stays_secret(opald, work):
    repo = PolicyRemote(work)
    http = GitHttp(repo, "us er", "p@ss:w/rd")
    url = f"http://us%20er:p%40ss%3Aw%2Frd@{http.path}"
    server = opald(env=policy_env(work, url, POLICY_REPO_POLLING_INTERVAL=1))
    server.wait_for_log("Clone succeeded")
    head = repo.commit({"a/n.rego": "package n\n"})
    server.wait_for_log(f"new HEAD is '{head}'")
    (clone,) = clones(work)
    config = (clone / ".git/config").read_text()
    assert http.path in config and "p%40ss" not in config and "p@ss" not in config
    assert "p%40ss" not in server.log() and "p@ss" not in server.log()
    # the clone is found again although its remote has no password
    server.stop()
    server = opald(env=policy_env(work, url))
    server.wait_for_log("SKIPPED cloning policy repo, found existing repo")
    http.close()


def test_git_gets_nothing_that_is_none_of_its_business(opald, work):
    """Neither the server's secrets nor its descriptors, whichever process starts it; nor another repository from its environment."""
    repo, seen, folder = PolicyRemote(work), work / "seen", work / "bin"
    for made in (seen, folder):
        made.mkdir()
    (folder / "git").write_text(f"#!/bin/sh\nfile=$(mktemp {seen}/XXXXXX)\n(echo \"$*\"; env; ls -l /proc/$$/fd) > $file\nexec {shutil.which('git')} \"$@\"\n")
    (folder / "git").chmod(0o755)
    old = repo.head
    server = opald(env={**policy_env(work, repo.remote), "PATH": f"{folder}:{os.environ['PATH']}", "OPAL_AUTH_MASTER_TOKEN": "for-nobody-else",
                        "DATABASE_PASSWORD": "not-for-git", "VAULT_ADDR": "for-git", "VAULT_TOKEN": "for-git-too", "https_proxy": "http://proxy.invalid",
                        "OPAL_POLICY_REPO_ENVIRONMENT": "VAULT_*", "GIT_OBJECT_DIRECTORY": "/nowhere", "GIT_TRACE": str(work / "trace")})
    server.wait_for_log("Clone succeeded")
    head = repo.commit({"a/n.rego": "package n\n"})
    trigger(server, repo.remote)
    server.wait_for_log(f"new HEAD is '{head}'")
    server.wait_until(lambda: server.request("GET", "/policy").json()["hash"] == head, 10, "the new commit")
    reply = server.request("GET", f"/policy?base_hash={old}").json()
    assert reply["old_hash"] == old and [one["path"] for one in reply["policy_modules"]] == ["a/n.rego"]
    told = [one.read_text() for one in seen.iterdir()]
    for command in ("clone", "fetch", "diff-tree"):
        assert any(f"{command} " in one.splitlines()[0] for one in told), command
    assert sum("diff-tree " in one.splitlines()[0] for one in told) == 2  # what changed, and the bundle
    for one in told:
        for word in ("for-nobody-else", "not-for-git", "DATABASE_", "OPAL_", "GIT_OBJECT_DIRECTORY", "GIT_TRACE", "socket:", "memfd:", "eventfd"):
            assert word not in one, f"{word} in {one}"
    (clone,) = [one for one in told if "clone " in one.splitlines()[0]]
    assert "VAULT_ADDR=for-git\n" in clone and "VAULT_TOKEN=for-git-too\n" in clone and "https_proxy=http://proxy.invalid\n" in clone
    assert not (work / "trace").exists()


def test_wrong_password_is_a_clear_line_and_no_prompt(opald, work):
    repo = PolicyRemote(work)
    http = GitHttp(repo, "user", "right")
    server = opald(env=policy_env(work, f"http://user:n0t-this@{http.path}"))
    server.wait_for_log("cannot clone policy repo: .*Authentication failed")
    assert "n0t-this" not in server.log()
    http.close()


def ssh_env(work, sshd, **more):
    return policy_env(work, sshd.url, **{"POLICY_REPO_SSH_KEY": sshd.client_key.replace("\n", "_"), "GIT_SSH_KEY_FILE": work / "keys/key", **more})


@pytest.mark.skipif(not os.path.exists("/usr/sbin/sshd"), reason="no sshd here")
def test_ssh_key_and_a_host_that_changes_its_key(opald, work):
    """The first host key is taken (so that a configuration of the reference works as it is), another one later is refused; accept-any takes it."""
    repo = PolicyRemote(work)
    sshd = Sshd(work / "sshd", repo)
    server = opald(env=ssh_env(work, sshd))
    server.wait_for_log("Clone succeeded", 20)
    key = work / "keys/key"
    assert key.read_text() == sshd.client_key and key.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE KEY" not in server.log()

    port, url = sshd.port, sshd.url
    sshd.kill()
    sshd.new_host_key()
    again = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", work / "sshd/sshd_config"], stderr=subprocess.DEVNULL)
    try:
        head = repo.commit({"a/n.rego": "package n\n"})
        trigger(server, url.replace(url.split("//")[1].split("@")[0] + "@", ""))
        server.wait_for_log("cannot pull changes of the policy repo: .*Host key verification failed", 20)
        assert f"new HEAD is '{head}'" not in server.log()
        server.stop()
        server = opald(env=ssh_env(work, sshd, POLICY_REPO_SSH_HOST_KEYS="accept-any"))
        server.wait_for_log(f"new HEAD is '{head}'", 20)
    finally:
        again.kill()
        again.wait()


@pytest.mark.skipif(not os.path.exists("/usr/sbin/sshd"), reason="no sshd here")
@pytest.mark.parametrize("line_end", ["\\n", "\\r\\n", " ", "\r\n"], ids=["escaped", "escaped CRLF", "blanks", "CRLF"])
def test_an_ssh_key_that_lost_its_line_ends(opald, work, line_end):
    repo = PolicyRemote(work)
    sshd = Sshd(work / "sshd", repo)
    env = ssh_env(work, sshd)
    env["OPAL_POLICY_REPO_SSH_KEY"] = sshd.client_key.replace("\n", line_end)
    opald(env=env).wait_for_log("Clone succeeded", 20)


@pytest.mark.skipif(not os.path.exists("/usr/sbin/sshd"), reason="no sshd here")
def test_the_reason_of_ssh_reaches_the_log(opald, work):
    """A key that is well formed and no key: ssh's own line says why, not only git's about its consequence."""
    sshd = Sshd(work / "sshd", PolicyRemote(work))
    key = sshd.client_key.splitlines()
    key[2] = key[2][::-1]
    server = opald(env=ssh_env(work, sshd, POLICY_REPO_SSH_KEY="_".join(key)))
    server.wait_for_log("cannot clone policy repo: .*Load key .*: \\S.*Permission denied", 20)


@pytest.mark.parametrize("key, says", [
    ("-----BEGIN OPENSSH PRIVATE KEY-----", "only its first line has arrived"),
    ("-----BEGIN OPENSSH PRIVATE KEY-----\\nAAAA", "its last line, -----END OPENSSH PRIVATE KEY-----, is missing"),
    ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", "it is a public key"),
    ("~/.ssh/id_rsa", "it is a path"),
])
def test_what_is_wrong_with_an_ssh_key(work, key, says):
    env = clean_environment({"OPAL_REPO_WATCHER_ENABLED": "true", "OPAL_POLICY_REPO_URL": "git@host:o/r.git", "OPAL_POLICY_REPO_SSH_KEY": key})
    done = subprocess.run([OPALD, "check-config"], env=env, cwd=work, capture_output=True, text=True, timeout=scaled(20))
    assert done.returncode == 2 and f"OPAL_POLICY_REPO_SSH_KEY (value not shown): {says}" in done.stdout, done.stdout
    assert "AAAA" not in done.stdout + done.stderr


# ---- what goes wrong
def test_a_daemon_that_stops_answering_is_given_up_and_tried_again(opald, work):
    repo = PolicyRemote(work)
    daemon = GitDaemon(work, repo)
    server = opald(env=policy_env(work, daemon.url, POLICY_REPO_STALL_SECONDS=1))
    server.wait_for_log("Clone succeeded")
    daemon.kill_group(signal.SIGSTOP)
    head = repo.commit({"a/n.rego": "package n\n"})
    trigger(server, daemon.url)
    server.wait_for_log("cannot pull changes of the policy repo: git made no progress in time and was killed", 10)
    assert server.publish("t").status == 200  # nobody else waited
    daemon.kill_group(signal.SIGCONT)
    server.wait_for_log(f"new HEAD is '{head}'", 20)  # without another webhook


async def test_killed_at_any_moment(opald, work):
    """kill -9 of the policy process while it works: another one follows, and the change that it was at is published."""
    repo = PolicyRemote(work)
    server = opald(env=policy_env(work, repo.remote))
    server.wait_for_log("Clone succeeded")

    async with RawClient.open(server.port) as client:
        await client.subscribe("policy:.")
        killed: list = []
        for i in range(4):
            # not the one of the last round, which may not be dead yet
            fresh = await asyncio.to_thread(server.wait_until, lambda: [p for p in server.policy_pids() if p not in killed], 10, "the policy process")
            head = repo.commit({"a/n.rego": f"package n{i}\n"})
            await asyncio.to_thread(trigger, server, repo.remote)
            await asyncio.sleep(0.015 * i)
            os.kill(fresh[0], signal.SIGKILL)
            killed += fresh
            await client.until(lambda c, h=head: any(n.data["new_policy_hash"] == h for n in c.notifies), 20, f"round {i}")
    server.wait_for_log("started policy process", 10, 5)
    assert len(clones(work)) == 1
    # what it was running died with it
    assert not [pid for pid in child_pids(server.pid) if any(b"git" in word for word in command_line(pid))]


def test_locks_that_a_killed_git_left_behind(opald, work):
    repo = PolicyRemote(work)
    server = opald(env=policy_env(work, repo.remote))
    server.wait_for_log("Clone succeeded")
    server.stop()
    (clone,) = clones(work)
    for name in ("refs/heads/master.lock", "refs/remotes/origin/master.lock", "config.lock", "packed-refs.lock"):
        (clone / ".git" / name).write_text("")
    head = repo.commit({"a/n.rego": "package n\n"})
    server = opald(env=policy_env(work, repo.remote))
    server.wait_for_log(f"new HEAD is '{head}'")
    server.wait_until(lambda: git(clone, "rev-parse", "refs/heads/master") == head, 10, "the branch")


def test_a_damaged_clone_is_made_anew(opald, work):
    repo = PolicyRemote(work)
    server = opald(env=policy_env(work, repo.remote))
    server.wait_for_log("Clone succeeded")
    server.stop()
    (clone,) = clones(work)
    for pack in (clone / ".git/objects/pack").iterdir():
        pack.unlink()
    for loose in (clone / ".git/objects").glob("??"):
        shutil.rmtree(loose)
    server = opald(env=policy_env(work, repo.remote))
    server.wait_for_log("is not used .*cloning anew")
    server.wait_for_log("Clone succeeded")
    server.wait_until(lambda: len(clones(work)) == 1 and clones(work) != [clone], 10, "the new clone alone")
    assert git(clones(work)[0], "rev-parse", "HEAD") == repo.head


def test_a_remote_that_is_damaged_and_repaired(opald, work):
    repo = PolicyRemote(work)
    server = opald(env=policy_env(work, repo.remote))
    server.wait_for_log("Clone succeeded")
    head = repo.commit({"a/n.rego": "package n\n" * 50})
    aside = work / "aside"
    shutil.copytree(repo.remote, aside)
    for loose in (repo.remote / "objects").glob("??"):
        shutil.rmtree(loose)
    trigger(server, repo.remote)
    server.wait_for_log("cannot pull changes of the policy repo")
    shutil.rmtree(repo.remote)
    shutil.move(aside, repo.remote)
    server.wait_for_log(f"new HEAD is '{head}'", 20)


def test_folders_are_those_of_the_reference(opald, work):
    """One clone is used again; of several none is; another repository's is not; with a fixed path nothing foreign is deleted."""
    repo = PolicyRemote(work)
    env = policy_env(work, repo.remote)
    server = opald(env=env)
    server.wait_for_log("Clone succeeded")
    (clone,) = clones(work)
    assert len(clone.name) == len("opal_repo_clone-") + 32
    server.stop()
    shutil.copytree(clone, clone.parent / "opal_repo_clone-second")
    server = opald(env=env)
    server.wait_for_log("Clone succeeded")
    server.wait_until(lambda: len(clones(work)) == 1 and clones(work) != [clone], 10, "a new clone alone")
    server.stop()
    (clone,) = clones(work)
    git(clone, "remote", "set-url", "origin", "/somewhere/else")
    server = opald(env=env)
    server.wait_for_log("Existing repo has wrong remote url")
    server.wait_for_log("Clone succeeded")
    server.stop()

    foreign = work / "clones/opal_repo_clone"
    subprocess.run(["git", "init", "-q", foreign], check=True)
    (foreign / "precious").write_text("mine")
    server = opald(env={**env, "OPAL_POLICY_REPO_REUSE_CLONE_PATH": "true"})
    server.wait_for_log("policy watcher failed with exception: Existing repo has wrong remote url")
    assert (foreign / "precious").read_text() == "mine"
    server.stop()
    shutil.rmtree(foreign)
    server = opald(env={**env, "OPAL_POLICY_REPO_REUSE_CLONE_PATH": "true"})
    server.wait_for_log("Clone succeeded")
    assert (foreign / ".git/HEAD").exists()


def test_two_servers_do_not_share_a_clone(opald, work):
    repo = PolicyRemote(work)
    first = opald(env=policy_env(work, repo.remote))
    first.wait_for_log("Clone succeeded")
    second = opald(env=policy_env(work, repo.remote))
    second.wait_for_log("another server uses the clone in")
    first.kill()
    second.wait_for_log("SKIPPED cloning policy repo", 20)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk(opald, work):
    repo = PolicyRemote(work, {"a/big.rego": b"# " + os.urandom(3_000_000).hex().encode() + b"\n"})
    disk = work / "clones"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True).returncode:
        pytest.skip("mount is not permitted here")
    try:
        server = opald(env=policy_env(work, repo.remote))
        server.wait_for_log("cannot clone policy repo: .*No space left on device", 20)
        assert server.publish("t").status == 200
        assert clones(work) == []
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        server.wait_for_log("Clone succeeded", 30)
        server.stop()
    finally:
        subprocess.run(["umount", "-l", disk])


def noise(size: int) -> bytes:
    """What no pack makes smaller; as text it is a half more."""
    return b"# " + os.urandom(size).hex().encode() + b"\n"


def folder_bytes(path: Path) -> int:
    return sum(f.lstat().st_size for f in path.rglob("*") if f.is_file())


def counted(server, name: str) -> int:
    return int(re.search(rf"^opald_{name}_total (\d+)$", server.request("GET", "/metrics").text, re.M).group(1))


@pytest.mark.limit(60)
def test_a_repository_that_is_too_large(opald, work):
    """No clone and no fetch brings more than the limit, and nothing of what was stopped stays."""
    small = PolicyRemote(work / "small")
    first = small.head
    large = PolicyRemote(work / "large", {"a/big.rego": noise(3_000_000)})
    limit = {"POLICY_REPO_MAX_BYTES": "1m", "POLICY_REPO_POLLING_INTERVAL": 1}
    refused = opald(env=policy_env(work / "refused", large.remote, **limit), name="refused")
    server = opald(env=policy_env(work, small.remote, **limit))
    refused.wait_for_log("cannot clone policy repo: it is larger than OPAL_POLICY_REPO_MAX_BYTES=1048576 allows .*File too large", 20)
    refused.wait_until(lambda: folder_bytes(work / "refused/clones") == 0, 10, "the end of what was begun")
    assert counted(refused, "policy_repo_too_large") >= 1 and refused.request("GET", "/policy").status == 503
    refused.stop()

    server.wait_for_log(f"No new commits: HEAD is at '{first}'")
    grown = small.commit({"a/big.rego": noise(600_000)})  # fits
    server.wait_for_log(f"new HEAD is '{grown}'", 20)
    small.commit({"a/big.rego": noise(3_000_000)})
    server.wait_for_log("the clone in .* is not used .it would get larger than OPAL_POLICY_REPO_MAX_BYTES allows", 20)
    server.wait_for_log("cannot clone policy repo: it is larger than", 20)
    assert server.request("GET", "/policy").json()["hash"] == grown  # is served on
    server.wait_until(lambda: folder_bytes(work / "clones") < 1_100_000, 10, "the end of what was begun")
    # what is too much is taken back; with what is there it is too much, by itself it is not
    git(small.tree, "reset", "-q", "--hard", first)
    other = small.commit({"a/big.rego": noise(900_000)})
    server.wait_until(lambda: server.request("GET", "/policy").json()["hash"] == other, 30, "the other commit")
    server.wait_until(lambda: len(clones(work)) == 1 and folder_bytes(work / "clones") < 1_100_000, 10, "the new clone alone")


def test_what_a_killed_git_left_unfinished(opald, work):
    repo = PolicyRemote(work)
    server = opald(env=policy_env(work, repo.remote))
    server.wait_for_log("Clone succeeded")
    server.stop()
    (clone,) = clones(work)
    left = [clone / ".git/objects" / name for name in ("pack/tmp_pack_x1y2z3", "pack/tmp_idx_a1", "pack/.tmp-77-pack-0123.pack", "tmp_object_git2_x")]
    for path in left:
        path.write_bytes(bytes(1000))
    packs = sorted((clone / ".git/objects/pack").glob("pack-*"))
    server = opald(env=policy_env(work, repo.remote))
    server.wait_for_log("No new commits")
    assert not any(path.exists() for path in left) and packs == sorted((clone / ".git/objects/pack").glob("pack-*"))


def test_clone_timeout_starts_over(opald, work):
    server = opald(env=policy_env(work, work / "nowhere", POLICY_REPO_CLONE_TIMEOUT=1))
    server.wait_for_log("policy watcher failed with exception: no clone within OPAL_POLICY_REPO_CLONE_TIMEOUT=1 seconds", 15)
    server.wait_for_log("started policy process", 10, 2)
    assert server.request("GET", "/healthcheck").status == 200


def running(text: str) -> list:
    """Processes with this in their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (entry / "cmdline").read_bytes() and int(entry.name) != os.getpid() and process_state(int(entry.name)) not in ("Z", ""):
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


@pytest.mark.parametrize("who", ["policy", "master", "term"])
def test_nothing_that_git_started_outlives_it(opald, work, who):
    """A server that takes connections and says nothing: git and the helper that it starts hang, whoever is killed."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/r.git"
        server = opald(env=policy_env(work, url))
        server.wait_until(lambda: len(running(url)) >= 2, 10, "git and its helper")
        before = running(url)
        if who == "term":
            assert server.stop() == 0
        else:
            os.kill(server.policy_pids()[0] if who == "policy" else server.pid, signal.SIGKILL)
        wait_until(lambda: not set(before) & set(running(url)), 10, "their end")
        if who == "master":
            server.kill()


def test_a_policy_process_that_hangs_is_replaced(opald, work):
    repo = PolicyRemote(work)
    server = opald(env=policy_env(work, repo.remote, WORKER_HANG_SECONDS=1))
    server.wait_for_log("Clone succeeded")
    freeze(server.policy_pids()[0])
    server.wait_for_log("killing policy process .*: no heartbeat within the limit", 10)
    head = repo.commit({"a/n.rego": "package n\n"})
    trigger(server, repo.remote)
    server.wait_for_log(f"new HEAD is '{head}'", 10)


async def test_thousands_of_directories_go_in_several_events(opald, work):
    """Each names its part, so that no event grows beyond what the backbone carries; every topic comes once."""
    repo = PolicyRemote(work)
    server = opald(env=policy_env(work, repo.remote, CLIENT_QUEUE_MAX_BYTES="32m"))
    server.wait_for_log("Clone succeeded")
    names = [f"dir{i:04}/{'x' * 60}" for i in range(2000)]

    everything = ["."] + [f"dir{i:04}" for i in range(2000)] + names

    async with RawClient.open(server.port) as client:
        topics = ["policy:."] + [f"policy:{d}" for d in everything[1::100]]
        assert await client.subscribe(*topics)
        repo.commit({f"{name}/a.rego": f"package p{i}\n" for i, name in enumerate(names)})
        await asyncio.to_thread(trigger, server, repo.remote)
        await client.expect(len(topics), 30)
        await client.barrier()
        assert sorted(n.topic for n in client.notifies) == sorted(topics)
        parts = {tuple(n.data["changed_directories"]) for n in client.notifies}
        assert 2 <= len(parts) <= 6
        assert sorted(d for part in parts for d in part) == sorted(everything)
        for n in client.notifies:
            assert n.topic.removeprefix("policy:") in n.data["changed_directories"]
            assert len(n.raw) < 140_000


# ---- secrets
def fours(text: str) -> set:
    return {text[i:i + 4] for i in range(len(text) - 3)}


@pytest.mark.parametrize("option, more", [("OPAL_POLICY_REPO_URL", {}), ("OPAL_POLICY_BUNDLE_URL", {"OPAL_POLICY_SOURCE_TYPE": "API"})])
def test_no_password_of_a_url_shows(work, option, more):
    """Random passwords of all punctuation, not encoded: no command shows four characters of one, whether the URL can be parsed or not."""
    dice = random.Random(seed())
    alphabet = string.ascii_letters + string.digits + string.punctuation * 3
    refused = 0

    def outputs(url: str) -> str:
        env = clean_environment({"OPAL_REPO_WATCHER_ENABLED": "true", option: url, **more})
        runs = [subprocess.run([OPALD, command], env=env, cwd=work, capture_output=True, text=True, timeout=scaled(20)) for command in ("check-config", "print-config")]
        nonlocal refused
        refused += runs[0].returncode == 2
        assert runs[0].returncode in (0, 2)
        return "".join(one.stdout + one.stderr for one in runs)

    for i in range(60):
        password = "".join(dice.choice(alphabet) for _ in range(20))
        form = ("https://user:{}@host/o/r.git", "https://{}@host/o/r.git", "http://{}:x-oauth-basic@host/r")[i % 3]
        shown = outputs(form.format(password))
        harmless = fours(outputs("https://host/o/r.git")) | fours(outputs("https://user:a/b@host/r")) if i == 0 else harmless
        leaked = {four for four in fours(password) if four in shown} - harmless
        assert not leaked, f"{password}: {leaked} in {shown}"
    assert refused > 20


@pytest.mark.parametrize("url", ["https://user:to/ken@host/o/r.git", "https://ghp_to/ken@host/o/r.git", "user:token@host/o/r.git"])
def test_a_password_that_cuts_the_url_is_refused(work, url):
    env = clean_environment({"OPAL_REPO_WATCHER_ENABLED": "true", "OPAL_POLICY_REPO_URL": url})
    for command in ("check-config", "run"):
        done = subprocess.run([OPALD, command], env=env, cwd=work, capture_output=True, text=True, timeout=scaled(20))
        assert done.returncode == 2, done.stderr
        said = done.stdout + done.stderr
        assert "OPAL_POLICY_REPO_URL (value not shown): " in said and "ken" not in said.replace("token, write", "")
        assert "/ as %2F" in said or "begins with https://" in said
