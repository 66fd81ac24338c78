"""Whatever a door lets in, every server can read: events at each limit of each door arrive on the other server, over each backbone, and
nobody is asked to refetch. What is above a limit is refused at the door."""

import asyncio
import json

import pytest

from harness import RawClient
from harness.backbones import PostgresServer, RedisServer
from harness.metrics import counter, gauge

DEPTH, TOPICS, TOPIC_BYTES = 512, 1024, 4096
UPDATE_DEPTH = 3  # {"entries": [{"data": ...}]}
CALL_DEPTH = 3  # {"request": {"arguments": {"data": ...}}}


@pytest.fixture(params=["kafka", "redis", "postgres"])
def pair(request, opald, topic, tmp_path_factory):
    """Two servers on one backbone."""
    own = None
    if request.param == "kafka":
        uri = request.getfixturevalue("kafka").uri
    else:
        own = {"redis": RedisServer, "postgres": PostgresServer}[request.param](tmp_path_factory.mktemp(request.param))
        uri = own.uri
    made = [opald(broadcast_uri=uri, channel=topic, name=name) for name in ("one", "two")]
    for server in made:
        server.wait_for_log("Broadcaster listener connected|now listens|listening to partition|UP", 20)
    yield made
    if own:
        own.stop()


def nested(depth):
    return "[" * depth + "]" * depth


def post(server, data, topics=("t",)):
    body = '{"entries": [{"url": "http://x/", "topics": %s, "dst_path": "/a", "data": %s}]}' % (json.dumps(list(topics)), data)
    return server.request("POST", "/data/config", body=body.encode(), headers={"content-type": "application/json"}).status


async def largest(client, limit, topic="t"):
    """The length of the longest string that the websocket's door takes; publishes it."""
    low, high = 0, int(limit)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if await client.publish(topic, "x" * middle, timeout=30) else (low, middle - 1)
    assert await client.publish(topic, "x" * low, timeout=30)
    return low


@pytest.mark.limit(120)
async def test_what_a_door_takes_every_server_reads(pair):
    one, two = pair
    async with RawClient.open(one.port) as here, RawClient.open(two.port) as there:
        long_topics = ["é" * (TOPIC_BYTES // 2), "\x01" * TOPIC_BYTES]
        assert await there.subscribe("t", f"topic-{TOPICS - 1}", *long_topics)
        count = 0

        async def arrives(what):
            nonlocal count
            count += 1
            await there.expect(count, timeout=30)
            assert not there.is_closed, what

        # depth
        assert await asyncio.to_thread(post, one, nested(DEPTH - UPDATE_DEPTH)) == 200
        await arrives("depth of an update")
        assert await asyncio.to_thread(post, one, nested(DEPTH - UPDATE_DEPTH + 1)) != 200
        assert await here.publish_text("t", nested(DEPTH - CALL_DEPTH))
        await arrives("depth of a call")
        # number of topics, length of a topic, its worst characters
        assert await here.publish([f"topic-{i}" for i in range(TOPICS)], 1)
        await arrives("topics")
        for name in long_topics:
            assert await here.publish(name, 1)
            await arrives("a long topic")
        # values: as many as fit
        assert await here.publish("t", [0] * 100000)
        await arrives("values")
        # size, at the byte
        before = len(there.notifies)
        limit = gauge(one, "event_limit_bytes")
        length = await largest(here, limit)
        while len(there.notifies[-1].data or "") != length:
            await there.expect(len(there.notifies) + 1, timeout=30)
        assert len(there.notifies) > before
        assert not there.is_closed and not here.is_closed
    for server in pair:
        assert counter(server, "resync_closes") == 0
        assert "above this server's limits" not in server.log() and "larger than this server's limit" not in server.log()


@pytest.mark.limit(60)
async def test_one_event_cannot_fill_the_backbone(pair):
    """900 KB for 1024 topics would be 0.9 GB of messages: refused at both doors with the reason, and nobody suffers."""
    one, two = pair
    data, topics = "x" * 900000, [f"topic-{i}" for i in range(TOPICS)]
    async with RawClient.open(one.port) as here, RawClient.open(two.port) as there:
        assert await there.subscribe("t", "topic-0")
        entry = {"url": "http://x/", "topics": topics, "dst_path": "/a", "data": {"x": data}}
        reply = await asyncio.to_thread(one.request, "POST", "/data/config", json={"entries": [entry]})
        assert reply.status == 413 and "OPAL_EVENT_BACKBONE_MAX_BYTES" in reply.text
        assert await here.publish(topics, data, timeout=30) is False
        assert await here.publish(topics[:32], data, timeout=30) is True
        await there.expect(1, timeout=30)
        assert await here.publish("t", 1)
        await there.expect(2, timeout=30)
        assert not there.is_closed
    assert "more than the 67108864 bytes that one event may become on the backbone (OPAL_EVENT_BACKBONE_MAX_BYTES)" in one.log()
