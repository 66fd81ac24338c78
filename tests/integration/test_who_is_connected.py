"""/pubsub_client_info over all workers, and statistics mode in fleets of opald and of the reference beside it."""

import gzip
import json
import os
import re
import signal
import socket
import time
import uuid

import pytest

from harness import OpalClient, Opald, Reference, WireClient, freeze, scaled
from harness.backbones import PostgresServer, RedisServer
from harness.wire import CLOSE, frame

KEEPALIVE = "2"  # seconds until a silent server is gone, in place of 20
STATISTICS = {"OPAL_STATISTICS_ENABLED": "true", "OPAL_STATISTICS_SERVER_KEEPALIVE_TIMEOUT": KEEPALIVE}


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(params=["kafka", "redis", "postgres"])
def backbone(request, topic, tmp_path_factory):
    """What ties the servers of a fleet together, as arguments of a server."""
    if request.param == "kafka":
        broker = request.getfixturevalue("kafka")
        broker.create_topic(topic)
        yield {"broadcast_uri": broker.uri, "channel": topic}
    elif request.param == "redis":
        yield {"broadcast_uri": request.getfixturevalue("redis").uri, "channel": topic}
    else:
        server = PostgresServer(tmp_path_factory.mktemp("postgres"))
        yield {"broadcast_uri": server.uri, "channel": topic}
        server.stop()


def subscribe(client: WireClient, *topics: str):
    client.request("subscribe", {"topics": list(topics)}, call_id="s")
    while True:
        message = json.loads(client.read()[1])
        if message.get("response"):
            assert message["response"]["result"] is True
            return client


def announce(client: WireClient, client_id: str, rpc_id: str, *topics: str, expect=True):
    client.request("publish", {"topics": ["__opal_stats_add"], "data": {"topics": list(topics), "client_id": client_id, "rpc_id": rpc_id}}, call_id="p")
    while True:
        message = json.loads(client.read()[1])
        if message.get("response"):
            assert message["response"]["result"] is expect
            return client


def eventually(condition, seconds=10.0):
    end = time.monotonic() + scaled(seconds)
    while True:
        last = condition()
        if last or time.monotonic() > end:
            return last
        time.sleep(0.05)


def info(server) -> dict:
    reply = server.request("GET", "/pubsub_client_info")
    assert reply.status == 200
    return reply.json()


def clients(server) -> dict:
    """client id -> set of rpc ids"""
    reply = server.request("GET", "/statistics")
    assert reply.status == 200
    return {name: {one["rpc_id"] for one in channels} for name, channels in reply.json()["clients"].items()}


# ---- client info

def shape(server) -> dict:
    """What /pubsub_client_info says of a few clients, without what differs from run to run."""
    queries = ["", "?a=1&a=%20x+y&b=&__opal_client_id=m%C3%A9", "?__opal_client_id=m%C3%A9&z", "?q=%ff%22%5c&&=5&c", "?__opal_client_id=first&__opal_client_id=last"]
    opened = [WireClient(server.port, path=f"/ws{query}") for query in queries]
    names = {}
    try:
        for number, client in enumerate(opened):
            names[str(client.socket.getsockname()[1])] = f"PORT{number}"
            subscribe(client, f"t{number}", "é", f"t{number}", "")
        opened[0].request("unsubscribe", {"topics": ["é"]}, call_id="u")
        opened[0].read()
        seen = {}
        for key, value in info(server).items():
            assert value["client_id"] == key and abs(value["connect_time"] - time.time()) < 60
            port = names[str(value["source_port"])]
            key = key.replace(str(value["source_port"]), port)
            seen[key] = {**value, "client_id": key, "source_port": port, "connect_time": 0, "subscribed_topics": sorted(value["subscribed_topics"])}
            seen[key]["order"] = list(value), list(value["query_params"])
        opened[1].close()
        eventually(lambda: info(server).get("mé", {}).get("refcount") == 1)
        left = info(server)["mé"]
        return seen, left["refcount"]
    finally:
        for client in opened:
            client.close()
        assert eventually(lambda: info(server) == {})


@pytest.mark.sanitize
def test_client_info_is_the_reference_s(reference, opald):
    theirs, ours = shape(reference()), shape(opald())
    assert ours == theirs
    assert len(ours[0]) == 4 and ours[0]["mé"]["refcount"] == 2


@pytest.mark.sanitize
@pytest.mark.limit(60)
def test_client_info_of_the_whole_host(opald):
    server = opald(workers=4)
    opened = [subscribe(WireClient(server.port, path=f"/ws?__opal_client_id=c{i % 20}"), f"t{i}") for i in range(60)]
    everybody = {f"c{i}": {f"t{i}", f"t{i + 20}", f"t{i + 40}"} for i in range(20)}
    for _ in range(8):  # whichever worker answers
        seen = info(server)
        assert {name: set(one["subscribed_topics"]) for name, one in seen.items()} == everybody
        assert all(one["refcount"] == 3 for one in seen.values())
    # many at once, each is answered whole
    connections = [server.connection() for _ in range(30)]
    for connection in connections:
        connection.send(b"GET /pubsub_client_info HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
    connections.pop().close()
    for connection in connections:
        assert all(len(connection.read_response().json()) == 20 for _ in range(2))
        connection.close()
    # a worker's death takes its clients out
    holders = server.workers_of([one.socket.getsockname()[1] for one in opened])
    victim = server.worker_pids()[0]
    gone = sum(holder == victim for holder in holders.values())
    assert gone > 0
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: sum(one["refcount"] for one in info(server).values()) == 60 - gone)
    for client in opened:
        client.close()
    assert eventually(lambda: info(server) == {})


def test_client_info_while_a_worker_hangs(opald):
    """Not half of the truth: 503 until the master has replaced it."""
    server = opald(workers=2, env={"OPAL_WORKER_HANG_SECONDS": "4"})
    pids = server.worker_pids()
    freeze(pids[0])
    try:
        reply = None
        for _ in range(10):
            try:
                reply = server.request("GET", "/pubsub_client_info", timeout=3.5)
                break
            except (TimeoutError, EOFError):
                pass  # the hanging one took the connection
        assert reply is not None and (reply.status, reply.header("retry-after")) == (503, "1")
        assert eventually(lambda: "killed" in server.log() or pids[0] not in server.worker_pids(), 15)
        assert eventually(lambda: len(server.worker_pids()) == 2 and info(server) == {}, 15)
    finally:
        try:
            os.kill(pids[0], signal.SIGCONT)
        except ProcessLookupError:
            pass


@pytest.mark.sanitize
def test_client_info_limits(opald):
    server = opald(args=["--client-info-max-bytes", "64k", "--client-query-max-bytes", "100"])
    with WireClient(server.port, path="/ws?a=" + "x" * 200) as client:
        subscribe(client, "t")
        (one,) = info(server).values()
        assert one["query_params"] == {}
        for number in range(20):
            subscribe(client, "y" * 4000 + str(number))
        reply = server.request("GET", "/pubsub_client_info")
        assert reply.status == 503 and "OPAL_CLIENT_INFO_MAX_BYTES (65536)" in reply.json()["detail"]
        assert "OPAL_CLIENT_INFO_MAX_BYTES" in server.log()


def test_client_info_for_many_who_ask_at_once(opald):
    """The budget of memory holds while they are answered, not only afterwards; what is small enough is compressed, for all of them once."""
    server = opald(workers=1, env={"OPAL_CLIENTS_MEMORY_MAX_BYTES": "24m", "OPAL_CLIENT_QUEUE_MAX_BYTES": "8m", "OPAL_HTTP_GZIP_MIN_BYTES": "1"})
    (pid,) = server.worker_pids()
    ask = b"GET /pubsub_client_info HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n"

    def ask_at_once(count):
        opened = [socket.socket() for _ in range(count)]
        for one in opened:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.connect(("127.0.0.1", server.port))
        freeze(pid)
        try:
            for one in opened:
                one.sendall(ask)
        finally:
            os.kill(pid, signal.SIGCONT)
        return opened

    with WireClient(server.port) as client:
        subscribe(client, "t" * 500)
        opened = ask_at_once(3)
        for one in opened:
            head, _, body = one.recv(65536).partition(b"\r\n\r\n")
            assert b"content-encoding: gzip" in head.lower() and b"accept-encoding" in head.lower()
            assert [row["subscribed_topics"] for row in json.loads(gzip.decompress(body)).values()] == [["t" * 500]]
            one.close()
        with WireClient(server.port) as other:
            for part in range(36):  # seven MB of names, which the reply has once more, in messages that hold little themselves
                subscribe(client, *(f"{part}-{number}-" + "y" * 4000 for number in range(25)))
                subscribe(other, *(f"{part}-{number}-" + "z" * 4000 for number in range(25)))
            opened = ask_at_once(40)
            assert eventually(lambda: "Clients make this worker hold" in server.log())
            for one in opened:
                one.close()

            def answered():
                try:
                    return len(info(server)) == 2
                except (EOFError, OSError):  # while the others still hold their replies this one may have to go as well
                    return False
            assert eventually(answered)
    held = [int(number) for number in re.findall(r"Clients make this worker hold (\d+) bytes", server.log())]
    assert max(held) < (24 + 8) << 20, held


# ---- statistics of one server

def test_statistics_are_the_reference_s(reference, opald):
    seen = []
    for server in (reference(env=STATISTICS), opald(env=STATISTICS)):
        rpc = f"r-{uuid.uuid4().hex}"
        client = WireClient(server.port)
        greeting = json.loads(client.read()[1])["request"]
        assert re.fullmatch("[0-9a-f]{32}", greeting.pop("call_id"))
        client.text(json.dumps({"request": None, "response": {"result": rpc, "result_type": "str", "call_id": "?"}}))
        announce(client, "CL é", rpc, "t", "u")
        full, brief = server.request("GET", "/statistics"), server.request("GET", "/stats")
        body = full.json()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", body["uptime"]) and body["uptime"] == brief.json()["uptime"]
        assert all(re.fullmatch("[0-9a-f]{32}", one) for one in body["servers"])
        seen.append((greeting, list(body), full.text.split('"clients":')[1].split(',"servers"')[0].replace(rpc, "RPC"), len(body["servers"]),
                     list(brief.json()), brief.json()["client_count"], brief.json()["server_count"], body["version"]))
        client.close()
    assert seen[1] == seen[0]


@pytest.mark.sanitize
def test_statistics_of_all_workers(opald):
    server = opald(workers=3, env={**STATISTICS, "OPAL_MAX_CHANNELS_PER_CLIENT": "4"})
    opened = [announce(WireClient(server.port), f"c{i % 4}", f"r{i}", "t") for i in range(12)]
    everybody = {f"c{i}": {f"r{i}", f"r{i + 4}", f"r{i + 8}"} for i in range(4)}
    for _ in range(5):
        assert clients(server) == everybody
        assert server.request("GET", "/stats").json()["client_count"] == 4
        assert server.request("GET", "/stats").json()["server_count"] == 1
    # announced again: once; more than are counted: not counted, and refused to one connection that goes on
    announce(opened[0], "c0", "r0", "other")
    assert clients(server) == everybody
    extra = [announce(WireClient(server.port), "c0", f"x{i}", "t") for i in range(3)]
    assert eventually(lambda: len(clients(server)["c0"]) == 4)
    for number in range(2):
        announce(opened[0], f"d{number}", f"d{number}")
    announce(opened[0], "d9", "d9", expect=False)
    for client in extra:
        client.close()
    opened[0].send(frame(CLOSE, b"\x03\xe8"))
    assert eventually(lambda: clients(server) == {**everybody, "c0": {"r4", "r8"}})
    # nonsense is nobody
    for data in ("null", "5", "{}", '{"client_id":"x","rpc_id":5,"topics":[]}', '{"client_id":"x","rpc_id":"x","topics":[5]}', '{"client_id":"x","rpc_id":"x"}'):
        opened[1].request("publish", {"topics": ["__opal_stats_add"], "data": json.loads(data)}, call_id="n")
        while "response" not in json.loads(opened[1].read()[1]):
            pass
    assert set(clients(server)) == set(everybody)
    # a dead worker's clients
    holders = server.workers_of([one.socket.getsockname()[1] for one in opened[1:]])
    victim = server.worker_pids()[0]
    lost = {f"r{i + 1}" for i, one in enumerate(opened[1:]) if holders[one.socket.getsockname()[1]] == victim}
    assert lost
    os.kill(victim, signal.SIGKILL)
    left = {name: rpcs - lost - {"r0"} for name, rpcs in everybody.items()}
    assert eventually(lambda: clients(server) == {name: rpcs for name, rpcs in left.items() if rpcs})
    for client in opened:
        client.close()
    assert eventually(lambda: clients(server) == {})


# ---- fleets

@pytest.mark.limit(120)
def test_fleet_with_the_reference(backbone, reference, opald, work):
    """Each sees the clients of the other, those that were there before it began, and their end; real opal-clients among them."""
    theirs = reference(env=STATISTICS, **backbone)
    before = announce(WireClient(theirs.port), "early", "early-rpc", "t")
    ours = opald(workers=2, env=STATISTICS, **backbone)
    assert eventually(lambda: clients(ours) == {"early": {"early-rpc"}}, 15), "the state of who was there before"
    late = reference(env=STATISTICS, name="late", **backbone)
    # the reference takes a state only while it knows nobody
    assert eventually(lambda: clients(late) == {"early": {"early-rpc"}}, 15), "the state of who was there before"
    with WireClient(ours.port) as here, WireClient(theirs.port) as there:
        announce(here, "here", "here-rpc", "a")
        rpc = json.loads(there.read()[1])["request"]["call_id"]
        there.text(json.dumps({"request": None, "response": {"result": "there-rpc", "result_type": "str", "call_id": rpc}}))
        announce(there, "there", "there-rpc", "b")
        everybody = {"early": {"early-rpc"}, "here": {"here-rpc"}, "there": {"there-rpc"}}
        for server in (ours, theirs, late):
            assert eventually(lambda: clients(server) == everybody, 15), server.name
        # three kinds of workers: one, one, and two of ours
        assert eventually(lambda: len(ours.request("GET", "/statistics").json()["servers"]) == 4)
        assert eventually(lambda: len(theirs.request("GET", "/statistics").json()["servers"]) == 4)
        assert theirs.request("GET", "/stats").json()["server_count"] == 4
        assert ours.request("GET", "/stats").json()["server_count"] == 2
        real = OpalClient(work, ours.port, env={"OPAL_STATISTICS_ENABLED": "true", "OPAL_OPAL_CLIENT_STAT_ID": "real"})
        try:
            for server in (theirs, ours):
                assert eventually(lambda: len(clients(server).get("real", ())) == 2, 30), "its two websockets"
        finally:
            real.kill()
        for server in (theirs, ours):
            assert eventually(lambda: clients(server) == everybody, 15), server.name
    for server in (theirs, ours, late):
        assert eventually(lambda: set(clients(server)) == {"early"}), server.name
    # a server that is killed takes its clients with it (the reference keeps them as ghosts)
    with WireClient(late.port) as doomed:
        announce(doomed, "doomed", "doomed-rpc")
        assert eventually(lambda: "doomed" in clients(ours))
        late.kill()
        assert eventually(lambda: set(clients(ours)) == {"early"}, 15)
    before.close()


@pytest.mark.limit(90)
def test_fleet_of_ours(backbone, opald):
    one, two = opald(env=STATISTICS, **backbone), opald(workers=2, env=STATISTICS, **backbone)
    opened = [announce(WireClient(server.port), f"c{server.port}", f"r{server.port}") for server in (one, two)]
    everybody = {f"c{server.port}": {f"r{server.port}"} for server in (one, two)}
    for server in (one, two):
        assert eventually(lambda: clients(server) == everybody)
    three = opald(env=STATISTICS, **backbone)
    assert eventually(lambda: clients(three) == everybody, 15)
    # two is killed with all its workers: whoever learned of its clients from another knows whose they were
    os.kill(two.pid, signal.SIGKILL)
    two.any_exit = True
    for server in (one, three):
        assert eventually(lambda: clients(server) == {f"c{one.port}": {f"r{one.port}"}}, 15), server.name
    # one stands still for so long that it is forgotten, and is known again when it goes on
    for pid in [one.pid, *one.worker_pids()]:
        freeze(pid)
    try:
        assert eventually(lambda: clients(three) == {}, 15)
    finally:
        for pid in [*one.worker_pids(), one.pid]:
            os.kill(pid, signal.SIGCONT)
    assert eventually(lambda: f"c{one.port}" in clients(three), 20)
    for client in opened:
        client.close()
    assert eventually(lambda: clients(three) == {})


def test_state_larger_than_the_ring_takes(redis, opald, topic):
    """One client's channels together are no message for a server that begins, and must not be tried as one."""
    env = {**STATISTICS, "OPAL_STATISTICS_SERVER_KEEPALIVE_TIMEOUT": "20", "OPAL_RING_BYTES": "1m", "OPAL_EVENT_MAX_BYTES": "64k"}
    first = opald(workers=1, broadcast_uri=redis.uri, channel=topic, env=env)
    client = WireClient(first.port)
    rpc_ids = [uuid.uuid4().hex for _ in range(8)]
    for number, rpc_id in enumerate(rpc_ids):
        announce(client, "large", rpc_id, str(number) + "x" * (20_000 if number else 50_000))
    assert eventually(lambda: len(clients(first).get("large", [])) == 8)
    second = opald(workers=1, broadcast_uri=redis.uri, channel=topic, env=env)
    told = eventually(lambda: set(clients(second).get("large", set())) == set(rpc_ids[1:]), 15)  # the first is larger than half of an event
    assert told, first.log()[-2000:]
    assert "1 channels with very many topics were not told" in first.log()
    client.close()


def test_off_as_the_reference(opald):
    with WireClient(opald(workers=1).port) as client:
        client.request("ping", call_id="only")
        assert json.loads(client.read()[1])["response"]["call_id"] == "only", "no greeting"
