"""Fleets linked by Redis and by Postgres in good days: opald with opald, opald with the reference. What clients see while the backbone suffers:
test_backbone_faults.py."""

import asyncio
import json
import re
import time

import pytest

from harness import RawClient, close_all, connect_many
from harness.backbones import PostgresServer, RedisServer
from harness.paths import scaled

pytestmark = pytest.mark.limit(120)

QUICK = {"OPAL_BROADCAST_RECONNECT_BACKOFF_MIN_SECONDS": "0.1", "OPAL_BROADCAST_RECONNECT_BACKOFF_MAX_SECONDS": "0.5",
         "OPAL_BROADCAST_RESYNC_SETTLE_SECONDS": "1"}


@pytest.fixture
def make_redis(work):
    """make_redis(setting, ..., name=...): a server with settings of the test's own."""
    made = []
    yield lambda *settings, **options: made.append(RedisServer(work, *settings, **options)) or made[-1]
    for server in made:
        server.stop()


@pytest.fixture(params=[RedisServer, PostgresServer], ids=["redis", "postgres"])
def backbone(request, work):
    server = request.param(work, name="backbone")
    yield server
    server.stop()


@pytest.fixture
def postgres(work):
    server = PostgresServer(work, name="backbone")
    yield server
    server.stop()


class Steady:
    """A client that comes back after each end of its connection, as opal-client does. `log` holds the numbers it got and the word "subscribed"
    each time it (re)subscribed, which is when an opal-client refetches everything."""

    def __init__(self, port, topic="n"):
        self.port, self.topic = port, topic
        self.log: list = []
        self.closes: list = []
        self.stopping = False
        self.ready = asyncio.Event()
        self.task = asyncio.create_task(self._live())

    async def _live(self):
        while not self.stopping:
            self.client = await RawClient.connect(self.port)
            taken = 0
            assert await self.client.subscribe(self.topic) is True
            self.log.append("subscribed")
            self.ready.set()

            def take():
                nonlocal taken
                for notify in self.client.notifies[taken:]:
                    self.log.append(notify.data)
                taken = len(self.client.notifies)

            while not self.client.is_closed:
                await asyncio.sleep(0.02)
                take()
            take()
            self.closes.append(self.client.close_code)

    def numbers(self):
        return [n for n in self.log if n != "subscribed"]

    async def wait_for(self, number, seconds=30):
        deadline = time.monotonic() + scaled(seconds)
        while number not in self.numbers()[-2000:]:
            assert time.monotonic() < deadline, f"no {number}; last: {self.log[-5:]}, closes {self.closes}"
            await asyncio.sleep(0.05)

    async def stop(self):
        self.stopping = True
        await self.client.close()
        await asyncio.wait({self.task}, timeout=5)

    def check(self, sent):
        """Order of what is new; what is missing lies before a refetch. Returns (missing, duplicates)."""
        seen, place, fresh, duplicates = set(), {}, [], 0
        for i, entry in enumerate(self.log):
            if entry == "subscribed":
                continue
            if entry in seen:
                duplicates += 1
                continue
            seen.add(entry)
            fresh.append(entry)
            place[entry] = i
        assert fresh == sorted(fresh), "out of order"
        refetches = [i for i, entry in enumerate(self.log) if entry == "subscribed"]
        missing = [n for n in range(sent) if n not in seen]
        for n in missing:
            earlier = [m for m in fresh if m < n]
            before = place[earlier[-1]] if earlier else 0
            assert any(r > before for r in refetches), f"{n} was lost and no refetch came afterwards"
        return len(missing), duplicates


async def publish_numbers(port, count, seconds, act=None, start=0, topic="n"):
    """Over one websocket, in order; act(elapsed) between batches may be slow (it runs in a thread)."""
    publisher = await RawClient.connect(port)
    replies = []
    began = time.monotonic()
    for batch in range(100):
        for n in range(start + batch * count // 100, start + (batch + 1) * count // 100):
            replies.append(await publisher.start_call("publish", {"topics": [topic], "data": n, "sync": False}))
        if act:
            await asyncio.to_thread(act, time.monotonic() - began)
        await asyncio.sleep(max(0, began + (batch + 1) * seconds / 100 - time.monotonic()))
    for reply in replies:
        assert (await asyncio.wait_for(reply, 20))["result"] is True
    await publisher.close()


def both(opald, backbone, topic, uris=None, workers=2, **env):
    uris = uris or (backbone.uri, backbone.uri)
    servers = [opald(workers=workers, broadcast_uri=uri, channel=topic, env={**QUICK, **env}) for uri in uris]
    for server in servers:
        server.wait_for_log("Broadcaster listener connected to channel")
    return servers


async def test_two_servers(opald, backbone, topic):
    """100 clients on the other server: each event once, in order, both ways; by HTTP and by websocket."""
    one, two = both(opald, backbone, topic)

    there = await connect_many(two.port, 100, "n", "policy_data")
    here = await connect_many(one.port, 5, "n", "policy_data")
    await publish_numbers(one.port, 300, 1)
    assert (await asyncio.to_thread(one.publish, "policy_data", {"from": "one"})).status == 200
    assert (await asyncio.to_thread(two.publish, "policy_data", {"from": "two"})).status == 200
    for client in there + here:
        await client.expect(302, 20)
        await client.barrier()
        assert [n.data for n in client.notifies if n.topic == "n"] == list(range(300))
        # each was heard at once where it was published: between two servers there is no order
        assert sorted(n.data["entries"][0]["data"]["from"] for n in client.notifies if n.topic == "policy_data") == ["one", "two"]
        assert len(client.notifies) == 302
    await close_all(there + here)


async def test_with_the_reference(opald, reference, backbone, topic):
    """Events cross both ways, and nothing of ours (heartbeats, large events by a row) hurts the reference's reader."""
    ours = opald(workers=2, broadcast_uri=backbone.uri, channel=topic, env={**QUICK, "OPAL_BROADCAST_HEARTBEAT_SECONDS": "2"})
    theirs = reference(workers=1, broadcast_uri=backbone.uri, channel=topic)

    there = await RawClient.connect(theirs.port)
    await there.subscribe("t", "u", "policy_data", "large")
    await asyncio.to_thread(theirs.wait_for_log, "Broadcaster listener connected", 30)
    await asyncio.sleep(1)
    here = await connect_many(ours.port, 8, "t", "u", "policy_data", "large")
    assert (await asyncio.to_thread(ours.publish, "policy_data", {"from": "opald", "é": "😀"})).status == 200
    (first,) = await there.expect(1)
    assert (await asyncio.to_thread(theirs.publish, "policy_data", {"from": "reference", "é": "😀"})).status == 200
    for client in here:
        await client.expect(2)
        assert [n.data["entries"][0]["data"] for n in client.notifies] == [{"from": "opald", "é": "😀"}, {"from": "reference", "é": "😀"}]
        assert client.notifies[0].data == first.data
    await there.expect(2)
    publisher_here, publisher_there = await RawClient.connect(ours.port), await RawClient.connect(theirs.port)
    assert await publisher_here.publish("large", "x" * 20000) is True
    for i in range(20):
        assert await publisher_here.publish("t", i)
    await asyncio.sleep(3)  # some heartbeats
    for i in range(20):
        assert await publisher_there.publish("u", i)
    await publisher_here.publish("t", 20)
    large = 0 if backbone.scheme == "postgres" else 1  # more than NOTIFY takes: among ours only
    await there.expect(2 + 21 + 20 + large, 20)
    assert [n.data for n in there.notifies if n.topic == "t"] == list(range(21))
    for client in here:
        await client.expect(2 + 1 + 21 + 20, 20)
        await client.barrier()
        assert sorted(n.data for n in client.notifies if n.topic == "u") == list(range(20))
        assert len(client.notifies) == 44
    await close_all(here + [there, publisher_here, publisher_there])
    assert "Failed handling incoming broadcast" not in theirs.log()
    assert "Broadcaster listener error" not in theirs.log() + ours.log()


async def test_backbone_comes_later(opald, backbone, topic):
    """The server starts and serves without it; what is published meanwhile reaches the others when it comes."""
    backbone.kill()
    one, two = [opald(workers=1, broadcast_uri=backbone.uri, channel=topic, env={**QUICK, "OPAL_BROADCAST_START_WAIT_SECONDS": "0.2"}) for _ in range(2)]

    local, remote = Steady(one.port), Steady(two.port)
    await local.ready.wait()
    await remote.ready.wait()
    await publish_numbers(one.port, 100, 0.5)
    await local.wait_for(99)
    await asyncio.to_thread(backbone.start)
    await remote.wait_for(99)
    await publish_numbers(one.port, 1, 0.1, start=100)
    await remote.wait_for(100)
    print(local.check(101), local.closes, remote.check(101), remote.closes)
    await local.stop()
    await remote.stop()


async def test_sizes_on_postgres(opald, postgres, topic):
    """Messages of 7,999 and 8,000 bytes and more between two servers, in order with small ones."""
    one, two = both(opald, postgres, topic, OPAL_EVENT_MAX_BYTES="8m", OPAL_RING_BYTES="128m", OPAL_UPLINK_BYTES="32m",
                    OPAL_CLIENT_QUEUE_MAX_BYTES="32m")
    empty = len('{"notifier_id": "%s", "topics": ["t"], "data": ""}' % ("a" * 32))
    sizes = [7999 - empty, 1, 8000 - empty, 2, 1 << 20, 3, 5 << 20, 4]

    there = await connect_many(two.port, 4, "t")
    publisher = await RawClient.connect(one.port)
    for size in sizes:
        assert await publisher.publish("t", "x" * size) is True
    for client in there:
        await client.expect(len(sizes), 30)
        assert [len(n.data) for n in client.notifies] == sizes
    await close_all(there + [publisher])


async def test_postgres_without_the_table(opald, postgres, topic):
    """What NOTIFY can't carry is refused at the door and delivered to nobody."""
    postgres.sql("CREATE ROLE poor LOGIN PASSWORD 's3cret-word'")
    uri = f"postgres://poor:s3cret-word@127.0.0.1:{postgres.port}/postgres"
    one, two = both(opald, postgres, topic, (uri, uri))
    one.wait_for_log("for large events can't be had")
    one.wait_for_log("events of up to 7999 bytes are taken")

    clients = await connect_many(one.port, 2, "t", "policy_data") + await connect_many(two.port, 2, "t", "policy_data")
    publisher = await RawClient.connect(one.port)
    refused = await asyncio.to_thread(one.publish, "policy_data", {"x": "x" * 9000})
    assert refused.status == 413 and "7999" in json.dumps(refused.json()), refused
    assert await publisher.publish("t", "x" * 9000) is False
    assert await publisher.publish("t", 1) is True
    for client in clients:
        await client.expect(1)
        await client.barrier()
        assert [n.data for n in client.notifies] == [1]
    await close_all(clients + [publisher])
    assert "s3cret-word" not in one.log() + two.log()


def test_wrong_password(make_redis, opald, topic):
    server = make_redis("requirepass right", name="guarded")
    one = opald(workers=1, broadcast_uri=f"redis://:hunter2@127.0.0.1:{server.port}", channel=topic,
                env={"OPAL_BROADCAST_START_WAIT_SECONDS": "0.2"})
    one.wait_for_log(r"Broadcaster listener error \(attempt 1\): AUTH: WRONGPASS")
    time.sleep(3)
    assert len(re.findall("Broadcaster listener error", one.log())) <= 6, "default backoff: 0.5, 1, 2, ..."
    assert one.request("GET", "/healthcheck").status == 200
    assert "hunter2" not in one.log()
