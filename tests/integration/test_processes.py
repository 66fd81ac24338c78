"""Processes that die, stop and start: workers killed under load, the master killed, TERM, TTIN and TTOU, hung workers."""

import asyncio
import json
import os
import re
import resource
import signal
import socket
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from harness import RawClient, WireClient, close_all, connect_many, freeze, group_pids, http_request, process_state, scaled, wait_until
from harness.backbones import RedisServer
from harness.metrics import counter
from harness.wire import TEXT, frame


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


async def holders(server, clients):
    """Clients by the pid of their worker."""
    found: dict = {pid: [] for pid in server.worker_pids()}
    held = server.workers_of([client.local_port for client in clients])
    for client in clients:
        found[held[client.local_port]].append(client)
    return found


def shared_memory_names():
    """What an opald left in the places where shared memory or sockets get names. Other tests run beside this one: their Postgres
    has names of its own in /dev/shm, and their folders in /tmp are called opald-test-..."""
    memory = {name for name in os.listdir("/dev/shm") if "opal" in name.lower()}
    sockets = {f"/tmp/{name}" for name in os.listdir("/tmp") if name.startswith("opald") and not name.startswith("opald-test-")}
    return memory | sockets


async def connect_at_once(port, limit):
    """Connects, subscribes; fails when refused or reset, or when it takes longer than `limit` seconds."""
    began = time.monotonic()
    client = await RawClient.connect(port, timeout=limit)
    assert await client.subscribe("t", timeout=limit)
    return client, time.monotonic() - began


# ---------------------------------------------------------------- a worker dies
@pytest.mark.sanitize
async def test_worker_killed_under_load(opald):
    """Clients of the other workers miss nothing; those of the killed one reconnect within 200 ms; nobody is refused."""
    server = opald(workers=4)

    clients = await connect_many(server.port, 80, "t")
    by_worker = await holders(server, clients)
    victim = max(by_worker, key=lambda pid: len(by_worker[pid]))
    lost = by_worker[victim]
    stay = [client for client in clients if client not in lost]
    assert lost and stay
    publisher = await RawClient.connect(server.port)
    while server.worker_of(publisher.local_port) == victim:
        await publisher.close()
        publisher = await RawClient.connect(server.port)

    sent = 0
    running = True

    async def load():
        nonlocal sent
        while running:
            assert await publisher.publish("t", sent) is True
            sent += 1
            await asyncio.sleep(0.002)

    loading = asyncio.create_task(load())
    await asyncio.sleep(0.3)
    os.kill(victim, signal.SIGKILL)
    await asyncio.gather(*(client.wait_closed(2) for client in lost))
    results = await asyncio.gather(*(connect_at_once(server.port, 5) for _ in lost))
    slowest = max(took for _, took in results)
    back = [client for client, _ in results]
    await asyncio.sleep(0.5)
    running = False
    await loading
    for client in stay:
        await client.expect(sent)
        await client.barrier()
        assert [n.data for n in client.notifies] == list(range(sent))
    for client in back:
        await client.barrier()
        data = [n.data for n in client.notifies]
        assert data, "a client that came back gets events"
        assert data == list(range(data[0], sent))
    assert slowest < scaled(0.2), f"the slowest reconnect took {slowest * 1000:.0f} ms"
    wait_until(lambda: len(server.worker_pids()) == 4, 5, "four workers again")
    await close_all(stay + back + [publisher])
    assert "ERROR" in server.log() or "WARNING" in server.log()


@pytest.mark.limit(180)
async def test_workers_killed_again_and_again(opald):
    """Eight workers die in turn while events flow: whoever is connected to a living one misses nothing, the server goes on."""
    server = opald(workers=3)

    publisher = await RawClient.connect(server.port)
    total = 0
    for _ in range(8):
        clients = await connect_many(server.port, 12, "t")
        by_worker = await holders(server, clients)
        candidates = [pid for pid in by_worker if pid != server.worker_of(publisher.local_port)]
        victim = candidates[0]
        survivors = [c for pid, cs in by_worker.items() if pid != victim for c in cs]
        pending = [await publisher.start_call("publish", {"topics": ["t"], "data": i}) for i in range(100)]
        os.kill(victim, signal.SIGKILL)
        for future in pending:
            assert (await asyncio.wait_for(future, scaled(10)))["result"] is True
        total += 100
        for client in survivors:
            await client.expect(100)
            assert [n.data for n in client.notifies] == list(range(100))
        await close_all(clients)
        wait_until(lambda: len(server.worker_pids()) == 3, 40, "three workers again")
    await publisher.close()


def test_connections_waiting_while_no_worker_lives_are_served(opald):
    """All workers are killed at once: connections made then wait in the master's socket and are answered, none is refused."""
    server = opald(workers=2)
    for pid in server.worker_pids():
        os.kill(pid, signal.SIGKILL)
    waiting = [server.connection() for _ in range(50)]
    for connection in waiting:
        assert connection.request("GET", "/healthcheck").status == 200
        connection.close()


def test_a_burst_of_connects_while_a_worker_is_killed(opald):
    """A thousand connections, a worker killed, two thousand more without a rest: none is refused, and of those made after the kill none is
    reset. What the dead worker held is its clients' loss, which is no more than its share."""
    server = opald(workers=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    connections = []
    try:
        for number in range(3000):
            if number == 1000:
                os.kill(server.worker_pids()[0], signal.SIGKILL)
            connections.append(socket.create_connection(("127.0.0.1", server.port), scaled(10)))
        lost = []
        for number, connection in enumerate(connections):
            try:
                connection.sendall(b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n\r\n")
                if not connection.recv(100).startswith(b"HTTP/1.1 200"):
                    lost.append(number)
            except ConnectionError:
                lost.append(number)
        assert not [number for number in lost if number >= 1000]
        assert len(lost) <= 600
    finally:
        for connection in connections:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_publishes_that_a_dying_worker_answered_are_delivered(opald):
    """A 200 means that the event has its place in the order: killing the worker right after it changes nothing."""
    server = opald(workers=2)

    clients = await connect_many(server.port, 20, "t")
    answered = checked = 0
    for _ in range(5):
        with server.connection() as connection:
            body = '{"entries": [{"url": "u%d", "topics": ["t"], "dst_path": "/x"}]}' % answered
            assert connection.request("POST", "/data/config", body, {"content-type": "application/json"}).status == 200
            pid = server.worker_of(connection.socket.getsockname()[1])
            os.kill(pid, signal.SIGKILL)
            answered += 1
        wait_until(lambda: len(server.worker_pids()) == 2, 20, "two workers again")
        alive = [client for client in clients if server.worker_of(client.local_port)]
        checked += len(alive)
        wanted = f"u{answered - 1}"
        for client in alive:
            await client.until(lambda c: wanted in [n.data["entries"][0]["url"] for n in c.notifies], 5, "the event")
        clients = alive + await connect_many(server.port, 10, "t")
    assert checked >= 10
    await close_all(clients)


def test_not_ready_while_the_master_does_not_run(opald):
    """SIGSTOP of the master: workers live on, but what they take is not ordered and nobody replaces them."""
    server = opald(workers=2, args=["--master-hang-seconds", "1"])
    answered = lambda path: http_request(server.port, "GET", path).status
    assert answered("/readyz") == 200
    freeze(server.pid)
    try:
        wait_until(lambda: answered("/readyz") == 503, 10, "readyz 503")
        assert http_request(server.port, "GET", "/readyz").json() == {"status": "error", "master": "not responding"}
        assert answered("/livez") == 200 and answered("/healthcheck") == 200
    finally:
        os.kill(server.pid, signal.SIGCONT)
    wait_until(lambda: answered("/readyz") == 200, 10, "readyz 200")


@pytest.mark.limit(120)
async def test_a_stopped_worker_is_replaced_and_others_go_on(opald):
    """SIGSTOP of one worker: the ring fills, the writer waits; after the stall limit the worker is killed and replaced, and the
    clients of the others get everything, in order."""
    server = opald(workers=2, args=["--ring-bytes", "16m", "--ring-stall-seconds", "2", "--worker-hang-seconds", "5"])

    clients = await connect_many(server.port, 20, "t")
    by_worker = await holders(server, clients)
    publisher = await RawClient.connect(server.port)
    living = server.worker_of(publisher.local_port)
    stopped = next(pid for pid in by_worker if pid != living)
    freeze(stopped)
    text = "x" * 100_000
    for i in range(400):  # 40 MB through a ring of 16
        assert await publisher.publish("t", [i, text], timeout=20) is True
    for client in by_worker[living]:
        await client.expect(400, 20)
        assert [n.data[0] for n in client.notifies] == list(range(400))
    wait_until(lambda: process_state(stopped) in ("", "Z"), 10, "end of the stopped worker")
    for client in by_worker[stopped]:
        await client.wait_closed(10)
    wait_until(lambda: len(server.worker_pids()) == 2, 10, "a replacement")
    fresh = await connect_many(server.port, 8, "t")
    assert await publisher.publish("t", "end") is True
    for client in fresh:
        await client.expect(1)
    await close_all(clients + fresh + [publisher])


async def test_a_full_ring_that_still_takes_small_events_is_no_stall(opald, redis, topic):
    """A worker pauses, large events fill the ring and wait, small ones from another server still fit: the pause is far below the limit."""
    small = {"OPAL_RING_BYTES": "2m", "OPAL_EVENT_MAX_BYTES": "200k", "OPAL_RING_STALL_SECONDS": "20"}
    server = opald(workers=2, broadcast_uri=redis.uri, channel=topic, env=small)
    other = opald(workers=1, broadcast_uri=redis.uri, channel=topic, env=small, name="other")

    clients = await connect_many(server.port, 8, "t", "u")
    publisher, afar = next(c for c in clients), await RawClient.connect(other.port)
    held = server.workers_of([client.local_port for client in clients])
    stopped = next(pid for pid in held.values() if pid != held[publisher.local_port])
    freeze(stopped)
    try:
        for i in range(15):  # more than the ring takes
            assert await publisher.publish("t", ["x" * 150000, i], sync=False)
        await asyncio.to_thread(server.wait_for_log, "the ring is full")
        for i in range(100):
            assert await afar.publish("u", i)
            await asyncio.sleep(0.005)
        assert process_state(stopped) == "T", "not killed"
    finally:
        os.kill(stopped, signal.SIGCONT)
    for client in clients:
        await client.until(lambda c: sum(n.topic == "u" for n in c.notifies) == 100, 10, "the other server's events")
        if client is not publisher:
            await client.until(lambda c: [n.data[1] for n in c.notifies if n.topic == "t"] == list(range(15)), 10, "the large ones")
    await close_all([*clients, afar])
    assert counter(server, "workers_killed_stuck") == 0


@pytest.mark.limit(120)
def test_a_hung_idle_worker_is_replaced(opald):
    server = opald(workers=2, args=["--worker-hang-seconds", "2"])
    stopped = server.worker_pids()[0]
    freeze(stopped)
    wait_until(lambda: process_state(stopped) in ("", "Z"), 15, "end of the hung worker")
    wait_until(lambda: len(server.worker_pids()) == 2, 10, "a replacement")


async def test_a_paused_container_keeps_its_workers(opald):
    """A frozen container or machine goes on where it was: nobody beat while nobody ran, so nobody is hung."""
    server = opald(workers=2, args=["--worker-hang-seconds", "2"])
    workers = server.worker_pids()

    client = await RawClient.connect(server.port)
    assert await client.subscribe("t")
    for pid in [server.pid, *workers]:
        freeze(pid)
    await asyncio.sleep(3)
    for pid in [server.pid, *workers]:
        os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(0.2)  # the master is the first to look
    assert await client.publish("t", 1, notifier_id="another")
    await client.expect(1)
    await client.close()
    assert server.worker_pids() == workers


def test_connections_given_to_a_worker_that_backs_off(opald):
    """What was on its way to a worker that dies young again and again is served by another, not after the delay."""
    server = opald(workers=2)
    other = server.worker_pids()[0]

    def victim():
        wait_until(lambda: len(server.worker_pids()) == 2, 10, "a replacement")
        return next(pid for pid in server.worker_pids() if pid != other)

    for _ in range(5):
        pid = victim()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: process_state(pid) in ("", "Z"), 5, "end of the worker")
    pid = victim()
    wait_until(lambda: f"pid {pid}" in server.log(), 10, "the worker's start")
    time.sleep(0.2)
    freeze(pid)
    connections = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(40)]
    for connection in connections:
        connection.sendall(b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.3)
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    for connection in connections:
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        connection.close()
    assert time.monotonic() - began < scaled(1)


@pytest.mark.limit(60)
def test_connections_given_to_a_worker_that_stands_still(opald):
    """A stopped worker has the fewest connections and is given the new ones until its heartbeat tells: they are taken back then,
    not when it is killed."""
    server = opald(workers=2, args=["--worker-hang-seconds", "20"])
    stopped = server.worker_pids()[0]
    wait_until(lambda: f"pid {stopped}" in server.log(), 10, "the worker's start")
    time.sleep(0.6)
    freeze(stopped)
    connections = [socket.create_connection(("127.0.0.1", server.port), 15) for _ in range(60)]
    for connection in connections:
        connection.sendall(b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n\r\n")
    began = time.monotonic()
    for connection in connections:
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        connection.close()
    assert time.monotonic() - began < scaled(4)
    assert process_state(stopped) == "T"
    os.kill(stopped, signal.SIGCONT)


# ---------------------------------------------------------------- the end
@pytest.mark.sanitize
async def test_term_closes_clients_with_1012_and_ends_with_0(opald):
    server = opald(workers=2, args=["--grace-seconds", "6"])

    clients = await connect_many(server.port, 40, "t")
    publisher = await RawClient.connect(server.port)
    assert await publisher.publish("t", 1)
    server.send_signal(signal.SIGTERM)
    began = time.monotonic()
    codes = await asyncio.gather(*(client.wait_closed(10) for client in clients + [publisher]))
    assert set(codes) == {1012}, codes
    assert all(client.close_reason == "" for client in clients)
    for client in clients:
        assert [n.data for n in client.notifies] == [1]
    assert await asyncio.to_thread(server.wait, 8) == 0
    assert time.monotonic() - began < scaled(6.5)
    assert not group_pids(server.pid)


async def test_term_closes_many_clients_at_a_pace(opald):
    """The reference drops all in the same instant; here a worker closes 500 a second, or as many more as half of the grace time asks for."""
    server = opald(workers=1, args=["--grace-seconds", "10"])

    clients = await connect_many(server.port, 300, "t")
    server.send_signal(signal.SIGTERM)
    codes = await asyncio.gather(*(client.wait_closed(10) for client in clients))
    assert set(codes) == {1012}, codes
    assert await asyncio.to_thread(server.wait, 12) == 0
    first, last = (datetime.fromisoformat(re.search(rf"(\S+)\+0000 .*Shutdown: {word} 300 client", server.log()).group(1)) for word in ("closing", "closed"))
    assert timedelta(seconds=0.4) <= last - first < timedelta(seconds=scaled(5))  # a tick ahead: 25 at once


def test_what_workers_committed_before_their_end_leaves_with_the_server(opald, kafka, topic):
    """The master is behind when the last worker ends: what lies in the uplinks goes to the other servers all the same."""
    kafka.create_topic(topic)
    server = opald(workers=2, broadcast_uri=kafka.uri, channel=topic)
    clients = [WireClient(server.port) for _ in range(4)]
    freeze(server.pid)
    try:
        for number, client in enumerate(clients):
            client.send(b"".join(frame(TEXT, json.dumps({"request": {"method": "publish", "arguments": {
                "topics": ["t"], "data": [number, i], "sync": False}, "call_id": "c"}}).encode()) for i in range(1000)))
        for client in clients:
            for _ in range(1000):
                assert '"result": true' in client.read()[1]
        workers = server.worker_pids()
        for client in clients:
            client.close()
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: all(process_state(pid) == "Z" for pid in workers), 20, "end of the workers")
        os.kill(server.pid, signal.SIGTERM)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert server.wait() == 0
    got = [tuple(json.loads(record.value)["data"]) for record in kafka.read(topic, 4000)]
    assert len(got) == 4000
    for number in range(4):
        assert [i for n, i in got if n == number] == list(range(1000))


async def test_no_new_connections_after_term(opald):
    server = opald(workers=2, args=["--grace-seconds", "4"])

    clients = await connect_many(server.port, 20, "t")
    server.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.3)
    if server.is_running():
        with pytest.raises((ConnectionError, TimeoutError, OSError, EOFError)):
            response = await asyncio.to_thread(http_request, server.port, "GET", "/", None, None, None, 1)
            raise AssertionError(f"still served: {response.status}")
    await asyncio.gather(*(client.wait_closed(8) for client in clients))
    assert server.wait(8) == 0


def test_term_with_clients_that_do_not_answer_the_close(opald):
    """Nobody can hold up the end: clients that never read, never close, or are in the middle of a request."""
    server = opald(workers=2, args=["--grace-seconds", "3"])
    stuck = [WireClient(server.port) for _ in range(5)]
    half = server.connection()
    half.send(b"POST /data/config HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    idle = server.connection()
    began = time.monotonic()
    server.send_signal(signal.SIGTERM)
    assert server.wait(8) == 0
    assert time.monotonic() - began < scaled(4.5)
    for client in stuck:
        assert client.closes(2)[0] == 1012
        client.close()
    half.close()
    idle.close()


def test_second_term_ends_at_once(opald):
    server = opald(workers=2, args=["--grace-seconds", "60"])
    stuck = [WireClient(server.port) for _ in range(30)]
    server.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    began = time.monotonic()
    if server.is_running():
        server.send_signal(signal.SIGTERM)
    assert server.wait(5) is not None
    assert time.monotonic() - began < scaled(1.5)
    assert not group_pids(server.pid)
    for client in stuck:
        client.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_int_and_quit_are_quick(opald, number):
    server = opald(workers=2, args=["--grace-seconds", "60"])
    stuck = [WireClient(server.port) for _ in range(10)]
    began = time.monotonic()
    server.send_signal(number)
    assert server.wait(6) == 0
    assert time.monotonic() - began < scaled(3.5)
    assert not group_pids(server.pid)
    for client in stuck:
        client.close()


def test_term_while_starting(opald):
    for delay in (0, 0.01, 0.05, 0.1):
        server = opald(workers=3, ready=False)
        time.sleep(delay)
        server.send_signal(signal.SIGTERM)
        # before the handlers stand TERM ends it as any process
        assert server.wait(10) in (0, -signal.SIGTERM)
        wait_until(lambda: not group_pids(server.pid), 5, "end of the workers")


@pytest.mark.sanitize
def test_master_killed_workers_end_and_nothing_is_left(opald):
    before = shared_memory_names()
    server = opald(workers=3)
    workers = server.worker_pids()
    connection = server.connection()
    assert connection.request("GET", "/").status == 200
    client = WireClient(server.port)
    os.kill(server.pid, signal.SIGKILL)
    server.popen.wait()
    wait_until(lambda: not any(process_state(pid) not in ("", "Z") for pid in workers), 3, "end of the workers")
    client.closes(3)
    client.close()
    connection.close()
    assert shared_memory_names() <= before
    # the port is free at once
    second = opald(port=server.port)
    assert second.request("GET", "/").status == 200


def test_nothing_has_a_name_while_it_runs(opald):
    before = shared_memory_names()
    server = opald(workers=2)
    assert shared_memory_names() <= before
    maps = Path(f"/proc/{server.worker_pids()[0]}/maps").read_text()
    assert "memfd" in maps
    server.stop()
    assert shared_memory_names() <= before


# ---------------------------------------------------------------- more and fewer workers
async def test_ttin_and_ttou(opald):
    server = opald(workers=2)

    clients = await connect_many(server.port, 12, "t")
    publisher = await RawClient.connect(server.port)
    server.send_signal(signal.SIGTTIN)
    await asyncio.to_thread(wait_until, lambda: len(server.worker_pids()) == 3, 5, "a third worker")
    server.send_signal(signal.SIGTTIN)
    await asyncio.to_thread(wait_until, lambda: len(server.worker_pids()) == 4, 5, "a fourth worker")
    await asyncio.to_thread(server.wait_for_log, r"Worker \d+ started, pid", 10, 4)  # the last one may still be on its way
    assert await publisher.publish("t", 1)
    for client in clients:
        await client.expect(1)
    more = await connect_many(server.port, 40, "t")
    counts = {pid: len(held) for pid, held in (await holders(server, clients + more)).items()}
    assert all(counts.values()), f"a new worker without clients: {counts}"
    assert await publisher.publish("t", 2)
    for client in more:
        await client.expect(1)
    for wanted in (3, 2, 1):
        server.send_signal(signal.SIGTTOU)
        await asyncio.to_thread(wait_until, lambda: len(server.worker_pids()) == wanted, 40, f"{wanted} workers")
    # one stays, whatever is asked for
    server.send_signal(signal.SIGTTOU)
    await asyncio.sleep(0.5)
    assert len(server.worker_pids()) == 1
    ended = [client for client in clients + more + [publisher] if client.is_ending()]
    assert ended and {client.close_code for client in ended} == {1012}
    rest = [client for client in clients + more if not client.is_ending()]
    last = await RawClient.connect(server.port)
    assert await last.publish("t", "end")
    for client in rest:
        await client.until(lambda c: c.notifies[-1].data == "end", 5, "the last event")
    await close_all(rest + [last])


def test_a_worker_that_is_taken_away_while_it_starts(opald):
    """The log says so; it was not killed by somebody."""
    server = opald(workers=1)
    early = "was asked to end while it still started"
    for count in range(1, 11):
        server.send_signal(signal.SIGTTIN)
        server.send_signal(signal.SIGTTOU)
        server.wait_for_log(rf"worker \d+ in slot 1 ({early}|exited with status 0)", 10, count)
        if server.log().count(early) == 2:  # unless this process did not run between the signals
            break
    assert server.log().count(early) == 2
    # so does a stop that comes so early
    server.send_signal(signal.SIGTTIN)
    assert server.stop(15) == 0
    assert "killed by signal" not in server.log()


def test_hup_and_usr_signals_do_no_harm(opald):
    server = opald(workers=2)
    workers = server.worker_pids()
    with WireClient(server.port) as client:
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
            server.send_signal(number)
        time.sleep(0.3)
        client.request("ping")
        assert client.read()[0] == "text"
    assert server.worker_pids() == workers


async def test_workers_spread_connections_evenly(opald):
    """The reference leaves one worker with 1 and another with 23 of 40."""
    server = opald(workers=4)

    clients = await connect_many(server.port, 80, at_once=5)
    counts = [len(held) for held in (await holders(server, clients)).values()]
    assert max(counts) <= 2 * 20 and min(counts) >= 20 / 2, counts
    await close_all(clients)


def test_a_thousand_connections_are_spread_within_a_fifth(opald):
    server = opald(workers=3)
    connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(900)]
    try:
        for connection in connections:
            connection.sendall(b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n\r\n")
        for connection in connections:
            assert connection.recv(100)
        held = server.workers_of([connection.getsockname()[1] for connection in connections])
        counts = [list(held.values()).count(pid) for pid in server.worker_pids()]
        assert sum(counts) == 900 and max(counts) <= 1.2 * 300, counts
    finally:
        for connection in connections:
            connection.close()


def test_idle_server_uses_no_processor(opald):
    server = opald(workers=4)
    stay = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]

    def ticks():
        return sum(sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])) for pid in [server.pid, *server.worker_pids()])

    time.sleep(0.5)
    before = ticks()
    time.sleep(3)
    # hundredths of a second of five processes in three seconds
    assert ticks() - before <= 10
    for connection in stay:
        connection.close()
