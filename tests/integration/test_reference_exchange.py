"""A reference opal-server 0.9.9 and opald on one Kafka topic: events cross both ways."""

import asyncio
import json

import pytest

from harness import RawClient, close_all, connect_many

pytestmark = pytest.mark.limit(150)


@pytest.fixture
def pair(opald, reference, kafka, topic):
    kafka.create_topic(topic)
    ours = opald(workers=2, broadcast_uri=kafka.uri, channel=topic)
    theirs = reference(workers=1, broadcast_uri=kafka.uri, channel=topic)
    return ours, theirs


async def listening(theirs, *topics):
    """A client of the reference whose worker reads the backbone (it starts to at the first client)."""
    client = await RawClient.connect(theirs.port)
    await client.subscribe(*topics)
    await asyncio.to_thread(theirs.wait_for_log, "Broadcaster listener connected", 30)
    # its consumer takes a moment to find its position
    await asyncio.sleep(1.5)
    return client


async def test_events_cross_both_ways(pair, kafka, topic):
    ours, theirs = pair

    there = await listening(theirs, "t", "u", "policy_data")
    here = await connect_many(ours.port, 8, "t", "u", "policy_data")
    # HTTP updates
    assert (await asyncio.to_thread(ours.publish, "policy_data", {"from": "opald"})).status == 200
    (notify,) = await there.expect(1)
    first = notify.data
    assert first["entries"][0]["data"] == {"from": "opald"}
    assert (await asyncio.to_thread(theirs.publish, "policy_data", {"from": "reference"})).status == 200
    for client in here:
        await client.expect(2)
        assert [n.data["entries"][0]["data"]["from"] for n in client.notifies] == ["opald", "reference"]
        # opald's own client saw the same object as the reference's client
        assert client.notifies[0].data == first
    # websocket publishes
    publisher_there = await RawClient.connect(theirs.port)
    publisher_here = await RawClient.connect(ours.port)
    for i in range(10):
        assert await publisher_here.publish("t", {"n": i, "é": "😀"})
    await there.expect(12)
    assert [n.data["n"] for n in there.notifies[2:]] == list(range(10))
    for i in range(5):
        assert await publisher_there.publish("u", {"n": i, "é": "😀"})
    for client in here:
        await client.expect(17)
        assert [n.data["n"] for n in client.notifies if n.topic == "u"] == list(range(5))
        assert [n.data["n"] for n in client.notifies if n.topic == "t"] == list(range(10))
        assert all(n.data["é"] == "😀" for n in client.notifies if n.topic in "tu")
        await client.barrier()
        assert len(client.notifies) == 17
    await close_all(here + [there, publisher_there, publisher_here])


async def test_both_write_the_same_message(pair, kafka, topic):
    """The same update given to each: the records differ in the notifier id alone, byte for byte."""
    ours, theirs = pair
    updates = [
        {"entries": [{"url": "http://u/é", "config": {"headers": {"a": "b"}}, "topics": ["a"], "dst_path": "/p/q", "save_method": "PUT", "data": {"k": [1, None, True, "é😀\u007f/\\\""]}}], "reason": "r"},
        {"id": "1", "entries": [{"url": "u", "topics": ["b"], "save_method": "PATCH", "data": [{"op": "add", "path": "/x", "value": 1}]}]},
        {"entries": [{"url": "u", "topics": ["c"]}], "callback": {"callbacks": ["http://c", ["http://d", {"method": "post", "headers": {"x": "y"}}]]}},
        {"entries": [{"url": "u", "topics": ["d"], "config": None, "data": [1, 2]}], "reason": None},
    ]

    there = await listening(theirs, "none")
    for update in updates:
        for server in (ours, theirs):
            response = await asyncio.to_thread(server.request, "POST", "/data/config", None, None, update)
            assert response.status == 200
            await asyncio.sleep(0.2)
    await there.close()
    records = [record.value for record in kafka.read(topic, 2 * len(updates))]
    by_topic: dict = {}
    for value in records:
        message = json.loads(value)
        by_topic.setdefault(message["topics"][0], []).append(value.replace(message["notifier_id"].encode(), b"ID"))
    assert sorted(by_topic) == ["a", "b", "c", "d"]
    for name, values in by_topic.items():
        assert len(values) == 2 and values[0] == values[1], f"{name}:\n{values[0]}\n{values[-1]}"


async def test_topic_expansion_is_the_same_on_the_wire(pair, kafka, topic):
    ours, theirs = pair
    update = {"entries": [{"url": "u", "topics": ["a/b/c", "x:p/q", "/s", "t/"], "dst_path": "/"}, {"url": "v", "topics": ["a/z"]}]}

    there = await listening(theirs, "none")
    for server in (ours, theirs):
        assert (await asyncio.to_thread(server.request, "POST", "/data/config", None, None, update)).status == 200
    await asyncio.sleep(1)
    await there.close()
    seen: dict = {}
    for record in kafka.read(topic, 18):
        message = json.loads(record.value)
        seen.setdefault(message["notifier_id"], {})[message["topics"][0]] = message["data"]
    assert len(seen) == 2
    one, other = seen.values()
    assert one == other
