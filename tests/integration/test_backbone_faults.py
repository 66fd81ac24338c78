"""Two opald servers and the reference on one backbone, clients on each, numbered events from each, while the backbone is killed and started again, frozen,
cut off every second, or half-open; then the log of every client is checked.

Kafka: nobody loses anything, nobody gets anything twice, nobody is disconnected, and what clients have seen is what is in the topic.
Redis, Postgres: what was lost in a gap led to a refetch.

The size is that of harness/fleet.py: small in `make test`, 100 clients and 10,000 events in `make test-backbones`."""

import asyncio
import re
import time

import pytest

from harness import KafkaBroker, kcat
from harness.backbones import PostgresServer, Proxy, RedisServer
from harness.fleet import CALM, CLIENTS, EVENTS, FULL, SECONDS, Recorder, check_log, note, publish
from harness.metrics import counter
from harness.paths import scaled

pytestmark = pytest.mark.limit(300 if FULL else 120)

SETTLE = 3 if FULL else 1.5
HEARTBEAT = 20 if FULL else 3  # frozen and killed have the default
AWAY = 8 if FULL else 2        # killed until started
FROZEN = SECONDS
LAST = 20                      # events of each source when all is over


class Fleet:
    def __init__(self, kind, work, opald, reference, topic, fault):
        self.kind, self.topic = kind, topic
        if kind == "kafka":
            self.backbone = KafkaBroker(work, proxies=2, name="backbone")
            self.backbone.create_topic(topic)
            self.proxies = self.backbone.proxies
        else:
            self.backbone = {"redis": RedisServer, "postgres": PostgresServer}[kind](work, name="backbone")
            self.proxies = [Proxy(self.backbone.port) for _ in range(2)]
        self.stop = self.backbone.stop
        direct = fault in ("killed", "frozen")
        uris = [self.backbone.uri if direct else self.backbone.uri_by(proxy.port) for proxy in self.proxies]
        env = {"OPAL_BROADCAST_RECONNECT_BACKOFF_MAX_SECONDS": "1", "OPAL_BROADCAST_RESYNC_SETTLE_SECONDS": SETTLE,
               **({} if direct else {"OPAL_BROADCAST_HEARTBEAT_SECONDS": HEARTBEAT})}
        self.ours = [opald(workers=2, broadcast_uri=uri, channel=topic, env=env) for uri in uris]
        self.theirs = reference(broadcast_uri=self.backbone.uri, channel=topic, env={"OPAL_BROADCAST_RECONNECT_BACKOFF_MAX_SECONDS": "1"})
        for server in self.ours:
            server.wait_for_log("Broadcaster listener connected to channel", 20)
        half = CLIENTS // 2
        self.recorder = Recorder("n", {self.ours[0].port: half, self.ours[1].port: CLIENTS - half, self.theirs.port: 2})
        self.theirs.wait_for_log("Broadcaster listener connected", 30)  # it reads once it has a client
        time.sleep(1.5)

    def close(self):
        if hasattr(self, "recorder"):
            self.recorder.close()
        for proxy in self.proxies:
            proxy.close()
        self.stop()


async def act(steps):
    """steps: (seconds after the start, what to do)."""
    began = time.monotonic()
    for at, do in steps:
        await asyncio.sleep(max(0, began + at - time.monotonic()))
        await asyncio.to_thread(do)


def steps_of(fault, fleet):
    backbone = fleet.backbone
    each = lambda method: lambda: [getattr(proxy, method)() for proxy in fleet.proxies]  # noqa: E731
    return {
        "killed": [(CALM, backbone.kill), (CALM + AWAY, backbone.start)],
        "frozen": [(CALM, backbone.pause), (CALM + FROZEN, backbone.resume)],
        "cut": [(CALM + i, each("cut")) for i in range(SECONDS + 1)],
        "half_open": [(CALM, each("swallow"))],
    }[fault]


def in_the_topic(fleet):
    """source -> numbers, in the order of the Kafka topic."""
    found: dict = {}
    for line in kcat(fleet.backbone, "-C", "-q", "-e", "-o", "beginning", "-t", fleet.topic, seconds=30).splitlines():
        match = re.search(rb'"reason": "([a-z]) (\d+)"', line)
        if match:
            found.setdefault(match[1].decode(), []).append(int(match[2]))
    return found


def check_kafka(fleet, sent, logs):
    topic = in_the_topic(fleet)
    for source, count in sent.items():
        assert topic[source] == list(range(count)), "each event is in the topic once, in order"
    for log in logs:
        assert log[0] == "+" and not any(x[0] in "+-" for x in log[1:]), "a client was disconnected"
        for source in sent:
            assert [x for x in log if x[0] == source] == [f"{source}{n}" for n in range(sent[source])]
        assert [x for x in log if x[0] == "r"] == [f"r{n}" for n in topic["r"]], "the reference's, as they are in the topic"
    for server in fleet.ours:
        assert counter(server, "events_dropped", reason="send_failed") == 0
        assert counter(server, "resync_closes") == 0


@pytest.mark.parametrize("fault", ["killed", "frozen", "cut", "half_open"])
@pytest.mark.parametrize("kind", ["kafka", "redis", "postgres"])
async def test_fleet(opald, reference, work, topic, kind, fault):
    fleet = Fleet(kind, work, opald, reference, topic, fault)
    try:
        await run(fleet, kind, fault)
    finally:
        fleet.close()


async def run(fleet, kind, fault):
    one, two = fleet.ours
    recorder = fleet.recorder
    seconds = SECONDS + 2 * CALM
    sent = {"a": EVENTS, "b": EVENTS // 10}
    theirs = max(20, EVENTS // 100)

    await asyncio.gather(
        publish(one.port, "n", "a", 0, sent["a"], seconds), publish(two.port, "n", "b", 0, sent["b"], seconds),
        publish(fleet.theirs.port, "n", "r", 0, theirs, seconds), act(steps_of(fault, fleet)))
    ended = {source: count - 1 for source, count in sent.items()}
    gap = kind != "kafka" and fault != "frozen"
    if gap:
        for server in fleet.ours:
            server.wait_for_log(r"events of other servers may have been lost", 60 + HEARTBEAT)
    else:
        deadline = time.monotonic() + scaled(90)
        while any(last.get(s, -1) < n for (_, _, last), port in zip(recorder.ask("status"), recorder.ports) if port != fleet.theirs.port
                  for s, n in ended.items()):
            assert time.monotonic() < deadline, recorder.ask("status")
            time.sleep(0.2)
    recorder.wait_quiet(SETTLE + 1)  # a resync, if there is one more, is behind us
    await asyncio.gather(*(publish(server.port, "n", source, sent.get(source, theirs), LAST, 2)
                           for source, server in (("a", one), ("b", two), ("r", fleet.theirs))))
    sent = {source: count + LAST for source, count in sent.items()}
    # everything works for everybody again, in both directions, the reference's clients included
    recorder.wait_for({**{source: count - 1 for source, count in sent.items()}, "r": theirs + LAST - 1}, 30)
    recorder.wait_quiet(1)
    logs = recorder.logs()
    ours = [log for server in fleet.ours for log in logs[server.port]]
    outcome = [check_log(log, sent) for log in ours]
    for log in logs[fleet.theirs.port]:
        for source, count in sent.items():
            assert set(f"{source}{n}" for n in range(count - LAST, count)) <= set(log)
    their_lost = [sum(count - len({x for x in log if x[0] == source}) for source, count in sent.items()) for log in logs[fleet.theirs.port]]
    worst = [max(x) for x in zip(*outcome)]
    note(f"{kind:8} {fault:9} {len(ours)} clients, {sum(sent.values())} events: lost {worst[0]}, twice {worst[1]}, asked to refetch "
         f"{min(x[2] for x in outcome)}-{worst[2]} times (at the worst client); the reference's clients missed {max(their_lost)}")
    for server in fleet.ours:
        assert server.exit_code is None
    if kind == "kafka":
        check_kafka(fleet, sent, ours)
    elif fault == "frozen":
        assert worst == [0, 0, 0], "shorter than the heartbeat's limit: nobody notices"
    elif fault == "cut":
        assert all(1 <= x[2] <= 2 + SECONDS // 15 for x in outcome), "refetched at each cut instead of once in a while"
        assert worst[0] < sum(sent.values()) // 4, "clients were sent away while the others replayed"
    else:
        assert all(x[2] == 1 for x in outcome), "each client is asked to refetch, once"
    local = {one.port: "a", two.port: "b"}
    for port, source in local.items():
        for log in logs[port]:
            numbers = [x for x in log if x[0] == source]
            assert len(numbers) == len(set(numbers)), "local delivery does not depend on the backbone"
    if gap:
        assert re.search(r"Broadcaster listener error \(attempt 1\): ", one.log() + two.log())
