"""The Kafka backbone alone (broadcast/), through kafka_driver, against a real broker."""

import json
import os
import re
import signal
import statistics
import time

import pytest

from harness.backbone_cases import memory_kib
from harness.backbone_driver import A, B, driver  # noqa: F401 (a fixture)
from harness.coroutines import run_to_end
from harness.kafka import KafkaBroker, kcat
from harness.paths import SANITIZER, scaled
from harness.process import freeze


def numbers(events):
    return [int(data) for _, data in events]


def notification(data, topics=("t",), notifier="ext"):
    return json.dumps({"notifier_id": notifier, "topics": list(topics), "data": data})


def test_round_trip(kafka, topic, driver):
    kafka.create_topic(topic)
    one, two = driver(kafka.uri, topic, A).up(), driver(kafka.uri, topic, B).up()
    data = '{"z": 9007199254740993, "a": 1.0, "big": 1e400, "é": "\\u00e9", "z": 2,   "n": -0}'
    one.say('publish plain 1', f'publish policy_data/é"x {data}', "publish three null")
    assert two.wait_events(3) == [("plain", "1"), ('policy_data/é"x', data), ("three", "null")]
    assert one.wait_counts(sent=3, own=3)["own"] == 3
    assert one.events() == [], "its own messages came back"
    records = kafka.read(topic, 3)
    assert [r.value for r in records] == [
        f'{{"notifier_id": "{A}", "topics": ["plain"], "data": 1}}'.encode(),
        f'{{"notifier_id": "{A}", "topics": ["policy_data/\\u00e9\\"x"], "data": {data}}}'.encode(),
        f'{{"notifier_id": "{A}", "topics": ["three"], "data": null}}'.encode(),
    ]
    assert all(r.key is None and not r.headers and r.partition == 0 for r in records)
    assert "connecting to brokers: ['127.0.0.1:" in one.log()
    assert f"Broadcaster listener connected to channel '{topic}'" in one.log()
    assert one.close() == 0 and two.close() == 0


def test_starts_at_the_end(kafka, topic, driver):
    kafka.create_topic(topic)
    kafka.produce(topic, *[notification(i) for i in range(20)])
    one = driver(kafka.uri, topic).up()
    kafka.produce(topic, notification(100))
    assert numbers(one.wait_events(1)) == [100]


def test_what_others_write(kafka, topic, driver):
    kafka.create_topic(topic)
    one = driver(kafka.uri, topic).up()
    kcat(kafka, "-P", "-t", topic, "-k", "some key", "-H", "h=1", stdin=notification("kcat").encode() + b"\n")
    bad = [None, b"", b"\xff\xfe", b"not json", b"[1]", b"5", b'{"topics":["t"]}', b'{"notifier_id":null,"topics":["t"]}',
           b'{"notifier_id":"x","topics":"t"}', b'{"notifier_id":"x","topics":[["t"]]}', b'{"notifier_id":"x","topics":["\xff"]}']
    kafka.produce(topic, *bad, b'{"notifier_id":"x","topics":[]}')
    kafka.produce(topic, b'{"notifier_id":"ext","topics":["t"]}', b'{"more":1,"notifier_id":5,"topics":[1,"u"],"data":[1.50]}',
                  b'{"notifier_id":"","topics":["v"],"data":{"deep":' + b"[" * 100 + b"]" * 100 + b"}}")
    events = one.wait_events(4)
    assert events[:3] == [("t", '"kcat"'), ("t", "null"), ("1,u", "[1.50]")]
    assert events[3][0] == "v"
    assert one.wait_counts(rejected=len(bad))["rejected"] == len(bad)
    assert "Failed handling incoming broadcast: no value (a tombstone)" in one.log()
    assert one.close() == 0


@pytest.fixture(scope="module")
def strict_kafka(tmp_path_factory):
    """A broker that makes no topic by itself."""
    broker = KafkaBroker(tmp_path_factory.mktemp("strict"), auto_create=False, name="strict-kafka")
    yield broker
    broker.stop()


def test_topic_made_later(strict_kafka, topic, driver):
    one = driver(strict_kafka.uri, topic)
    command = f"kafka-topics.sh --bootstrap-server {strict_kafka.bootstrap} --create --topic {topic} --partitions 1"
    one.wait(lambda: command in one.log(), 10, "advice to create the topic")
    assert "state UP" not in one.lines
    one.say("publish early 1", "publish early 2")  # they wait
    began = time.monotonic()
    strict_kafka.create_topic(topic)
    created = time.monotonic()
    at = one.up(10) and next(t for t, line in zip(one.times, one.lines) if line == "state UP")
    strict_kafka.produce(topic, *[notification(i) for i in range(5)])
    assert numbers(one.wait_events(5)) == list(range(5)), "everything from the moment on in which it says that it is up"
    print(f"creation took {created - began:.2f} s, heard of {at - created:+.2f} s after it")
    assert at - created < scaled(1.5)
    one.wait_counts(sent=2)  # before the place where reading began: the router has clients refetch when the backbone comes late
    assert [json.loads(r.value)["data"] for r in strict_kafka.read(topic, 7) if A in r.value.decode()] == [1, 2]
    assert one.close() == 0


def test_topic_made_by_the_broker(kafka, topic, driver):
    one = driver(kafka.uri, topic, A).up()
    two = driver(kafka.uri, topic, B).up()
    one.say("publish t 1")
    assert numbers(two.wait_events(1)) == [1]


@pytest.mark.limit(60)
def test_producer_alone_outlasts_a_missing_topic(strict_kafka, topic, driver):
    """librdkafka gives messages for an unknown topic back after 30 s: they are held, and order stays."""
    one = driver(strict_kafka.uri, topic, A)
    two = driver(strict_kafka.uri, topic, B)
    one.say("flood t 50")
    time.sleep(33)
    assert "they wait here in order" in one.log()
    one.say(*[f"publish t {i}" for i in range(50, 60)])
    strict_kafka.create_topic(topic)
    assert numbers(two.wait_events(60)) == list(range(60))
    assert one.close() == 0


@pytest.mark.limit(120)
def test_broker_killed_while_publishing(own_kafka, topic, driver):
    own_kafka.create_topic(topic)
    one, two = driver(own_kafka.uri, topic, A).up(), driver(own_kafka.uri, topic, B).up()
    killed = False
    for i in range(1000):
        one.say(f"publish t {i}")
        time.sleep(0.002)
        if i == 300:
            own_kafka.kill()
            killed = True
    assert killed
    one.wait_line("state GAP", 20)
    two.wait_line("state GAP", 20)
    own_kafka.start()
    assert numbers(two.wait_events(1000, 60)) == list(range(1000)), "each once, in order"
    assert one.wait_counts(30, sent=1000, reconnect=1)["send_failed"] == 0
    assert [json.loads(r.value)["data"] for r in own_kafka.read(topic, 1000)] == list(range(1000))
    one.wait_line("state UP", count=2)
    two.wait_line("state UP", count=2)
    assert not [x for x in one.lines + two.lines if x.startswith("gap")], "nothing was lost, so nobody has to refetch"
    assert len(one.log().splitlines()) < 60, "an outage must not flood the log:\n" + one.log()
    assert one.close() == 0


@pytest.mark.limit(120)
def test_missed_while_disconnected(own_kafka, topic, driver):
    """What others write between our losing the broker and our coming back is read from the kept offset."""
    own_kafka.create_topic(topic)
    one = driver(own_kafka.uri, topic, A, backoff_min=4, backoff_max=5).up()
    own_kafka.produce(topic, notification(0))
    one.wait_events(1)
    own_kafka.kill()
    one.wait_line("state GAP", 20)
    own_kafka.start()
    own_kafka.produce(topic, *[notification(i) for i in range(1, 50)])
    assert numbers(one.wait_events(50, 30)) == list(range(50))
    one.wait_line("state UP", count=2)
    assert not [x for x in one.lines if x.startswith("gap")]


@pytest.mark.limit(90)
def test_broker_stopped_for_ten_seconds(own_kafka, topic, driver):
    own_kafka.create_topic(topic)
    one, two = driver(own_kafka.uri, topic, A).up(), driver(own_kafka.uri, topic, B).up()
    one.say("flood t 100")
    assert len(two.wait_events(100)) == 100
    own_kafka.pause()
    for i in range(100, 200):
        one.say(f"publish t {i}")
        time.sleep(0.1)
    own_kafka.resume()
    assert numbers(two.wait_events(200, 45)) == list(range(200))
    assert one.wait_counts(30, sent=200)["send_failed"] == 0
    assert not [x for x in two.lines if x.startswith("gap")]
    assert one.close() == 0


def test_latency(kafka, topic, driver):
    kafka.create_topic(topic)
    one, two = driver(kafka.uri, topic, A).up(), driver(kafka.uri, topic, B).up()
    for i in range(300):
        one.say("stamp t")
        time.sleep(0.01)
    two.wait_events(300)
    took = sorted((int(x.split(" ")[2]) - int(x.split(" ")[3])) / 1e6 for x in two.lines if x.startswith("event "))[:]
    took = took[:-1] if len(took) > 300 else took
    median, p99 = statistics.median(took), took[int(len(took) * 0.99)]
    print(f"publish to event callback of the other server: p50 {median:.2f} ms, p99 {p99:.2f} ms, max {took[-1]:.2f} ms")
    # a delay of librdkafka (linger.ms, fetch.wait.max.ms) would be in each of them, a busy machine is not
    assert took[len(took) // 4] < scaled(5)


def test_flow_control(kafka, topic, driver):
    kafka.create_topic(topic)
    one = driver(kafka.uri, topic).up()
    one.say("pause")
    kafka.produce(topic, *[notification(i) for i in range(1500)])
    time.sleep(0.5)
    assert one.events() == []
    assert one.counts()["offers_refused"] == 1, "not offered again before it is told to go on"
    one.say("resume")
    assert numbers(one.wait_events(1500)) == list(range(1500))
    one.say("pause", "resume", "resume")
    kafka.produce(topic, notification(1500))
    assert numbers(one.wait_events(1501))[-1] == 1500
    assert 1500 / 256 <= one.counts()["batches"]
    assert one.close() == 0


def test_partitions(strict_kafka, topic, driver):
    strict_kafka.create_topic(topic, partitions=3)
    strict_kafka.produce(topic, notification(-1), partition=2)
    one, two = driver(strict_kafka.uri, topic, A).up(), driver(strict_kafka.uri, topic, B).up()
    one.say("flood t 100")
    assert numbers(two.wait_events(100)) == list(range(100)), "one partition, so one order"
    assert {r.partition for r in strict_kafka.read(topic, 101) if r.value.startswith(b'{"notifier_id": "a')} == {0}
    strict_kafka.produce(topic, notification(1000), partition=1)
    strict_kafka.produce(topic, notification(2000), partition=2)
    assert sorted(numbers(two.wait_events(102)[100:])) == [1000, 2000]
    assert len(re.findall(r"has 3 partitions: order is kept only", one.log())) == 1
    strict_kafka.add_partitions(topic, 5)
    strict_kafka.produce(topic, notification(4000), partition=4)
    assert "the Kafka topic has more partitions" in two.wait_line("gap", 20)
    one.wait_line("gap", 20)
    strict_kafka.produce(topic, notification(4001), partition=4)
    assert numbers(two.wait_events(103, 15))[-1] == 4001, "new partitions are read from their end, and clients refetch"
    assert one.close() == 0


def admin(broker, action):
    from aiokafka.admin import AIOKafkaAdminClient

    async def run():
        client = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        await client.start()
        try:
            return await action(client)
        finally:
            await client.close()
    return run_to_end(run())


def test_lost_offset(strict_kafka, topic, driver):
    """Records that were deleted before they were read: `gap`, and on from the end."""
    from aiokafka import TopicPartition
    from aiokafka.admin import RecordsToDelete
    strict_kafka.create_topic(topic)
    one = driver(strict_kafka.uri, topic).up()
    strict_kafka.produce(topic, notification(0))
    one.wait_events(1)
    freeze(one.process.pid)
    for i in range(1, 20):
        strict_kafka.produce(topic, notification(i))
    admin(strict_kafka, lambda c: c.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=20)}))
    one.process.send_signal(signal.SIGCONT)
    one.wait_line("gap")  # reading goes on at the log's end from here on
    strict_kafka.produce(topic, notification(100))
    one.wait(lambda: numbers(one.events())[-1] == 100, what="event 100")
    seen = numbers(one.events())
    assert seen == sorted(set(seen)) and len(seen) < 20
    assert "the place where we stopped is not in Kafka's log any more" in one.wait_line("gap")


@pytest.mark.limit(90)
def test_topic_made_anew(strict_kafka, topic, driver):
    strict_kafka.create_topic(topic)
    one, two = driver(strict_kafka.uri, topic, A).up(), driver(strict_kafka.uri, topic, B).up()
    one.say("flood t 10")
    two.wait_events(10)
    admin(strict_kafka, lambda c: c.delete_topics([topic]))
    two.wait_line("state GAP", 20)
    one.wait_line("state GAP", 20)
    one.say("publish t 10", "publish t 11")
    strict_kafka.create_topic(topic)
    strict_kafka.produce(topic, notification(50))
    for server in (one, two):
        assert "was deleted and created again" in server.wait_line("gap", 20)
        server.wait_line("state UP", 20, count=2)
    one.wait_counts(20, sent=12)
    one.say("publish t 12")
    strict_kafka.produce(topic, notification(51))
    two.wait(lambda: {12, 51} <= set(numbers(two.events())), 20, "events 12 and 51")
    seen = numbers(two.events())
    assert seen[:10] == list(range(10)) and len(set(seen)) == len(seen), f"{seen}\n{two.log()[-2500:]}"
    assert sum(line.startswith("gap") for line in two.lines) == 1, "once, for all that was written before it was heard again"
    assert one.close() == 0


def test_topic_made_anew_while_the_ring_is_full(strict_kafka, topic, driver):
    """A message of the old topic still waits for room: its offset says nothing about the new one."""
    strict_kafka.create_topic(topic)
    one = driver(strict_kafka.uri, topic).up()
    strict_kafka.produce(topic, *[notification(i) for i in range(20)])
    one.wait_events(20)
    one.say("pause")
    strict_kafka.produce(topic, notification(20))
    admin(strict_kafka, lambda c: c.delete_topics([topic]))
    one.wait_line("state GAP", 20)
    strict_kafka.create_topic(topic)
    one.say("resume")
    assert "was deleted and created again" in one.wait_line("gap", 20)
    one.wait_line("state UP", 20, count=2)
    strict_kafka.produce(topic, *[notification(100 + i) for i in range(5)])
    one.wait(lambda: set(range(100, 105)) <= set(numbers(one.events())), 20, "the new topic's events")
    assert one.close() == 0


def test_too_large(strict_kafka, topic, driver):
    """The broker's limit is below ours: only what is too large is given up, also when it went out together with others."""
    strict_kafka.create_topic(topic, config={"max.message.bytes": 3000})
    one, two = driver(strict_kafka.uri, topic, A).up(), driver(strict_kafka.uri, topic, B).up()
    big = json.dumps("x" * 5000)
    one.say(*[f"publish t {i}" for i in range(100)], f"publish t {big}", *[f"publish t {i}" for i in range(100, 200)],
            f"publish t {big}", *[f"publish t {i}" for i in range(200, 300)])
    assert numbers(two.wait_events(300, 20)) == list(range(300))
    counts = one.wait_counts(sent=300, too_large=2)
    assert counts["too_large"] == 2 and counts["send_failed"] == 0
    assert "is larger than Kafka takes" in one.log()
    two.wait_line("gap", 15)
    assert re.search(r"server a{32}: \d+ events could not be sent to Kafka", "\n".join(two.lines))
    one.say("publish t " + json.dumps("y" * 3000000))
    assert one.wait_line("refused") == "refused EMSGSIZE"
    one.say("flood t 1000")
    assert numbers(two.wait_events(1300, 20))[300:] == list(range(1000))
    assert one.close() == 0


@pytest.mark.limit(120)
def test_order_when_batches_are_refused(strict_kafka, topic, driver):
    """Many requests under way while some are refused for good: what is behind a refused batch must not overtake it."""
    strict_kafka.create_topic(topic, config={"max.message.bytes": 20000})
    one, two = driver(strict_kafka.uri, topic, A).up(), driver(strict_kafka.uri, topic, B).up()
    big, count, refused = json.dumps("x" * 25000), 2000, 0
    one.say(f"publish t {big}")  # as the very first message of a producer too
    for i in range(count):
        one.say(f"publish t {i}")
        if i % 50 == 0:
            one.say(f"publish t {big}")
            refused += 1
        until = time.perf_counter() + 0.0003  # several small requests at once, not one large one
        while time.perf_counter() < until:
            pass
    assert numbers(two.wait_events(count, 60)) == list(range(count))
    assert one.wait_counts(20, sent=count, too_large=refused + 1)["send_failed"] == 0
    records = [json.loads(r.value) for r in strict_kafka.read(topic, count)]
    assert [r["data"] for r in records if r["topics"]] == list(range(count))
    assert {r["opald_resync"] for r in records if not r["topics"]}, "the others are told of those that were refused"
    assert one.close() == 0


def test_bounded_queue_and_bounded_close(free_port_uri, topic, driver):
    one = driver(free_port_uri, topic, queue_max_messages=100, grace_ms=500)
    one.say("flood t 150")
    assert one.wait_counts(send_failed=50)["send_failed"] == 50
    assert sum(x == "refused ENOBUFS" for x in one.lines) == 50
    began = time.monotonic()
    assert one.close() == 100
    assert time.monotonic() - began < scaled(2)


@pytest.fixture
def free_port_uri():
    from harness.ports import free_port
    return f"kafka://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def proxied_kafka(tmp_path_factory):
    """One that names a proxy as its address to those who come by it."""
    broker = KafkaBroker(tmp_path_factory.mktemp("proxied"), proxies=1, name="proxied-kafka")
    yield broker
    broker.stop()


@pytest.mark.limit(300)
def test_a_thousand_reconnects(proxied_kafka, topic, driver):
    """Connections that are cut as soon as they are there, with events under way: memory and descriptors stay as they are, nothing is lost."""
    (proxy,) = proxied_kafka.proxies
    proxied_kafka.create_topic(topic)
    one = driver(proxied_kafka.uri_by(proxy.port), topic, A,
                 env={"DRIVER_KAFKA_CONFIG": "reconnect.backoff.ms=10\nreconnect.backoff.max.ms=10"}).up()
    two = driver(proxied_kafka.uri, topic, B).up()
    total, sent, marks = 1000 if not SANITIZER else 300, 0, []
    begin = proxy.accepted
    for part in (0.3, 1):
        while proxy.accepted - begin < total * part:
            one.say(f"publish t {sent}")
            sent += 1
            time.sleep(0.02)
            proxy.cut()
        one.wait_counts(30, sent=sent)  # a calm moment, so that equals are compared
        marks.append(memory_kib(one.process.pid))
    assert numbers(two.wait_events(sent, 30)) == list(range(sent))
    print(f"VmRSS {marks[0]} KiB after {total * 3 // 10} connections, {marks[1]} KiB after {proxy.accepted - begin}; {sent} events")
    assert SANITIZER or marks[1] - marks[0] < 1500, f"memory grows: {marks}"
    assert len(os.listdir(f"/proc/{one.process.pid}/fd")) < 60, "descriptors leak"
    assert one.close() == 0 and two.close() == 0


def test_attempts_used_up(proxied_kafka, topic, driver):
    (proxy,) = proxied_kafka.proxies
    proxied_kafka.create_topic(topic)
    one = driver(proxied_kafka.uri_by(proxy.port), topic, A, max_retries=4, backoff_min=0.2, backoff_max=0.2).up()
    for _ in range(5):
        proxy.cut()
        time.sleep(0.7)
    assert "state LOST" not in one.lines, "connected in between"
    proxy.refuse(True)
    proxy.cut()
    try:
        one.wait_line("state LOST", 15)
    finally:
        proxy.refuse(False)
    assert "Broadcaster reconnect exhausted after 4 attempts; giving up so the server can restart" in one.log()
    time.sleep(1.5)
    assert one.lines[-1] == "state LOST"
    one.close()


def test_broker_comes_later(work, topic, driver):
    """Started before Kafka: CONNECTING, then UP; what was published meanwhile goes out."""
    broker = KafkaBroker(work, name="late-kafka")
    broker.create_topic(topic)
    broker.kill()
    try:
        one, two = driver(broker.uri, topic, A), driver(broker.uri, topic, B)
        one.say("flood t 20")
        time.sleep(1)
        assert "state" not in " ".join(one.lines)
        broker.start()
        one.up(20)
        one.wait_counts(20, sent=20)
        assert [json.loads(r.value)["data"] for r in broker.read(topic, 20)] == list(range(20))
        assert not [x for x in one.lines if x.startswith("gap")]
    finally:
        broker.stop()
        del two


def test_close_sends_what_is_queued(kafka, topic, driver):
    kafka.create_topic(topic)
    one = driver(kafka.uri, topic).up()
    one.say("flood t 5000")
    assert one.close() == 0
    assert len(kafka.read(topic, 5000)) == 5000


def test_mock_cluster(topic, driver):
    one = driver("kafka+mock://", topic).up()
    brokers = re.search(r"kcat -b (\S+) -t", one.log()).group(1)
    assert "trial cluster" in one.log()
    two = driver(f"kafka://{brokers}", topic, B).up()
    one.say("publish t 1")
    two.say("publish t 2")
    assert numbers(two.wait_events(1)) == [1]
    assert numbers(one.wait_events(1)) == [2]
    assert two.close() == 0 and one.close() == 0


@pytest.mark.parametrize("uri, env, expected", [
    ("kafka://user:secret@h:9092", {}, "no user and password in the URI"),
    ("nats://h", {}, "unknown backbone scheme"),
    ("kafka://h:9092", {"KAFKA_SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL=TLS"),
    ("kafka://h:9092", {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_PLAIN_USERNAME": "u"}, "KAFKA_PLAIN_PASSWORD is not set"),
    ("kafka://h:9092", {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CAFILE": "/nonexistent.pem"}, "ssl.ca.location"),
])
def test_refused_settings(uri, env, expected, topic, driver):
    one = driver(uri, topic, env=env)
    line = one.wait_line("error")
    assert expected in line and "secret" not in line
    assert one.process.wait(5) == 2
