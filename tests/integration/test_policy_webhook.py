"""POST /webhook beside the reference: what the five git services send, with right, wrong and missing secrets."""

import asyncio
import hashlib
import hmac
import json
import subprocess

import pytest

from harness import Opald, PolicyRemote, RawClient, Reference, http_request

SECRET = "it's a s3cret"
URL = "https://git.example.com:8443/acme/policies.git"

GITHUB = {"ref": "refs/heads/master", "before": "6113728f27ae82c7b1a177c8d03f9e96e0adf246", "after": "0000000000000000000000000000000000000000", "repository": {
    "id": 186853002, "name": "policies", "full_name": "acme/policies", "private": False, "owner": {"name": "acme", "email": "x@example.com"},
    "html_url": "https://git.example.com:8443/acme/policies", "url": "https://git.example.com:8443/acme/policies", "git_url": "git://git.example.com/acme/policies.git",
    "ssh_url": "git@git.example.com:acme/policies.git", "clone_url": URL, "default_branch": "master"},
    "pusher": {"name": "acme"}, "commits": [{"id": "1" * 40, "message": "m", "added": ["ü.rego"]}]}
GITLAB = {"object_kind": "push", "event_name": "push", "ref": "refs/heads/master", "checkout_sha": "1" * 40, "project_id": 15, "project": {
    "id": 15, "name": "policies", "path_with_namespace": "acme/policies", "default_branch": "master", "git_ssh_url": "git@git.example.com:acme/policies.git",
    "git_http_url": URL, "url": "git@git.example.com:acme/policies.git", "http_url": URL},
    "repository": {"name": "policies", "url": "git@git.example.com:acme/policies.git", "git_http_url": URL, "git_ssh_url": "git@git.example.com:acme/policies.git"}}
AZURE = {"subscriptionId": "00000000-0000-0000-0000-000000000000", "eventType": "git.push", "publisherId": "tfs", "resource": {
    "commits": [{"commitId": "1" * 40}], "refUpdates": [{"name": "refs/heads/master", "oldObjectId": "a" * 40, "newObjectId": "b" * 40}],
    "repository": {"id": "278d5cd2", "name": "policies", "url": "https://git.example.com/_apis/git/repositories/278d5cd2", "remoteUrl": URL}}}
BITBUCKET = {"push": {"changes": [{"new": {"type": "branch", "name": "master"}, "old": {"type": "branch", "name": "master"}, "forced": False}]},
             "actor": {"type": "user"}, "repository": {"type": "repository", "full_name": "acme/policies", "name": "policies", "links": {
                 "self": {"href": "https://api.example.com/repositories/acme/policies"}}}}
GITEA = {"ref": "refs/heads/master", "before": "a" * 40, "after": "b" * 40, "repository": {
    "id": 1, "full_name": "acme/policies", "html_url": "https://git.example.com:8443/acme/policies", "ssh_url": "ssh://git@git.example.com/acme/policies.git",
    "clone_url": URL, "default_branch": "master"}}

PARAMS = {
    "github": None,
    "gitlab": {"secret_header_name": "X-Gitlab-Token", "secret_type": "token", "secret_parsing_regex": "(.*)", "event_header_name": "X-Gitlab-Event", "push_event_value": "Push Hook"},
    "azure": {"secret_header_name": "X-Azure-Token", "secret_type": "token", "secret_parsing_regex": "^Token (\\S+)$|(.*)", "event_request_key": "eventType", "push_event_value": "git.push"},
    "bitbucket": {"secret_header_name": "X-Hub-Signature", "secret_type": "signature", "secret_parsing_regex": "sha256=(.*)", "event_header_name": "X-Event-Key", "push_event_value": "repo:push"},
    "gitea": {"secret_header_name": "X-Gitea-Signature", "secret_type": "signature", "secret_parsing_regex": "[0-9a-f]{64}", "event_header_name": "X-Gitea-Event", "push_event_value": "push"},
}
# two groups are more than the reference can take
PARAMS["azure"]["secret_parsing_regex"] = "(?:Token )?(\\S.*)"
SAMPLES = {"github": GITHUB, "gitlab": GITLAB, "azure": AZURE, "bitbucket": BITBUCKET, "gitea": GITEA}
EVENTS = {"github": {"X-GitHub-Event": "push"}, "gitlab": {"X-Gitlab-Event": "Push Hook"}, "azure": {}, "bitbucket": {"X-Event-Key": "repo:push"}, "gitea": {"X-Gitea-Event": "push"}}


def signature(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def secret_headers(service: str, body: bytes, secret: str = SECRET) -> dict:
    return {"github": {"X-Hub-Signature-256": f"sha256={signature(body, secret)}"}, "gitlab": {"X-Gitlab-Token": secret},
            "azure": {"X-Azure-Token": f"Token {secret}"}, "bitbucket": {"X-Hub-Signature": f"sha256={signature(body, secret)}"},
            "gitea": {"X-Gitea-Signature": signature(body, secret)}}[service]


def service_env(service: str, **more) -> dict:
    env = {"OPAL_POLICY_REPO_URL": "https://user:pass@git.example.com:8443/acme/policies.git?x=1", "OPAL_REPO_WATCHER_ENABLED": "false",
           "OPAL_POLICY_REPO_WEBHOOK_SECRET": SECRET, **more}
    if PARAMS[service]:
        env["OPAL_POLICY_REPO_WEBHOOK_PARAMS"] = json.dumps(PARAMS[service])
    return env


@pytest.fixture(scope="module", params=list(SAMPLES))
def pair(request, tmp_path_factory):
    """One service's settings on both servers."""
    service = request.param
    ours = Opald(tmp_path_factory.mktemp("ours"), name="shared-ours", env=service_env(service))
    theirs = Reference(tmp_path_factory.mktemp("theirs"), name="shared-theirs", env=service_env(service))
    yield service, ours, theirs
    ours.stop()
    theirs.kill()


def cases(service: str):
    """(name, body, headers). The reference answers 500 to none of these."""
    sample = json.dumps(SAMPLES[service]).encode()
    event = EVENTS[service]
    good = secret_headers(service, sample)
    yield "good", sample, {**event, **good}
    yield "no secret", sample, event
    yield "wrong secret", sample, {**event, **secret_headers(service, sample, "other")}
    yield "empty secret", sample, {**event, **{k: "" for k in good}}
    yield "secret of another body", sample + b" ", {**event, **good}
    yield "no prefix", sample, {**event, **{k: v.split("=")[-1] for k, v in good.items()}}
    yield "upper case", sample, {**event, **{k: v.upper() for k, v in good.items()}}
    yield "longer", sample, {**event, **{k: v + "0" for k, v in good.items()}}
    yield "shorter", sample, {**event, **{k: v[:-1] for k, v in good.items()}}

    def signed(name, payload, headers=event):
        body = json.dumps(payload).encode()
        return name, body, {**headers, **secret_headers(service, body)}

    if service != "azure":
        yield signed("no event header", SAMPLES[service], {})
        yield signed("another event", SAMPLES[service], {k: "issues" for k in event})
    else:
        yield signed("no event key", {k: v for k, v in AZURE.items() if k != "eventType"})
        yield signed("another event", {**AZURE, "eventType": "ms.vss-release"})
        yield signed("a number as event", {**AZURE, "eventType": 5})
    yield signed("nothing in it", {"ref": "refs/heads/master"})
    yield signed("another repository", {"repository": {"clone_url": "https://git.example.com:8443/acme/other.git", "full_name": "acme/policies"}})
    yield signed("by name", {"repository": {"full_name": "acme/policies"}})
    yield signed("another name", {"repository": {"full_name": "acme/other"}})
    yield signed("url in another case", {"repository": {"clone_url": URL.upper()}})
    yield signed("odd ref", {"ref": 7, "repository": {"clone_url": URL}})


async def test_answers_are_those_of_the_reference(pair):
    service, ours, theirs = pair

    async with RawClient.open(ours.port) as mine, RawClient.open(theirs.port) as other:
        for client in (mine, other):
            assert await client.subscribe("webhook") is True
        for name, body, headers in cases(service):
            got = []
            for server, client in ((ours, mine), (theirs, other)):
                before = len(client.notifies)
                response = await asyncio.to_thread(http_request, server.port, "POST", "/webhook", body, {"Content-Type": "application/json", **headers})
                await asyncio.sleep(0.03)
                await client.barrier()
                answer = response.text.replace("user:pass@", "***@")  # which is the one difference: a password in an answer
                got.append((response.status, answer, response.header("www-authenticate"), [(n.topic, n.data) for n in client.notifies[before:]]))
            assert got[0] == got[1], name
        assert len(mine.notifies) >= 3


def test_what_the_reference_answers_with_500(pair):
    """Bodies that are no JSON object, and payloads that fill every field it knows."""
    service, ours, theirs = pair
    everything = {"ref": "refs/heads/master", "eventType": "git.push", "resource": {"repository": {"remoteUrl": URL}}, "repository": {
        **{k: f"{URL}{k}" for k in ("git_url", "ssh_url", "clone_url", "url", "git_ssh_url", "git_http_url")}, "full_name": "acme/policies"},
        "project": {"git_http_url": f"{URL}a", "git_ssh_url": f"{URL}b", "path_with_namespace": "x/y"}}
    for body, status in ((b"", 400), (b"payload=x", 400), (b"[]", 400), (b'"x"', 400), (b'{"repository": []}', 400), (b'{"repository": null}', 400),
                         (b'{"ref": "x", "project": 3}', 400), (json.dumps(everything).encode(), 200)):
        headers = {"Content-Type": "application/json", **EVENTS[service], **secret_headers(service, body)}
        assert http_request(theirs.port, "POST", "/webhook", body, headers).status == 500, body
        response = http_request(ours.port, "POST", "/webhook", body, headers)
        assert response.status == status, (body, response.text)
        assert "detail" in response.json() or response.json()["status"] == "ok"
    # without the secret nobody learns what is wrong with the body
    assert http_request(ours.port, "POST", "/webhook", b"[]", {"Content-Type": "application/json"}).status == 401


def test_branches_are_enforced(tmp_path, opald, reference):
    env = {"OPAL_POLICY_REPO_URL": URL, "OPAL_REPO_WATCHER_ENABLED": "false", "OPAL_POLICY_REPO_WEBHOOK_ENFORCE_BRANCH": "true"}
    servers = [opald(env=env), reference(env=env)]
    for payload in (GITHUB, {**GITHUB, "ref": "refs/heads/other"}, {**GITHUB, "ref": "master"}, {**GITHUB, "ref": None},
                    {"refUpdates": {"name": "refs/heads/master"}, "repository": {"clone_url": URL}}, {"repository": {"full_name": "acme/policies"}}):
        answers = [(r.status, r.text) for r in (s.request("POST", "/webhook", json=payload, headers=EVENTS["github"]) for s in servers)]
        assert answers[0] == answers[1], payload.get("ref")
    # what Azure and Bitbucket really send says its branch elsewhere; the reference does not look there
    for payload in (AZURE, BITBUCKET):
        other = json.loads(json.dumps(payload).replace("refs/heads/master", "refs/heads/dev").replace('"name": "master"', '"name": "dev"'))
        assert servers[0].request("POST", "/webhook", json=payload, headers=EVENTS["github"]).json()["status"] == "ok"
        assert servers[0].request("POST", "/webhook", json=other, headers=EVENTS["github"]).json() is None


BITBUCKET_SERVER = {"eventKey": "repo:refs_changed", "date": "2026-01-01T00:00:00+0000", "actor": {"name": "acme"}, "repository": {
    "slug": "policies", "id": 1, "name": "policies", "project": {"key": "ACME", "id": 2}, "links": {"clone": [
        {"href": "ssh://git@git.example.com:7999/acme/policies.git", "name": "ssh"}, {"href": URL, "name": "http"}], "self": [{"href": "https://git.example.com/x"}]}},
    "changes": [{"ref": {"id": "refs/heads/master", "displayId": "master", "type": "BRANCH"}, "refId": "refs/heads/master", "type": "UPDATE"}]}


def test_bitbucket_server(opald):
    """Its URLs and branches stand in places of their own; the reference answers 400."""
    params = {**PARAMS["bitbucket"], "push_event_value": "repo:refs_changed"}
    server = opald(env=service_env("bitbucket", OPAL_POLICY_REPO_WEBHOOK_PARAMS=json.dumps(params), OPAL_POLICY_REPO_WEBHOOK_ENFORCE_BRANCH="true"))

    def ask(payload):
        body = json.dumps(payload).encode()
        return server.request("POST", "/webhook", body, {**secret_headers("bitbucket", body), "X-Event-Key": "repo:refs_changed"}).json()

    assert ask(BITBUCKET_SERVER)["status"] == "ok"
    assert ask(json.loads(json.dumps(BITBUCKET_SERVER).replace("refs/heads/master", "refs/heads/dev"))) is None
    assert ask(json.loads(json.dumps(BITBUCKET_SERVER).replace("acme/policies", "acme/other")))["status"] == "ignored"


@pytest.mark.parametrize("tracked", ["https://GIT.example.com:8443/acme/policies", "https://git.example.com:8443/acme/policies.git/", "git@git.example.com:acme/policies",
                                     "ssh://git@git.example.com/acme/policies.git"])
def test_spellings_of_the_repository(opald, tracked):
    """GitHub's payload has an https and an scp URL: other spellings of them are the same repository."""
    server = opald(env={"OPAL_POLICY_REPO_URL": tracked, "OPAL_REPO_WATCHER_ENABLED": "false"})
    assert server.request("POST", "/webhook", json=GITHUB, headers=EVENTS["github"]).json()["status"] == "ok"
    other = json.loads(json.dumps(GITHUB).replace("acme/policies", "acme/other"))
    assert server.request("POST", "/webhook", json=other, headers=EVENTS["github"]).json()["status"] == "ignored"


def test_sender_need_not_match(opald, reference):
    params = json.dumps({**{"secret_header_name": "x", "secret_type": "token", "secret_parsing_regex": "(.*)", "event_header_name": "X-GitHub-Event", "push_event_value": "push"},
                         "match_sender_url": False})
    env = {"OPAL_POLICY_REPO_URL": "git@git.example.com:acme/policies.git", "OPAL_REPO_WATCHER_ENABLED": "false", "OPAL_POLICY_REPO_WEBHOOK_PARAMS": params}
    answers = [(r.status, r.text) for r in (s.request("POST", "/webhook", json={"repository": {"full_name": "x/y"}}, headers=EVENTS["github"])
                                            for s in (opald(env=env), reference(env=env)))]
    assert answers[0] == answers[1] and answers[0][0] == 200 and '"ok"' in answers[0][1]


@pytest.mark.parametrize("params, said", [
    ("{", "must be JSON"), ("[]", "must be a JSON object"), ("{}", '"secret_header_name" is missing'),
    ('{"secret_header_name": "x", "secret_type": "other", "secret_parsing_regex": "(", "push_event_value": "p"}', '"secret_type" must be'),
    ('{"secret_header_name": "x", "secret_type": "token", "secret_parsing_regex": "(", "event_header_name": "e", "push_event_value": "p"}', '"secret_parsing_regex"'),
    ('{"secret_header_name": "x", "secret_type": "token", "secret_parsing_regex": "(.*)", "push_event_value": "p"}', "event_header_name"),
])
def test_settings_that_are_wrong_stop_the_start(params, said):
    from harness.paths import OPALD
    made = subprocess.run([OPALD, "check-config"], env={"OPAL_POLICY_REPO_WEBHOOK_PARAMS": params, "PATH": "/usr/bin"}, capture_output=True, text=True)
    assert made.returncode == 2 and said in made.stdout + made.stderr, made.stdout + made.stderr


async def test_whichever_worker_and_whoever_tells(opald, kafka, topic, work):
    """The policy process hears of a webhook from any worker, of an event on the topic from a client, and of one that another server took."""
    repo = PolicyRemote(work)
    env = {"OPAL_POLICY_REPO_URL": str(repo.remote)}
    first = opald(workers=3, broadcast_uri=kafka.uri, channel=topic, env={**env, "OPAL_POLICY_REPO_CLONE_PATH": str(work / "one")})
    second = opald(workers=1, broadcast_uri=kafka.uri, channel=topic, env={**env, "OPAL_POLICY_REPO_CLONE_PATH": str(work / "two")})
    for server in (first, second):
        server.wait_for_log("Clone succeeded")

    def both_follow(head):
        for server in (first, second):
            server.wait_for_log(f"new HEAD is '{head}'", 20)

    for i in range(4):
        head = repo.commit({"a/x.rego": f"package x{i}\n"})
        assert first.request("POST", "/webhook", json={"repository": {"url": str(repo.remote)}}, headers=EVENTS["github"]).status == 200
        both_follow(head)

    async def by_client():
        async with RawClient.open(first.port) as client:
            assert await client.publish("webhook") is True
    head = repo.commit({"a/x.rego": "package y\n"})
    await by_client()
    both_follow(head)
    # told once, looked once: the event of a webhook does not come round again
    assert first.log().count("Pulling changes") == 5


@pytest.mark.limit(150)
async def test_a_fleet_of_both_kinds(opald, reference, kafka, topic, work):
    """A webhook that either takes makes both look; each publishes, so that every client of the fleet hears it of both, in the same words."""
    repo = PolicyRemote(work)
    env = {"OPAL_REPO_WATCHER_ENABLED": "true", "OPAL_POLICY_REPO_URL": str(repo.remote)}
    kafka.create_topic(topic)
    theirs = reference(broadcast_uri=kafka.uri, channel=topic, env={**env, "OPAL_POLICY_REPO_CLONE_PATH": str(work / "theirs")})
    ours = opald(workers=2, broadcast_uri=kafka.uri, channel=topic, env={**env, "OPAL_POLICY_REPO_CLONE_PATH": str(work / "ours")})
    ours.wait_for_log("Clone succeeded")
    theirs.wait_for_log("Clone succeeded", 60)
    theirs.wait_for_log("listening on webhook topic", 30)

    async with RawClient.open(ours.port) as mine, RawClient.open(theirs.port) as other:
        for client in (mine, other):
            assert await client.subscribe("policy:.", "policy:a") is True
        await asyncio.sleep(1)  # the reference's reader of the backbone starts with its first client
        for i, server in enumerate((ours, theirs)):
            old, head = repo.head, repo.commit({"a/x.rego": f"package x{i}\n"})
            response = await asyncio.to_thread(server.request, "POST", "/webhook", json={"repository": {"url": str(repo.remote)}}, headers=EVENTS["github"])
            assert response.json()["status"] == "ok"
            for client in (mine, other):
                await client.expect(4 * (i + 1), 30)
                wanted = {"old_policy_hash": old, "new_policy_hash": head, "changed_directories": [".", "a"]}
                assert [n.data for n in client.notifies[4 * i:]] == [wanted] * 4
                assert sorted(n.topic for n in client.notifies[4 * i:]) == ["policy:.", "policy:.", "policy:a", "policy:a"]


async def test_watcher_off(opald, work):
    """Data updates alone: no policy process, webhooks still go to the fleet, /policy is 503."""
    server = opald(env={"OPAL_REPO_WATCHER_ENABLED": "false", "OPAL_POLICY_REPO_URL": URL, "OPAL_POLICY_REPO_CLONE_PATH": str(work / "clones")})

    async with RawClient.open(server.port) as client:
        await client.subscribe("webhook")
        response = await asyncio.to_thread(server.request, "POST", "/webhook", json=GITHUB, headers=EVENTS["github"])
        assert response.json()["status"] == "ok"
        await client.expect(1)
    assert server.request("GET", "/policy").status == 503
    assert "policy process" not in server.log() and not (work / "clones").exists()
