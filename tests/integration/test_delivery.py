"""Events from where they enter to every subscriber: exactly once, in order, unchanged, whoever else misbehaves."""

import asyncio
import json
import socket
import time

import pytest

from harness import RawClient, WireClient, close_all, connect_many, expect_all, frame, scaled
from harness.wire import handshake_request

pytestmark = pytest.mark.sanitize


def data_of(client, topic=None):
    return [n.data for n in client.notifies if topic is None or n.topic == topic]


async def spread(server, clients):
    """How many of the clients each worker holds."""
    held = list(server.workers_of([client.local_port for client in clients]).values())
    return {pid: held.count(pid) for pid in server.worker_pids()}


async def test_four_workers_hundred_clients_each_event_once_in_order(opald):
    """No backbone: what any worker takes in, by HTTP or websocket, reaches the clients of all four."""
    server = opald(workers=4)

    clients = await connect_many(server.port, 100, "t")
    counts = await spread(server, clients)
    assert all(counts.values()), f"a worker without clients proves nothing: {counts}"
    publishers = await connect_many(server.port, 4)
    expected = 0
    for i in range(50):
        assert await publishers[i % 4].publish("t", {"i": expected}) is True
        expected += 1
        response = await asyncio.to_thread(server.publish, "t", {"i": expected})
        assert response.status == 200 and response.json() == {"status": "ok"}
        expected += 1
    await expect_all(clients, expected, 20)
    await asyncio.gather(*(client.barrier() for client in clients))

    def number(data):
        return data["i"] if "i" in data else data["entries"][0]["data"]["i"]

    for client in clients:
        assert [number(d) for d in data_of(client)] == list(range(expected))
    # publishers are not subscribed: nothing for them
    assert all(not p.notifies for p in publishers)
    await close_all(clients + publishers)


async def test_many_events_at_once_keep_each_publishers_order(opald):
    """Publishers on all workers at full speed: one order for everybody, and each publisher's own order within it."""
    server = opald(workers=4)

    clients = await connect_many(server.port, 20, "t")
    publishers = await connect_many(server.port, 8)

    async def publish(number):
        pending = [await publishers[number].start_call("publish", {"topics": ["t"], "data": [number, i], "sync": True}) for i in range(100)]
        for future in pending:
            assert (await asyncio.wait_for(future, scaled(20)))["result"] is True

    await asyncio.gather(*(publish(number) for number in range(8)))
    await expect_all(clients, 800, 20)
    orders = {json.dumps(data_of(client)) for client in clients}
    assert len(orders) == 1, "clients saw different orders"
    order = data_of(clients[0])
    assert len(order) == 800
    for number in range(8):
        assert [i for n, i in order if n == number] == list(range(100))
    await close_all(clients + publishers)


async def test_each_subscription_of_each_topic(opald):
    server = opald(workers=2)

    clients = await connect_many(server.port, 6)
    for client in clients[:3]:
        assert await client.subscribe("a", "b", "c")
    for client in clients[3:]:
        assert await client.subscribe("b")
        assert await client.subscribe("b")
    publisher = await RawClient.connect(server.port)
    assert await publisher.publish(["a", "b", "nobody"], 1)
    await expect_all(clients, 2)
    await asyncio.gather(*(client.barrier() for client in clients))
    for client in clients[:3]:
        assert [n.topic for n in client.notifies] == ["a", "b"]
    for client in clients[3:]:
        assert [n.topic for n in client.notifies] == ["b", "b"]
        assert len({n.subscription["id"] for n in client.notifies}) == 2
        channel = await client.channel_id()
        assert {n.subscription["subscriber_id"] for n in client.notifies} == {channel}
    call_ids = [n.call_id for client in clients for n in client.notifies]
    assert len(set(call_ids)) == len(call_ids), "call ids must be unique"
    await close_all(clients + [publisher])


async def test_notifier_is_skipped_across_workers(opald):
    """A publisher never hears itself, and a notifier id that names a client of another worker skips that client."""
    server = opald(workers=4)

    clients = await connect_many(server.port, 16, "t")
    channels = [await client.channel_id() for client in clients]
    assert len(set(channels)) == 16
    for i, client in enumerate(clients):
        assert await client.publish("t", i)
    assert await clients[0].publish("t", "named", notifier_id=channels[9])
    for i, client in enumerate(clients):
        wanted = [n for n in range(16) if n != i] + ([] if i == 9 else ["named"])
        await client.expect(len(wanted))
        await client.barrier()
        assert data_of(client) == wanted
    await close_all(clients)


async def test_sync_publish_to_oneself_does_not_block(opald):
    """The reference deadlocks here (defects)."""
    server = opald()

    async with RawClient.open(server.port) as client:
        await client.subscribe("t")
        assert await client.publish("t", 1, notifier_id="other", timeout=5) is True
        await client.expect(1)


async def test_subscriber_misses_nothing_published_after_its_answer(opald):
    """Once subscribe has been answered, every later event arrives, whatever worker it enters by."""
    server = opald(workers=4)

    publishers = await connect_many(server.port, 4)
    for i in range(60):
        client = await RawClient.connect(server.port)
        assert await client.subscribe(f"t{i}")
        assert await publishers[i % 4].publish(f"t{i}", i)
        await client.expect(1)
        await client.close()
    await close_all(publishers)


# ---------------------------------------------------------------- payloads
def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


TEXTS = {
    "beyond_double": "9007199254740993",
    "big_integer": "123456789012345678901234567890123456789012345678901234567890",
    "negative_big": "-9007199254740993",
    "one_point_zero": "1.0",
    "many_digits": "3.14159265358979323846264338327950288419716939937510",
    "trailing_zeros": "1.500000000000000000000000",
    "exponent": "1e400",
    "negative_exponent": "1E-400",
    "exponent_plus": "1.0E+2",
    "minus_zero": "-0",
    "minus_zero_float": "-0.0",
    "duplicate_keys": '{"a": 1, "a": 2, "b": {"a": 1, "a": 2}}',
    "key_order": '{"z": 1, "y": 2, "a": 3}',
    "escapes": r'"\"\\\/\b\f\n\r\t\u0000\u001f\u00e9\ud83d\ude00"',
    "escaped_surrogate_alone": r'"\ud800"',
    "raw_unicode": '"é€😀\u2028\u007f"',
    "escaped_key": r'{"\u0061\"": 1}',
    "white_space": '{ "a" : [ 1 ,\t2\n,\r3 ] }',
    "empty_key": '{"": ""}',
    "nested_to_20": '{"a":' * 10 + nested(10) + "}" * 10,
}


@pytest.mark.parametrize("name", sorted(TEXTS))
async def test_data_passes_unchanged(name, shared_opald):
    """`data` of a websocket publish comes out as the text that went in."""
    text = TEXTS[name]

    async with RawClient.open(shared_opald.port) as client, RawClient.open(shared_opald.port) as publisher:
        await client.subscribe(name)
        assert await publisher.publish_text(name, text) is True
        assert (await client.expect(1))[0].data_text() == text


@pytest.mark.parametrize("name", sorted(TEXTS))
async def test_inline_data_of_an_update_passes_unchanged(name, shared_opald):
    """The same for `data` inside an entry of POST /data/config: each value keeps its digits and escapes."""
    text = '{"v": %s}' % TEXTS[name]

    async with RawClient.open(shared_opald.port) as client:
        await client.subscribe(f"http-{name}")
        body = '{"entries": [{"url": "u", "topics": ["http-%s"], "dst_path": "/x", "save_method": "PUT", "data": %s}]}' % (name, text)
        response = await asyncio.to_thread(shared_opald.request, "POST", "/data/config", body.encode(), {"content-type": "application/json"})
        assert response.status == 200, response.text
        arrived = (await client.expect(1))[0].data_text()
        assert tokens(TEXTS[name]) in tokens(arrived), arrived


def tokens(text: str) -> str:
    """JSON text without the white space between its tokens."""
    out, inside, escaped = [], False, False
    for char in text:
        if inside:
            inside = escaped or char != '"'
            escaped = char == "\\" and not escaped
            out.append(char)
        elif char not in " \t\r\n":
            inside = char == '"'
            out.append(char)
    return "".join(out)


BAD_TEXTS = ["", "{", "[1,]", '{"a":}', "01", "1.", ".5", "+1", "'x'", "tru", '"\x01"', r'"\x"', r'"\u12"', "[1 2]", '{"a" 1}', '{1: 2}', "1 2"]


@pytest.mark.parametrize("text", BAD_TEXTS)
async def test_publish_of_bad_json_ends_the_connection_and_delivers_nothing(text, shared_opald):
    async with RawClient.open(shared_opald.port) as client, RawClient.open(shared_opald.port) as publisher:
        await client.subscribe("bad-json")
        await publisher.send('{"request": {"method": "publish", "arguments": {"topics": ["bad-json"], "data": %s}, "call_id": "c"}}' % text)
        assert await publisher.wait_closed() == 1000
        async with RawClient.open(shared_opald.port) as other:
            await other.publish("bad-json", "end")
        assert [n.data for n in await client.expect(1)] == ["end"]


async def test_nesting_up_to_the_limit_and_past_it(opald):
    server = opald(args=["--json-max-depth", "64"])

    async with RawClient.open(server.port) as client:
        await client.subscribe("t")
        delivered = 0
        for depth in range(40, 80):
            publisher = await RawClient.connect(server.port)
            try:
                ok = await publisher.publish_text("t", nested(depth))
            except ConnectionError:
                ok = False
            await publisher.close()
            if ok:
                delivered += 1
                assert depth == 40 + delivered - 1, "refused at a depth, taken at a greater one"
                assert (await client.expect(delivered))[-1].data_text() == nested(depth)
        assert 40 + delivered <= 65 and delivered > 10, f"{delivered} depths taken with a limit of 64"
        # the server is still there, also for a depth that would break a recursive parser
        deep = await RawClient.connect(server.port)
        try:
            assert await deep.publish_text("t", nested(1_000_000)) is not True
        except ConnectionError:
            pass
        assert server.request("POST", "/data/config", nested(200_000).encode(), {"content-type": "application/json"}).status in (400, 413, 422)
        assert await client.call("ping") == "pong"
        await client.barrier()
        assert len(client.notifies) == delivered


async def test_bodies_around_a_mebibyte(opald):
    """What fits the event limit passes whole, by HTTP and by websocket; what does not is refused with 413 and false."""
    server = opald(workers=2)

    async with RawClient.open(server.port) as client, RawClient.open(server.port) as publisher:
        await client.subscribe("t")
        for size in (100_000, 500_000, 1_000_000, 1_040_000):
            text = "x" * size
            assert await publisher.publish("t", text) is True
            assert (await client.expect(1))[0].data == text
            client.notifies.clear()
            assert server.publish("t", {"text": text}).status == 200
            assert (await client.expect(1))[0].data["entries"][0]["data"] == {"text": text}
            client.notifies.clear()
        text = "x" * (1 << 20)
        assert await publisher.publish("t", text) is False
        refused = server.publish("t", {"text": text})
        assert refused.status == 413, refused
        assert "1048576" in refused.text, refused.text
        # nothing of it arrives, and the connections live on
        assert await publisher.publish("t", "end") is True
        assert [n.data for n in await client.expect(1)] == ["end"]


async def test_larger_events_by_option(opald):
    server = opald(workers=2, args=["--event-max-bytes", "6m", "--uplink-bytes", "16m", "--client-queue-max-bytes", "16m"])

    async with RawClient.open(server.port) as client, RawClient.open(server.port) as publisher:
        await client.subscribe("t")
        text = "y" * (5 << 20)
        assert await publisher.publish("t", text) is True
        assert (await client.expect(1))[0].data == text
        assert await publisher.publish("t", "y" * (7 << 20)) is False


# ---------------------------------------------------------------- bad company
async def test_a_client_that_never_reads_and_one_that_never_replies(opald):
    """Beside a hundred good clients: the good ones get everything at once, the one that does not read is closed at its limit and
    counted, the mute one just gets its events."""
    # 100 events of 64 KiB: more than a socket's buffers and the limit hold
    server = opald(workers=1, args=["--client-queue-max-bytes", str(1 << 20)])

    good = await connect_many(server.port, 100, "t")
    mute = await RawClient.connect(server.port, reply=False)
    assert await mute.subscribe("t")
    publisher = await RawClient.connect(server.port)
    blocked = await asyncio.to_thread(WireClient, server.port, "/ws", None, 20, 4096)
    await asyncio.to_thread(blocked.request, "subscribe", {"topics": ["t"]})
    assert (await asyncio.to_thread(blocked.read))[0] == "text"
    text = "x" * 65536
    slowest = 0.0
    for i in range(100):
        began = time.monotonic()
        assert await publisher.publish("t", [i, text]) is True
        await expect_all(good + [mute], 1)
        slowest = max(slowest, time.monotonic() - began)
        for client in good + [mute]:
            assert [n.data[0] for n in client.notifies] == [i]
            client.notifies.clear()
    # 6.5 MB to 100 clients in this process: a second would mean that somebody was waited for
    assert slowest < scaled(1), f"{slowest:.2f} s for one event"
    # the one that does not read: its TCP connection is ended by the server
    def ended():
        deadline = time.monotonic() + scaled(15)
        while time.monotonic() < deadline:
            try:
                if blocked.read(1)[0] in ("eof", "close"):
                    return True
            except (TimeoutError, AssertionError):
                continue
        return False
    assert await asyncio.to_thread(ended), "the client that does not read was not closed"
    assert await good[0].call("ping") == "pong"
    await close_all(good + [mute, publisher])
    blocked.close()
    assert [line for line in server.log().splitlines() if "WARNING" in line and ("slow" in line or "queue" in line or "unread" in line)], server.log_tail()


async def test_a_client_that_reads_slowly_but_in_time_gets_everything(opald):
    server = opald()

    publisher = await RawClient.connect(server.port)
    slow = await asyncio.to_thread(WireClient, server.port, "/ws", None, 20, 8192)
    slow.request("subscribe", {"topics": ["t"]})
    slow.read()
    for i in range(40):
        assert await publisher.publish("t", [i, "x" * 10000]) is True

    def read_all():
        got = []
        for _ in range(40):
            got.append(json.loads(slow.read(10)[1])["request"]["arguments"]["data"][0])
            time.sleep(0.02)
        return got

    assert await asyncio.to_thread(read_all) == list(range(40))
    await publisher.close()


async def test_a_client_that_stops_in_the_middle_of_a_frame_harms_nobody(opald):
    server = opald()

    good = await connect_many(server.port, 5, "t")
    half = []
    for cut in (1, 3, 7, 20):
        stuck = await asyncio.to_thread(WireClient, server.port)
        stuck.send(frame(1, b'{"request": {"method": "ping", "call_id": "c"}}')[:cut])
        half.append(stuck)
    gone = socket.create_connection(("127.0.0.1", server.port))
    gone.sendall(handshake_request()[:50])
    publisher = await RawClient.connect(server.port)
    assert await publisher.publish("t", 1) is True
    await expect_all(good, 1)
    for stuck in half:
        stuck.close()
    gone.close()
    assert await publisher.publish("t", 2) is True
    await expect_all(good, 2)
    await close_all(good + [publisher])


async def test_connections_that_come_and_go(opald):
    """Three hundred connections dropped without a goodbye, while events flow: the subscribers that stay miss nothing."""
    server = opald(workers=2)

    stay = await connect_many(server.port, 10, "t")
    publisher = await RawClient.connect(server.port)
    sent = 0
    for _ in range(15):
        passing = await connect_many(server.port, 20, "t", "other")
        for i in range(3):
            assert await publisher.publish("t", sent) is True
            sent += 1
        for client in passing:
            client.abort()
        assert await publisher.publish("t", sent) is True
        sent += 1
    for client in stay:
        await client.expect(sent)
        await client.barrier()
        assert data_of(client) == list(range(sent))
    await close_all(stay + [publisher])
