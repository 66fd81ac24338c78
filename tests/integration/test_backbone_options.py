"""Each option of the backbone does what its row in deploy/guide/options.md says. (FREEZE_ON_DISCONNECT and PUBLISH_WAIT_SECONDS: test_acknowledgement.py; KAFKA_CONFIG and
KAFKA_CREATE_TOPIC: test_kafka_production.py.)"""

import asyncio
import json
import re
import time

import pytest

from harness import RawClient, close_all, connect_many, free_port, scaled
from harness.backbones import PostgresServer, Proxy, RedisServer
from harness.metrics import counter

QUICK = {"OPAL_BROADCAST_RECONNECT_BACKOFF_MIN_SECONDS": "0.1", "OPAL_BROADCAST_RECONNECT_BACKOFF_MAX_SECONDS": "0.2",
         "OPAL_BROADCAST_RESYNC_SETTLE_SECONDS": "0.2"}
NOT_THERE = {**QUICK, "OPAL_BROADCAST_START_WAIT_SECONDS": "0"}


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"), name="shared-redis")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    server = PostgresServer(tmp_path_factory.mktemp("postgres"), name="shared-postgres")
    yield server
    server.stop()


@pytest.fixture
def proxy(redis):
    made = Proxy(redis.port)
    yield made
    made.close()


def up(server, count=1):
    server.wait_for_log("Broadcaster listener connected to channel", 15, count)
    return server


def by(proxy):
    return f"redis://127.0.0.1:{proxy.port}"


def lose(proxy):
    proxy.refuse(True)
    proxy.cut()


def events(listener, count):
    """The next events that are not this server's heartbeats."""
    found = []
    while len(found) < count:
        message = json.loads(listener.get(5))
        if message["topics"]:
            found.append(message)
    return found


async def published(server, *data):
    async with RawClient.open(server.port) as publisher:
        for one in data:
            assert await publisher.publish("t", one) is True


@pytest.mark.parametrize("channel", [None, "Other.Channel"])
async def test_channel(opald, redis, channel):
    listener = redis.listen(channel or "EventNotifier")
    server = up(opald(broadcast_uri=redis.uri, channel=channel, env=QUICK))
    await published(server, 1)
    assert events(listener, 1)[0]["data"] == 1


def test_keepalive(opald, redis, topic):
    listener = redis.listen(topic)
    env = {**QUICK, "OPAL_BROADCAST_KEEPALIVE_INTERVAL": "1", "OPAL_BROADCAST_KEEPALIVE_TOPIC": "still-here"}
    server = up(opald(broadcast_uri=redis.uri, channel=topic, env=env))
    for message in events(listener, 2):
        assert message["topics"] == ["still-here"] and message["data"] is None
    assert "started broadcaster keepalive task: topic is 'still-here', interval is 1 seconds" in server.log()
    silent = up(opald(broadcast_uri=redis.uri, channel=topic, env={**QUICK, "OPAL_BROADCAST_KEEPALIVE_INTERVAL": "0"}, name="silent"))
    assert "keepalive task" not in silent.log()


@pytest.mark.parametrize("enabled", [True, False])
def test_reconnecting_switched_off_and_the_health_check(opald, proxy, topic, enabled):
    env = {**QUICK, "OPAL_BROADCAST_RECONNECT_ENABLED": "false", "OPAL_BROADCAST_HEALTHCHECK_ENABLED": str(enabled).lower()}
    server = up(opald(broadcast_uri=by(proxy), channel=topic, env=env))
    assert server.request("GET", "/healthcheck").status == 200
    accepted = proxy.accepted
    proxy.cut()
    server.wait_for_log("reconnecting is switched off")
    health = server.request("GET", "/healthcheck")
    if enabled:
        assert health.status == 503 and health.json() == {"status": "error", "broadcaster": "unhealthy"}
    else:
        assert health.status == 200 and health.json() == {"status": "ok"}
    assert server.request("GET", "/readyz").status == 503
    assert server.request("GET", "/livez").status == 200
    time.sleep(1)
    assert proxy.accepted == accepted and server.is_running()


async def test_attempts_used_up(opald, proxy, topic):
    """Three failures in a row: clients are sent away with 1012, the server ends with status 1. Fewer, and it is healthy all along."""
    server = up(opald(broadcast_uri=by(proxy), channel=topic, env={**QUICK, "OPAL_BROADCAST_RECONNECT_MAX_RETRIES": "3", "OPAL_GRACE_SECONDS": "3",
                                                                  "OPAL_BROADCAST_RECONNECT_BACKOFF_MIN_SECONDS": "0.5",
                                                                  "OPAL_BROADCAST_RECONNECT_BACKOFF_MAX_SECONDS": "0.5"}))

    async with RawClient.open(server.port) as client:
        await client.subscribe("t")
        lose(proxy)
        await asyncio.to_thread(server.wait_for_log, r"listener error \(attempt 1\)")
        assert (await asyncio.to_thread(server.request, "GET", "/healthcheck")).status == 200, "it is being tried again"
        assert await client.wait_closed(15) == 1012
    assert server.wait(10) == 1
    assert "Broadcaster reconnect exhausted after 3 attempts; giving up so the server can restart" in server.log()
    assert "Broadcaster gave up reconnecting to the backbone; restarting this server" in server.log()


@pytest.mark.parametrize("uri", ["redis://127.0.0.1:{}", "postgres://x@127.0.0.1:{}/x", "kafka://127.0.0.1:{}"])
def test_attempts_used_up_at_the_start(opald, topic, uri):
    server = opald(broadcast_uri=uri.format(free_port()), channel=topic, ready=False, env={**NOT_THERE, "OPAL_BROADCAST_RECONNECT_MAX_RETRIES": "4"})
    assert server.wait(15) == 1
    assert "Broadcaster reconnect exhausted after 4 attempts" in server.log()


def test_backoff(opald, proxy, topic):
    def attempts(least, most, name, seconds=2.5):
        proxy.refuse(True)
        server = opald(broadcast_uri=by(proxy), channel=topic, name=name, env={**NOT_THERE, "OPAL_BROADCAST_RECONNECT_BACKOFF_MIN_SECONDS": least,
                                                                               "OPAL_BROADCAST_RECONNECT_BACKOFF_MAX_SECONDS": most})
        before = proxy.accepted
        time.sleep(seconds)
        count = proxy.accepted - before
        server.stop()
        return count
    assert 8 <= attempts("0.1", "0.2", "often") <= 26
    assert attempts("2", "2", "seldom") <= 3


@pytest.mark.parametrize("size, arrives", [(5, 5), (0, 0)])
async def test_replay_buffer(opald, redis, proxy, topic, size, arrives):
    listener = redis.listen(topic)
    server = up(opald(broadcast_uri=by(proxy), channel=topic, env={**QUICK, "OPAL_BROADCAST_REPLAY_BUFFER_SIZE": size}))
    lose(proxy)
    server.wait_for_log(r"listener error \(attempt 1\)")
    await published(server, *range(20))
    server.wait_until(lambda: counter(server, "events_dropped", reason="send_failed") == 20 - arrives, 5, "count")
    proxy.refuse(False)
    up(server, 2)
    server.wait_for_log("asking the other servers to have their clients refetch")
    await published(server, "after")
    assert [m["data"] for m in events(listener, arrives + 1)] == [*range(20 - arrives, 20), "after"]


@pytest.mark.parametrize("resync", [True, False])
async def test_resync(opald, proxy, topic, resync):
    env = {**QUICK, "OPAL_BROADCAST_RESYNC_ON_RECONNECT": str(resync).lower()}
    server = up(opald(broadcast_uri=by(proxy), channel=topic, env=env))

    async with RawClient.open(server.port) as client:
        await client.subscribe("t")
        proxy.cut()
        if resync:
            assert await client.wait_closed(10) == 1012
        else:
            await asyncio.to_thread(server.wait_for_log, "clients stay as they are, because OPAL_BROADCAST_RESYNC_ON_RECONNECT is false")
            await asyncio.sleep(0.5)
            await client.barrier()
            assert not client.is_closed


@pytest.mark.parametrize("settle", [0, 1.5])
async def test_settle(opald, redis, proxy, topic, settle):
    """What was published meanwhile goes out one settle time after the return, the clients refetch after a second one."""
    listener = redis.listen(topic)
    server = up(opald(broadcast_uri=by(proxy), channel=topic, env={**QUICK, "OPAL_BROADCAST_RESYNC_SETTLE_SECONDS": settle}))
    async with RawClient.open(server.port) as client:
        await client.subscribe("t")
        lose(proxy)
        await asyncio.to_thread(server.wait_for_log, r"listener error \(attempt 1\)")
        await published(server, 1)
        proxy.refuse(False)
        await asyncio.to_thread(up, server, 2)
        back = time.monotonic()
        await asyncio.to_thread(events, listener, 1)
        replayed = time.monotonic() - back
        assert await client.wait_closed(10) == 1012
        closed = time.monotonic() - back
    assert settle - 0.1 <= replayed < settle + scaled(0.8), replayed
    assert 2 * settle - 0.1 <= closed < 2 * settle + scaled(1), closed


def test_back_before_the_others_replay(opald, redis, proxy, topic):
    """After a long outage nobody waits longer than the settle time for the next attempt, whatever the longest backoff: else it would miss the replay."""
    env = {**QUICK, "OPAL_BROADCAST_RECONNECT_BACKOFF_MIN_SECONDS": "0.5", "OPAL_BROADCAST_RECONNECT_BACKOFF_MAX_SECONDS": "30",
           "OPAL_BROADCAST_RESYNC_SETTLE_SECONDS": "1"}
    server = up(opald(broadcast_uri=by(proxy), channel=topic, env=env))
    lose(proxy)
    server.wait_for_log(r"listener error \(attempt 5\)", 8)
    before = time.monotonic()
    server.wait_for_log(r"listener error \(attempt 7\)", 5)
    assert time.monotonic() - before < scaled(2.3)
    proxy.refuse(False)
    up(server, 2)


def without_notifications(deaf):
    """Postgres answers everything, but no NOTIFY comes any more: the messages of type A are taken out."""
    def filter(direction, data):
        if not deaf[0] or direction == "up":
            return data
        kept, at = b"", 0
        while at < len(data):
            end = at + 1 + int.from_bytes(data[at + 1:at + 5], "big")
            kept += b"" if data[at:at + 1] == b"A" else data[at:end]
            at = end
        return kept
    return filter


def without_messages(deaf):
    pong = b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
    return lambda direction, data: pong * data.count(pong) if deaf[0] and direction == "down" and b"message" in data else data


@pytest.mark.parametrize("kind", ["redis", "postgres"])
async def test_deaf(opald, redis, postgres, topic, kind):
    """The channel stays open, the server at its other end answers, but messages no longer come: only the heartbeat notices, within its limit."""
    deaf = [False]
    backbone, filter = (redis, without_messages(deaf)) if kind == "redis" else (postgres, without_notifications(deaf))
    proxy = Proxy(backbone.port, filter)
    server = up(opald(broadcast_uri=backbone.uri_by(proxy.port), channel=topic, env={**QUICK, "OPAL_BROADCAST_HEARTBEAT_SECONDS": "2"}))

    async with RawClient.open(server.port) as client:
        await client.subscribe("t")
        await asyncio.sleep(2.5)
        assert "listener error" not in server.log(), "it hears itself"
        deaf[0] = True
        began = time.monotonic()
        await asyncio.to_thread(server.wait_for_log, "deaf: the backbone took our heartbeat but did not deliver it", 5)
        assert time.monotonic() - began < scaled(2.6)
        deaf[0] = False
        assert await client.wait_closed(10) == 1012
    up(server, 2)
    proxy.close()


def test_start_wait(opald, topic):
    began = time.monotonic()
    server = opald(broadcast_uri=f"redis://127.0.0.1:{free_port()}", channel=topic, env={**QUICK, "OPAL_BROADCAST_START_WAIT_SECONDS": "1.5"})
    assert 1.5 <= time.monotonic() - began < scaled(8)
    assert "the backbone is not there after 1.5 s: taking clients without it" in server.log()


async def test_pace_of_the_resync(opald, proxy, topic):
    server = up(opald(workers=2, broadcast_uri=by(proxy), channel=topic, env={**QUICK, "OPAL_RESYNC_CLOSES_PER_SECOND": "10"}))

    clients = await connect_many(server.port, 20, "t")
    proxy.cut()
    at = []

    async def end(client):
        assert await client.wait_closed(15) == 1012
        at.append(time.monotonic())
    await asyncio.gather(*(end(client) for client in clients))
    assert 1.2 < max(at) - min(at) < scaled(4), "20 clients at 10 a second"
    await close_all(clients)
    assert counter(server, "resync_closes") == 20


async def test_postgres_schema(opald, postgres, topic):
    server = up(opald(broadcast_uri=postgres.uri, channel=topic, env={**QUICK, "OPAL_BROADCAST_POSTGRES_SCHEMA": "fleet_7"}))
    await published(server, "x" * 9000)
    server.wait_until(lambda: postgres.sql("SELECT count(*) FROM fleet_7.events", check=False) == "1", 5, "row")


@pytest.mark.parametrize("option", [{"OPAL_KAFKA_QUEUE_MAX_BYTES": "1m"}, {"OPAL_KAFKA_QUEUE_MAX_MESSAGES": "3"}])
async def test_bounds_of_the_kafka_queue(opald, topic, option):
    server = opald(broadcast_uri=f"kafka://127.0.0.1:{free_port()}", channel=topic, env={**NOT_THERE, **option}, args=["--grace-seconds", "1"])
    await published(server, *["x" * 300000] * 10)
    failed = counter(server, "events_dropped", reason="send_failed")
    assert failed == 7, "three of 300,000 bytes find room in either bound"


# ---- what others publish and this server can't take
def foreign(data: str) -> bytes:
    """An event as another server sends it; `data` is JSON."""
    return b'{"notifier_id": "%s", "topics": ["t"], "data": %s}' % (b"f" * 32, data.encode())


DEEP = "[" * 600 + "]" * 600


async def test_events_above_the_limits_in_kafka_make_clients_refetch(opald, kafka, topic):
    """The other servers' clients hear such an event; ours, who can't, must not go on with what they have."""
    kafka.create_topic(topic)
    small = opald(broadcast_uri=kafka.uri, channel=topic, env={"OPAL_EVENT_MAX_BYTES": "8192"}, name="small")
    usual = opald(broadcast_uri=kafka.uri, channel=topic, name="usual")

    here, there = await RawClient.connect(small.port), await RawClient.connect(usual.port)
    for client in (here, there):
        assert await client.subscribe("t")
    await kafka.produce_async(topic, foreign('"%s"' % ("x" * 600000)))  # so large that it is not even looked at
    assert await here.wait_closed(10) == 1012
    await there.expect(1)
    here = await RawClient.connect(small.port)
    assert await here.subscribe("t")
    await kafka.produce_async(topic, foreign('"%s"' % ("x" * 9000)))
    assert await here.wait_closed(20) == 1012  # the second one within ten seconds waits for their end
    await there.expect(2)
    await kafka.produce_async(topic, foreign(DEEP))
    assert await there.wait_closed(10) == 1012
    assert not here.notifies and len(there.notifies) == 2
    assert counter(small, "events_dropped", reason="too_large") == 2
    assert "an event was above this server's limits" in usual.log()


async def test_events_above_the_limits_in_redis_make_clients_refetch(opald, redis, topic):
    server = opald(broadcast_uri=redis.uri, channel=topic, env=QUICK)

    first, second = await RawClient.connect(server.port), None
    assert await first.subscribe("t")
    await asyncio.to_thread(redis.publish, topic, foreign('"%s"' % ("x" * (9 << 20))))  # larger than the ring takes
    assert await first.wait_closed(15) == 1012
    second = await RawClient.connect(server.port)
    assert await second.subscribe("t")
    await asyncio.to_thread(redis.publish, topic, foreign(DEEP))
    assert await second.wait_closed(15) == 1012
    assert not first.notifies and not second.notifies
    assert counter(server, "events_dropped", reason="too_large") == 1
    assert counter(server, "resync_closes") == 2
