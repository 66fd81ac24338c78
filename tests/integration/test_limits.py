"""Whatever a peer can make large, slow or many has a limit; the server stays well behind it."""

import asyncio
import socket
import time
from pathlib import Path

import pytest
import websockets

from harness import SANITIZER, HttpConnection, RawClient, WireClient, close_all, connect_many, frame, http_bytes, scaled
from harness.metrics import counter
from harness.wire import CONTINUATION, PING, TEXT

pytestmark = pytest.mark.sanitize


# ---------------------------------------------------------------- slow HTTP clients
def ends_after(connection: HttpConnection, seconds: float):
    """How long until the server ends the connection, and what it said."""
    began = time.monotonic()
    connection.socket.settimeout(scaled(seconds))
    said = connection.read_all()
    return time.monotonic() - began, said


def test_a_silent_connection_is_cut_off(opald):
    server = opald(args=["--http-header-timeout", "1"])
    with server.connection() as connection:
        took, said = ends_after(connection, 5)
        assert took < scaled(2.5) and said == b""


def test_a_head_that_comes_in_drops_is_cut_off(opald):
    """One byte each 100 ms does not win time: the limit is for the whole head."""
    server = opald(args=["--http-header-timeout", "1"])
    with server.connection() as connection:
        began = time.monotonic()
        try:
            for byte in b"GET /healthcheck HTTP/1.1\r\nHost: slow.example.org\r\nX-A: " + b"a" * 200:
                connection.send(bytes([byte]))
                time.sleep(0.1)
                if time.monotonic() - began > scaled(4):
                    pytest.fail("still open")
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert time.monotonic() - began < scaled(3.5)


def test_a_body_that_does_not_come_is_cut_off(opald):
    server = opald(args=["--http-body-timeout", "1"])
    with server.connection() as connection:
        connection.send(b"POST /data/config HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        took, said = ends_after(connection, 5)
        assert took < scaled(2.5)
        assert said == b"" or said.startswith(b"HTTP/1.1 408 "), said


def test_an_idle_keepalive_connection_is_closed(opald):
    server = opald(args=["--http-keepalive-timeout", "1"])
    with server.connection() as connection:
        assert connection.request("GET", "/").status == 200
        time.sleep(0.5)
        assert connection.request("GET", "/").status == 200
        took, said = ends_after(connection, 5)
        assert 0.5 < took < scaled(2.5) and said == b""


def test_default_keepalive_is_five_seconds(shared_opald):
    with shared_opald.connection() as connection:
        assert connection.request("GET", "/").status == 200
        took, said = ends_after(connection, 10)
        assert 4 < took < scaled(7) and said == b""


def test_slow_clients_do_not_hinder_others(opald):
    server = opald(args=["--http-header-timeout", "3"])
    slow = [server.connection() for _ in range(200)]
    for connection in slow:
        connection.send(b"GET / HT")
    began = time.monotonic()
    for _ in range(20):
        assert server.request("GET", "/healthcheck").status == 200
    assert time.monotonic() - began < scaled(1)
    for connection in slow:
        assert connection.is_closed_by_peer(6)
        connection.close()


def resident(pid: int) -> int:
    """Bytes of memory that the process holds."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def flood(connection: socket.socket, data: bytes, seconds: float, most: int) -> tuple[int, bool]:
    """Sends `data` again and again without reading: (bytes taken, whether the peer ended it)."""
    connection.settimeout(0.5)
    sent = 0
    deadline = time.monotonic() + scaled(seconds)
    while time.monotonic() < deadline and sent < most:
        try:
            sent += connection.send(data)
        except TimeoutError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            return sent, True
    return sent, False


GROWTH = 24 << 20  # what a worker may take for one bad client, with the limits below


def test_a_client_that_does_not_read_its_answers(opald):
    """Pipelined requests whose answers nobody reads: bounded memory, no more is read, then the connection ends."""
    server = opald(args=["--client-queue-max-seconds", "2", "--client-queue-max-bytes", "1m", "--event-max-bytes", "64k"])
    (worker,) = server.worker_pids()
    before = resident(worker)
    with HttpConnection(server.port, receive_buffer=4096) as connection:
        flood(connection.socket, b"GET /data/config HTTP/1.1\r\nHost: x\r\n\r\n" * 500, 1.5, 1 << 30)
        if not SANITIZER:  # they hold on to what was freed
            assert resident(worker) - before < GROWTH
        _, ended = flood(connection.socket, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 500, 15, 1 << 40)
        assert ended
    assert server.request("GET", "/").status == 200


@pytest.mark.parametrize("kind", ["calls", "pings", "publishes", "subscribes"])
def test_a_websocket_client_that_does_not_read_its_answers(opald, kind):
    server = opald(args=["--client-queue-max-seconds", "2", "--client-queue-max-bytes", "1m", "--event-max-bytes", "64k"])
    (worker,) = server.worker_pids()
    message = {
        "calls": frame(TEXT, b'{"request": {"method": "ping", "call_id": "%s"}}' % (b"x" * 3000)),
        "pings": frame(PING, b"x" * 125),
        "publishes": frame(TEXT, b'{"request": {"method": "publish", "arguments": {"topics": ["t"], "sync": false, "data": 1}, "call_id": "c"}}'),
        "subscribes": frame(TEXT, b'{"request": {"method": "subscribe", "arguments": {"topics": ["t"]}, "call_id": "c"}}'),
    }[kind]
    before = resident(worker)
    with WireClient(server.port, receive_buffer=4096) as client:
        flood(client.socket, message * 500, 1.5, 64 << 20)
        if not SANITIZER:
            assert resident(worker) - before < GROWTH
        _, ended = flood(client.socket, message * 500, 15, 1 << 40)
        assert ended
    assert server.request("GET", "/").status == 200
    assert server.worker_pids() == [worker]


# ---------------------------------------------------------------- sizes
def test_head_limits(opald):
    server = opald(args=["--http-header-max-bytes", "4096", "--http-header-max-count", "20"])
    for raw in (
        b"GET /" + b"a" * 8000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 8000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(60)) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"x" * 8000,
    ):
        said = http_bytes(server.port, raw)
        assert said[:12] in (b"HTTP/1.1 431", b"HTTP/1.1 414", b"HTTP/1.1 400"), said[:100]
    assert server.request("GET", "/", headers={"X": "a" * 3000}).status == 200


def test_body_limit(opald):
    server = opald(args=["--http-body-max-bytes", "10000"])
    head = b"POST /data/config HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    # refused by its length, before the body has come
    said = http_bytes(server.port, head + b"Content-Length: 10001\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 413 "), said[:100]
    # chunks without a length
    said = http_bytes(server.port, head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"400\r\n" + b"x" * 1024 + b"\r\n" for _ in range(12)))
    assert said.startswith(b"HTTP/1.1 413 "), said[:100]
    # a length that no machine has
    said = http_bytes(server.port, head + b"Content-Length: 99999999999999999999999\r\n\r\n")
    assert said[:12] in (b"HTTP/1.1 413", b"HTTP/1.1 400"), said[:100]
    assert server.publish("t", {"x": "x" * 5000}).status == 200


@pytest.mark.parametrize("raw", [
    b"\r\n\r\n\r\n", b"\x00\x01\x02\x03\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nHost x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x11" * 300,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    b"POST /data/config HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"POST /data/config HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
])
def test_nonsense_is_refused_and_the_server_lives(raw, shared_opald):
    said = http_bytes(shared_opald.port, raw, timeout=1)
    assert said == b"" or said[:10] in (b"HTTP/1.1 4", b"HTTP/1.0 4"), said[:200]
    assert shared_opald.request("GET", "/").status == 200


def test_websocket_message_limit(opald):
    server = opald(args=["--websocket-message-max-bytes", "10000"])
    with WireClient(server.port) as client:
        client.send(frame(TEXT, b" " * 9900 + b"{}"))
        client.request("ping")
        assert client.read()[0] == "text"
        client.send(frame(TEXT, b" " * 10001))
        assert client.closes()[0] == 1009
    with WireClient(server.port) as client:
        client.send(frame(TEXT, b" " * 6000, fin=False) + frame(CONTINUATION, b" " * 6000))
        assert client.closes()[0] == 1009
    # very many empty fragments hold no memory and no processor
    with WireClient(server.port) as client:
        client.send(frame(TEXT, b"", fin=False) + frame(CONTINUATION, b"", fin=False) * 20000 + frame(CONTINUATION, b'{"request": {"method": "ping", "call_id": "c"}}'))
        assert client.read()[0] == "text"


async def test_subscription_and_topic_limits(opald):
    server = opald(args=["--subscriptions-max", "50", "--topics-max", "20", "--topic-max-bytes", "100"])

    async with RawClient.open(server.port) as client:
        assert await client.subscribe("x" * 100) is True
        assert await client.subscribe("x" * 101) is False
        assert await client.subscribe(*(f"a{i}" for i in range(20))) is True
        assert await client.subscribe(*(f"b{i}" for i in range(21))) is False
        assert await client.subscribe(*(f"c{i}" for i in range(20))) is True
        # 41 now: these would be 61; all or nothing
        assert await client.subscribe(*(f"d{i}" for i in range(20))) is False
        assert await client.publish([f"t{i}" for i in range(21)], 1) is False
        assert await client.publish("y" * 101, 1) is False
        async with RawClient.open(server.port) as publisher:
            for topic in ("x" * 100, "a0", "c19", "b0", "d0"):
                assert await publisher.publish(topic, topic)
        await client.expect(3)
        await client.barrier()
        assert [n.topic for n in client.notifies] == ["x" * 100, "a0", "c19"]
        # room is given back
        assert await client.unsubscribe(*(f"a{i}" for i in range(20))) is True
        assert await client.subscribe(*(f"d{i}" for i in range(20))) is True


async def test_names_of_topics_count_as_memory_of_clients(opald):
    """Clients with very many long topics of their own are closed before the worker holds more than it may; one with few stays."""
    server = opald(env={"OPAL_CLIENTS_MEMORY_MAX_BYTES": "8m"})

    honest = await RawClient.connect(server.port)
    assert await honest.subscribe("t", "é" * 2000)
    greedy = []
    for number in range(8):  # 4.7 MB each: the name, and as it stands in frames, where each é takes six bytes
        client = await RawClient.connect(server.port)
        greedy.append(client)
        try:
            for part in range(4):
                assert await client.subscribe(*(f"{number}.{part}.{i}." + "é" * 1500 for i in range(100)))
        except (ConnectionError, websockets.ConnectionClosed):
            pass
    for _ in range(100):
        closed = [client for client in greedy if client.is_closed]
        if len(closed) >= 6:
            break
        await asyncio.sleep(scaled(0.05))
    assert 6 <= len(closed) < len(greedy)  # those that fit stay
    assert {client.close_code for client in closed} == {1013}
    assert server.publish("t", {"n": 1}).status == 200
    await honest.expect(1)
    assert not honest.is_closed
    await close_all([honest, *greedy])
    # and it is given back
    async with RawClient.open(server.port) as client:
        for part in range(4):
            assert await client.subscribe(*(f"{part}.{i}." + "é" * 1500 for i in range(100)))
    assert counter(server, "clients_closed_memory_limit") >= 6


async def test_connection_limit_of_the_host(opald):
    server = opald(workers=2, args=["--connections-max", "30"])

    clients = await connect_many(server.port, 30, "t", at_once=5)
    refused = 0
    for _ in range(5):
        try:
            extra = await RawClient.connect(server.port, timeout=3)
            await extra.close()
        except Exception:  # refused with 503, closed or reset: anything but served
            refused += 1
    assert refused == 5
    publisher_free = clients.pop()
    await publisher_free.close()
    await asyncio.sleep(0.3)
    again = await RawClient.connect(server.port)
    assert await again.publish("t", 1) is True
    for client in clients:
        await client.expect(1)
    await close_all(clients + [again])


async def test_out_of_descriptors_is_survived(opald):
    """With few descriptors left, connections wait or are refused; those that exist go on, and later ones are served again."""
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # the server raises its soft limit to the hard one, so the hard one has to go down, in a child's life only
    server = opald(workers=1, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80)))

    client = await RawClient.connect(server.port)
    await client.subscribe("t")
    idle = []
    for _ in range(120):
        made = socket.create_connection(("127.0.0.1", server.port))
        idle.append(made)
    await asyncio.sleep(0.5)
    assert await client.call("ping") == "pong"
    for made in idle:
        made.close()
    await asyncio.sleep(0.5)
    publisher = await RawClient.connect(server.port)
    assert await publisher.publish("t", 1)
    await client.expect(1)
    await close_all([client, publisher])
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


def test_memory_stays_bounded_under_garbage(opald):
    """Ten thousand connections' worth of nonsense: the worker's memory does not grow with it."""
    server = opald(workers=1)
    (worker,) = server.worker_pids()

    def garbage(times):
        for i in range(times):
            with server.connection() as connection:
                connection.send([b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\n", b"\xff" * 500, b"GET / HT", b"POST /data/config HTTP/1.1\r\nContent-Length: 5\r\n\r\n{}"][i % 4])
                if i % 4 == 0:
                    connection.read_response()

    garbage(500)
    before = resident(worker)
    garbage(4000)
    assert SANITIZER or resident(worker) - before < 8 << 20
    assert server.worker_pids() == [worker]


def test_pings_by_option(opald):
    """Interval and time limit of the server's pings are options; a silent peer is closed with 1011, one that answers stays."""
    server = opald(args=["--websocket-ping-interval", "0.5", "--websocket-ping-timeout", "1"])
    with WireClient(server.port) as silent, WireClient(server.port) as answers:
        began = time.monotonic()
        assert silent.read(3)[0] == "ping"
        while time.monotonic() - began < scaled(2.5):
            try:
                got = answers.read(0.2)
            except TimeoutError:
                continue
            assert got[0] == "ping"
            answers.send(frame(10, got[1]))
        frames = silent.read_until_quiet(1.5)
        assert ("close", 1011, "keepalive ping timeout") in frames and frames[-1] == ("eof",), frames
        while True:
            try:
                got = answers.read(0.05)
            except TimeoutError:
                break
            assert got[0] == "ping"
            answers.send(frame(10, got[1]))
        answers.request("ping")
        assert answers.read(2)[0] in ("text", "ping")


def test_what_a_client_does_not_take_waits_in_our_memory(opald):
    """Not in the kernel's, which would keep megabytes of copies for each: what it has not sent yet stays below the option."""
    server = opald(env={"OPAL_CLIENT_UNSENT_MAX_BYTES": "64k", "OPAL_CLIENT_QUEUE_MAX_BYTES": "64m"})
    with WireClient(server.port) as client:
        client.request("subscribe", {"topics": ["t"]}, call_id="s")
        assert client.read()[0] == "text"
        for _ in range(24):
            assert server.publish("t", {"x": "x" * 900_000}).status == 200
        server.wait_until(lambda: counter(server, "deliveries") >= 24, 10, "deliveries")
        ours, theirs = (f"0100007F:{port:04X}" for port in (server.port, client.socket.getsockname()[1]))

        def queued(local, remote, which):
            row = next(line.split() for line in Path("/proc/net/tcp").read_text().splitlines() if line.split()[1:3] == [local, remote])
            return int(row[4].split(":")[which], 16)

        # a queue of sending holds what was sent and not acknowledged too; the peer acknowledges what its window has room for
        server.wait_until(lambda: queued(theirs, ours, 1) > 100_000, 10, "a full window")
        time.sleep(0.3)
        assert queued(ours, theirs, 0) < 300_000
