"""POST /data/config?wait=backbone (the answer waits for the backbone's acknowledgement), and OPAL_BROADCAST_FREEZE_ON_DISCONNECT."""

import asyncio
import json
import os
import re
import signal
import socket
import threading
import time

import pytest

from harness import RawClient
from harness.backbone_driver import driver  # noqa: F401 (a fixture)
from harness.backbones import PostgresServer, RedisServer
from harness.paths import scaled
from harness.process import wait_until
from harness.metrics import counter

OK = b'{"status":"ok"}'


def ask(server, data=None, topics=("t",), by="query", target=None, timeout=30, **fields):
    """A publish that asks for an acknowledgement; the response and the seconds it took."""
    entry = {"url": "http://127.0.0.1:1/unused", "config": {}, "topics": list(topics), "dst_path": "/x", "save_method": "PUT", "data": {"n": data}}
    began = time.monotonic()
    response = server.request("POST", target or ("/data/config?wait=backbone" if by == "query" else "/data/config"),
                              json={"entries": [entry], "reason": ""}, timeout=timeout,
                              headers=[("X-Opald-Wait", "backbone")] if by == "header" else None)
    return response, time.monotonic() - began


def datas(records):
    """What each event in Kafka carries, by its first entry."""
    return [json.loads(r.value)["data"]["entries"][0]["data"]["n"] for r in records]


def backbone_is(server, state):
    body = server.request("GET", "/readyz").text
    return ("disconnected" if state == "away" else '"ok"') in body


def wait_backbone(server, state, seconds=30):
    server.wait_until(lambda: backbone_is(server, state), seconds, f"backbone {state}")


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def own_redis(work):
    server = RedisServer(work, name="own-redis")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    server = PostgresServer(tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()


# ---- acknowledgement
@pytest.mark.sanitize
def test_acknowledged_by_kafka(opald, kafka, topic):
    kafka.create_topic(topic)
    server = opald(workers=2, broadcast_uri=kafka.uri, channel=topic)
    for number in range(20):  # four topics each (d, a, a/b, a/b/c), so four messages
        response, took = ask(server, number, topics=("a/b/c", "d"), by="query" if number % 2 else "header")
        assert (response.status, response.body) == (200, OK)
        assert took < scaled(5)

        if number in (0, 19):
            assert len(kafka.read(topic)) == 4 * (number + 1), "they are there already"
    assert counter(server, "backbone_events_acknowledged") == 80


def test_one_connection_and_many(opald, kafka, topic):
    """Answers come one after another on a connection (pipelined), and side by side on several; without the wish they don't wait."""
    kafka.create_topic(topic)
    server = opald(workers=2, broadcast_uri=kafka.uri, channel=topic)
    body = json.dumps({"entries": [{"url": "http://127.0.0.1:1/", "topics": ["t"]}]})
    request = "POST /data/config{} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}"
    with server.connection() as connection:
        connection.send("".join(request.format(q, len(body), body) for q in ("?wait=backbone", "", "?wait=backbone", "?x=1&wait=backbone")).encode())
        for _ in range(4):
            response = connection.read_response()
            assert (response.status, response.body) == (200, OK)
    results = []
    threads = [threading.Thread(target=lambda: results.append([ask(server, i)[0].status for i in range(10)])) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[200] * 10] * 20
    assert len(kafka.read(topic, 204)) == 204


@pytest.mark.sanitize
@pytest.mark.limit(120)
async def test_frozen_broker(opald, own_kafka, topic):
    """504 in time; the event is not lost for it: it goes out when the broker runs again, once and in order."""
    own_kafka.create_topic(topic)
    server = opald(workers=2, broadcast_uri=own_kafka.uri, channel=topic, env={"OPAL_PUBLISH_WAIT_SECONDS": "1.5"})
    assert ask(server, 0)[0].status == 200

    async with RawClient.open(server.port) as client:
        await client.subscribe("t")
        own_kafka.pause()
        try:
            for number in (1, 2):
                response, took = await asyncio.to_thread(ask, server, number)
                assert response.status == 504
                assert "has not acknowledged the update within 1.5 s" in response.json()["detail"]
                assert 1.4 < took < 1.5 + scaled(2)
            assert [n.data["entries"][0]["data"]["n"] for n in await client.expect(2)] == [1, 2], "local clients did not wait"
            response = await asyncio.to_thread(server.publish, "t", {"n": 3})
            assert response.status == 200, "without the wish nobody waits"
            # the broker comes back while the publisher waits
            waiting = asyncio.create_task(asyncio.to_thread(ask, server, 4))
            await asyncio.sleep(0.7)
        finally:
            own_kafka.resume()
        assert (await waiting)[0].status in (200, 504)
        assert (await asyncio.to_thread(ask, server, 5))[0].status == 200
    assert datas(own_kafka.read(topic, 6)) == [0, 1, 2, 3, 4, 5]
    assert counter(server, "backbone_acknowledgements_late") >= 2
    assert "the backbone has not acknowledged a data update within 1.5 s" in server.log()


@pytest.mark.limit(120)
def test_broker_returns_in_time(opald, own_kafka, topic):
    own_kafka.create_topic(topic)
    server = opald(workers=1, broadcast_uri=own_kafka.uri, channel=topic, env={"OPAL_PUBLISH_WAIT_SECONDS": "60"})
    own_kafka.pause()
    results = []
    threads = [threading.Thread(target=lambda i=i: results.append(ask(server, i, timeout=70))) for i in range(10)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    assert results == []
    own_kafka.resume()
    for thread in threads:
        thread.join()
    assert [response.status for response, _ in results] == [200] * 10
    assert min(took for _, took in results) > 1.5
    assert sorted(datas(own_kafka.read(topic, 10))) == list(range(10))


def test_no_backbone(opald):
    server = opald(workers=2)
    for by in ("query", "header"):
        response, took = ask(server, 1, by=by)
        assert (response.status, response.body) == (200, OK)
        assert took < scaled(2)
    assert ask(server, 1, topics=())[0].status == 200


def test_refusals_as_ever(opald, kafka, topic):
    kafka.create_topic(topic)
    server = opald(broadcast_uri=kafka.uri, channel=topic, env={"OPAL_EVENT_MAX_BYTES": "100k"})
    assert ask(server, "x" * 200_000)[0].status == 413
    assert ask(server, target="/data/config?wait=backbon")[0].status == 422
    assert server.request("POST", "/data/config", json={"entries": []}, headers=[("X-Opald-Wait", "yes")]).status == 422
    assert server.request("POST", "/data/config?wait=backbone", json={"entries": 5}).status == 422
    assert server.request("POST", "/data/config?wait=backbone", json={"entries": []}).status == 200
    assert ask(server, 1)[0].status == 200
    assert len(kafka.read(topic, 1)) == 1


def test_larger_than_the_broker_takes(opald, kafka, topic):
    """Given up for good: 504 at once, not after the wait, and it says so."""
    kafka.create_topic(topic, config={"max.message.bytes": "10000"})
    server = opald(broadcast_uri=kafka.uri, channel=topic, env={"OPAL_PUBLISH_WAIT_SECONDS": "30"})
    assert ask(server, 1)[0].status == 200
    response, took = ask(server, "x" * 50_000)
    assert response.status in (413, 504), response.text
    if response.status == 504:
        assert "did not take the update" in response.json()["detail"]
    assert took < scaled(15)
    assert ask(server, 2)[0].status == 200


@pytest.mark.limit(60)
def test_publishers_that_leave(opald, own_kafka, topic):
    """Connections dropped while they wait, and a worker killed while its publishers wait: the server goes on, events go out."""
    own_kafka.create_topic(topic)
    server = opald(workers=2, broadcast_uri=own_kafka.uri, channel=topic, env={"OPAL_PUBLISH_WAIT_SECONDS": "30"})
    assert ask(server, -1)[0].status == 200
    body = json.dumps({"entries": [{"url": "http://127.0.0.1:1/", "topics": ["t"], "data": {}}]})
    request = f"POST /data/config?wait=backbone HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    own_kafka.pause()
    try:
        connections = [server.connection() for _ in range(20)]
        for connection in connections:
            connection.send(request.encode())
        server.wait_until(lambda: counter(server, "events_routed") >= 21, 10, "events routed")
        for leaving in connections[0::4] + connections[1::4]:
            leaving.close()
        victim = server.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        server.wait_until(lambda: victim not in server.worker_pids() and len(server.worker_pids()) == 2, 15, "a new worker")
    finally:
        own_kafka.resume()
    assert len(own_kafka.read(topic, 21, seconds=20)) == 21
    answered = 0
    for connection in connections[2::4] + connections[3::4]:
        try:
            answered += connection.read_response().status == 200
        except (EOFError, ConnectionError):
            pass  # of the killed worker
        connection.close()
    assert 0 < answered < 10, "spread over two workers, one of which was killed"
    assert ask(server, -2)[0].status == 200


@pytest.mark.limit(60)
@pytest.mark.parametrize("returns", [True, False])
def test_stopped_while_they_wait(opald, own_kafka, topic, returns):
    """TERM: who waits is still answered, by the backbone or at the end of the wait; so is one who has ended its own side."""
    own_kafka.create_topic(topic)
    server = opald(workers=2, broadcast_uri=own_kafka.uri, channel=topic, env={"OPAL_PUBLISH_WAIT_SECONDS": "4"})
    assert ask(server, 0)[0].status == 200
    body = json.dumps({"entries": [{"url": "http://127.0.0.1:1/", "topics": ["t"], "data": {"n": 1}}]})
    request = f"POST /data/config?wait=backbone HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    own_kafka.pause()
    try:
        connections = [server.connection() for _ in range(6)]
        for number, connection in enumerate(connections):
            connection.send(request.encode())
            if number % 2:
                connection.socket.shutdown(socket.SHUT_WR)
        server.wait_until(lambda: counter(server, "events_routed") >= 7, 10, "events routed")
        server.send_signal(signal.SIGTERM)
        time.sleep(1)
        if returns:
            own_kafka.resume()
        assert [c.read_response().status for c in connections] == [200 if returns else 504] * 6
    finally:
        own_kafka.resume()
    for connection in connections:
        connection.close()
    assert server.wait(25) == 0
    assert len(own_kafka.read(topic, 7)) == 7, "sent before the end"


def test_redis(opald, redis, topic):
    server = opald(workers=2, broadcast_uri=redis.uri, channel=topic)
    listener = redis.listen(topic)
    for number in range(5):
        response, took = ask(server, number)
        assert (response.status, response.body) == (200, OK)
        assert took < scaled(3)
    seen = 0
    while seen < 5:
        seen += b'"entries"' in listener.get()


def test_postgres(opald, postgres, topic):
    server = opald(workers=2, broadcast_uri=postgres.uri, channel=topic)
    for data in (1, "x" * 20_000, 2):  # the second one goes by the table
        response, took = ask(server, data)
        assert (response.status, response.body) == (200, OK)
        assert took < scaled(5)


@pytest.mark.limit(60)
def test_redis_away(opald, own_redis, topic):
    """Late, then pushed out of the replay buffer by the next one, then taken after the return."""
    server = opald(broadcast_uri=own_redis.uri, channel=topic, env={
        "OPAL_PUBLISH_WAIT_SECONDS": "20", "OPAL_BROADCAST_REPLAY_BUFFER_SIZE": "1", "OPAL_BROADCAST_RESYNC_SETTLE_SECONDS": "0.5",
        "OPAL_BROADCAST_RECONNECT_BACKOFF_MAX_SECONDS": "1"})
    assert ask(server, 0)[0].status == 200
    own_redis.kill()
    wait_backbone(server, "away")
    results = {}
    threads = [threading.Thread(target=lambda i=i: results.update({i: ask(server, i)})) for i in (1, 2)]
    threads[0].start()
    server.wait_until(lambda: counter(server, "events_routed") >= 2, 10, "the first")
    threads[1].start()
    threads[0].join()
    response, took = results[1]
    assert response.status == 504 and "did not take the update" in response.json()["detail"]
    assert took < scaled(10)
    own_redis.start()
    threads[1].join()
    assert results[2][0].status == 200


def test_a_server_that_stops_answers_who_waits(opald, own_redis, topic):
    server = opald(broadcast_uri=own_redis.uri, channel=topic, env={"OPAL_GRACE_SECONDS": "2"})
    assert ask(server, 0)[0].status == 200
    own_redis.pause()
    results = []
    try:
        thread = threading.Thread(target=lambda: results.append(ask(server, 1)))
        thread.start()
        time.sleep(0.5)
        server.send_signal(signal.SIGTERM)
        thread.join()
        assert server.wait() == 0
    finally:
        own_redis.resume()
    response, took = results[0]
    assert response.status == 504 and "this server stops" in response.json()["detail"] and took < scaled(4)


# ---- the backends tell each message's fate
def test_driver_acknowledges(kafka, redis, postgres, topic, driver):
    kafka.create_topic(topic)
    for uri in (kafka.uri, redis.uri, postgres.uri):
        one = driver(uri, topic).up()
        one.say("publish t 0", "ask t 1", "publish t 2", "ask t 3", "ask t 4")
        one.wait_line("acknowledged 3", 10)
        one.wait_counts(sent=5)
        assert [line for line in one.lines if line.startswith("acknowledged")] == [f"acknowledged {i} 1" for i in (1, 2, 3)], uri
        assert one.close() == 0


# ---- freezing
FREEZE = {"OPAL_BROADCAST_FREEZE_ON_DISCONNECT": "true", "OPAL_BROADCAST_RESYNC_SETTLE_SECONDS": "0.5",
          "OPAL_BROADCAST_RECONNECT_BACKOFF_MAX_SECONDS": "1"}
FIRST = r"WARNING.*Broadcaster backbone gap; freezing publish to preserve fleet consistency .*topics=\['t'\] \(suppressed 1 so far this gap\)"


async def freeze_story(server, backbone):
    async with RawClient.open(server.port) as client, RawClient.open(server.port) as publisher:
        await client.subscribe("t", "__internal", "webhook")
        assert (await asyncio.to_thread(server.publish, "t", {"n": 0})).status == 200
        await client.expect(1)
        await asyncio.to_thread(backbone.kill)
        await asyncio.to_thread(wait_backbone, server, "away")
        for number in range(3):
            response = await asyncio.to_thread(server.publish, "t", {"n": number})
            assert (response.status, response.body) == (200, OK)
        response, took = await asyncio.to_thread(ask, server, 9)
        assert response.status == 504 and "frozen" in response.json()["detail"] and took < scaled(3)
        await client.barrier()
        assert len(client.notifies) == 1, "dropped"
        assert (await asyncio.to_thread(server.publish, "__internal", {"n": 1})).status == 200
        assert (await asyncio.to_thread(server.publish, "webhook", {"n": 1})).status == 200
        assert await publisher.publish("t", "by websocket") is True
        assert [n.topic for n in await client.expect(4)] == ["t", "__internal", "webhook", "t"]
        assert counter(server, "events_dropped", reason="frozen") == 4
        assert len(re.findall(FIRST, server.log())) == 1
        assert "Backbone recovered; froze" not in server.log()
        await asyncio.to_thread(backbone.start)
        await asyncio.to_thread(wait_backbone, server, "back")
        assert await client.wait_closed(30) == 1012, "what was dropped has to be refetched"
    async with RawClient.open(server.port) as client:
        await client.subscribe("t")
        assert (await asyncio.to_thread(server.publish, "t", {"n": 10})).status == 200
        await client.expect(1)
        server.wait_for_log(r"WARNING.*Backbone recovered; froze 4 publish\(es\) during the gap")
        assert await asyncio.to_thread(lambda: ask(server, 11)[0].status) == 200
        await client.expect(2)


@pytest.mark.limit(120)
async def test_freeze_kafka(opald, own_kafka, topic):
    own_kafka.create_topic(topic)
    await freeze_story(opald(workers=2, broadcast_uri=own_kafka.uri, channel=topic, env=FREEZE), own_kafka)
    carried = [json.loads(r.value) for r in own_kafka.read(topic, 6)]
    assert [c["topics"][0] for c in carried] == ["t", "__internal", "webhook", "t", "t", "t"]


@pytest.mark.sanitize
@pytest.mark.limit(90)
async def test_freeze_redis(opald, own_redis, topic):
    await freeze_story(opald(workers=2, broadcast_uri=own_redis.uri, channel=topic, env=FREEZE), own_redis)


@pytest.mark.limit(60)
@pytest.mark.parametrize("env,line", [
    ({}, None),
    ({**FREEZE, "OPAL_BROADCAST_RESYNC_ON_RECONNECT": "false"}, "OPAL_BROADCAST_FREEZE_ON_DISCONNECT has no effect"),
    ({**FREEZE, "OPAL_BROADCAST_RECONNECT_ENABLED": "false"}, "OPAL_BROADCAST_FREEZE_ON_DISCONNECT has no effect"),
], ids=["default", "no-resync", "no-reconnect"])
async def test_not_frozen(opald, own_redis, topic, env, line):
    server = opald(broadcast_uri=own_redis.uri, channel=topic, env=env)

    async with RawClient.open(server.port) as client:
        await client.subscribe("t")
        await asyncio.to_thread(own_redis.kill)
        await asyncio.to_thread(wait_backbone, server, "away")
        assert (await asyncio.to_thread(server.publish, "t", {"n": 1})).status == 200
        await client.expect(1)
    assert counter(server, "events_dropped", reason="frozen") == 0
    assert (line in server.log()) if line else ("FREEZE" not in server.log())
