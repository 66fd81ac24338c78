"""Kafka as it is run in production: SASL and TLS, further settings of librdkafka, topics with limits, outages. One real broker with a
listener of each kind; the test that kills it comes last."""

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness import OPALD, KafkaBroker, RawClient, clean_environment, close_all, connect_many, free_port, scaled
from harness.backbones import Authority
from harness.metrics import counter, gauge

PASSWORD = "open-sesame,linger.ms=7"
SCRAM_PASSWORD = "scram-sesame"
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required"

# Everybody may do everything with a topic that has no rules of its own.
AUTHORIZER = {"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS",
              "allow.everyone.if.no.acl.found": "true"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def broker(tmp_path_factory, authority):
    certificate, key = authority.issue("127.0.0.1")
    store = tmp_path_factory.mktemp("store") / "broker.pem"
    store.write_bytes(Path(key).read_bytes() + Path(certificate).read_bytes())
    sasl = {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
        "plain.sasl.jaas.config": f'{PLAIN} user_alice="{PASSWORD}";',
        "scram-sha-256.sasl.jaas.config": f"{SCRAM};",
    }
    tls = {"ssl.keystore.type": "PEM", "ssl.keystore.location": store}
    made = KafkaBroker(tmp_path_factory.mktemp("production"), auto_create=False, name="production-kafka",
                       settings=AUTHORIZER, security={"SASL_PLAINTEXT": sasl, "SASL_SSL": {**sasl, **tls}, "SSL": tls}, scram={"bob": SCRAM_PASSWORD})
    yield made
    made.stop()


def uri(broker, protocol, host="127.0.0.1"):
    return f"kafka://{host}:{broker.ports[protocol]}"


def sasl(protocol, user, password, mechanism="PLAIN", **more):
    return {"KAFKA_SECURITY_PROTOCOL": protocol, "KAFKA_SASL_MECHANISM": mechanism, "KAFKA_PLAIN_USERNAME": user,
            "KAFKA_PLAIN_PASSWORD": password, **more}


def backbone_up(server, seconds=15):
    server.wait_for_log("Broadcaster listener connected to channel", seconds)
    return server


def notification(data, topics=("t",)):
    return json.dumps({"notifier_id": "ext", "topics": list(topics), "data": data})


async def both_ways(broker, topic, server):
    """An event of a stranger reaches the server's client, the client's reaches the topic."""
    async with RawClient.open(server.port) as client:
        await client.subscribe("t")
        await broker.produce_async(topic, notification("in"))
        assert (await client.expect(1))[0].data == "in"
        async with RawClient.open(server.port) as publisher:  # one does not hear oneself
            assert await publisher.publish("t", "out") is True
        await client.expect(2)
    records = await broker.read_async(topic, 2)
    assert [json.loads(r.value)["data"] for r in records] == ["in", "out"]


# ---------------------------------------------------------------- SASL and TLS
def by_environment(broker, authority, work):
    return {"env": sasl("SASL_SSL", "bob", SCRAM_PASSWORD, "SCRAM-SHA-256", KAFKA_SSL_CAFILE=authority.ca)}


def by_settings(broker, authority, work):
    """Everything by --kafka-config and its file; the password has a comma and an '='."""
    path = work / "kafka.conf"
    path.write_text(f"# secrets\nsasl.password = {PASSWORD}\nssl.ca.location={authority.ca}\n")
    return {"args": ["--kafka-config", "security.protocol=sasl_ssl", "--kafka-config=sasl.mechanism=PLAIN",
                     "--kafka-config", "sasl.username=alice", "--kafka-config-file", path],
            "env": {"OPAL_KAFKA_CONFIG": "compression.type=lz4,client.id=opald-here", "KAFKA_SSL_CAFILE": ""}}


@pytest.mark.parametrize("protocol, options", [
    ("SASL_PLAINTEXT", lambda *_: {"env": sasl("SASL_PLAINTEXT", "alice", PASSWORD)}),
    ("SASL_PLAINTEXT", lambda *_: {"env": sasl("SASL_PLAINTEXT", "bob", SCRAM_PASSWORD, "SCRAM-SHA-256")}),
    ("SASL_SSL", by_environment),
    ("SASL_SSL", by_settings),
    ("SSL", lambda broker, authority, work: {"env": {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CAFILE": authority.ca}}),
], ids=["sasl-plain", "sasl-scram", "sasl-ssl", "sasl-ssl-by-settings", "ssl"])
async def test_secured(opald, broker, authority, topic, work, protocol, options):
    broker.create_topic(topic)
    server = backbone_up(opald(broadcast_uri=uri(broker, protocol), channel=topic, **options(broker, authority, work)))
    await both_ways(broker, topic, server)
    assert PASSWORD not in server.log() and SCRAM_PASSWORD not in server.log()


def processor_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_refused_by_the_broker(opald, broker, authority, topic, tmp_path):
    """Wrong password, wrong CA, wrong host: one line that says so, then backoff; clients are served meanwhile."""
    broker.create_topic(topic)
    other = Authority(tmp_path / "other-ca")
    here = {"OPAL_BROADCAST_START_WAIT_SECONDS": "0"}
    cases = {
        "wrong password": (uri(broker, "SASL_PLAINTEXT"), sasl("SASL_PLAINTEXT", "alice", "not-the-password"), "Authentication failed"),
        "wrong user": (uri(broker, "SASL_PLAINTEXT"), sasl("SASL_PLAINTEXT", "eve", SCRAM_PASSWORD, "SCRAM-SHA-256"), "[Aa]uthentication failed"),
        "wrong password by TLS": (uri(broker, "SASL_SSL"), sasl("SASL_SSL", "alice", "not-the-password", KAFKA_SSL_CAFILE=authority.ca), "Authentication failed"),
        "wrong CA": (uri(broker, "SSL"), {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CAFILE": other.ca}, "certificate verify failed|unknown CA"),
        "wrong host": (uri(broker, "SSL", "localhost"), {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CAFILE": authority.ca},
                       "certificate verify failed|hostname mismatch"),
        "plain text to a secured port": (uri(broker, "SASL_SSL"), {}, "WARNING.*might be caused by incorrect security.protocol"),
    }
    servers = {name: opald(broadcast_uri=address, channel=topic, env={**here, **env}) for name, (address, env, _) in cases.items()}
    began = time.monotonic()
    for name, server in servers.items():
        server.wait_for_log(r"\| opald.broadcast .*(?:" + cases[name][2] + ")", 15)
        assert "experimental" not in server.log(), "a warning about our own setting"
    before = {name: processor_seconds(server.pid) for name, server in servers.items()}
    time.sleep(5)
    for name, server in servers.items():
        used = processor_seconds(server.pid) - before[name]
        lines = [x for x in server.log().splitlines() if "opald.broadcast" in x]
        print(f"{name}: {used * 1000:.0f} ms of processor in 5 s, {len(lines)} lines in {time.monotonic() - began:.1f} s, "
              f"e.g. {next(x for x in lines if re.search(cases[name][2], x))}")
        assert used < scaled(0.25), f"{name}: a busy loop"
        assert len(lines) < 12, f"{name}: the log is flooded:\n" + "\n".join(lines)
        assert "not-the-password" not in server.log() and SCRAM_PASSWORD not in server.log()

    async def local(server):
        async with RawClient.open(server.port) as client, RawClient.open(server.port) as publisher:
            await client.subscribe("t")
            assert await publisher.publish("t", 1) is True
            await client.expect(1)
    for server in servers.values():
        await local(server)
        server.any_exit = True
        server.send_signal(signal.SIGINT)


# ---------------------------------------------------------------- settings of librdkafka
def run(*arguments, env=None):
    done = subprocess.run([OPALD, *map(str, arguments)], env=clean_environment(env), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=scaled(20))
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("setting, message", [
    ("no.such.key=1", 'no.such.key: No such configuration property: "no.such.key"'),
    ("linger.ms=soon", "linger.ms: Invalid value"),
    ("socket.timeout.ms=1", "socket.timeout.ms: "),
    ("max.in.flight=100", "`max.in.flight` must be set <= 5"),
    ("enable.idempotence=false", "enable.idempotence can't be changed from true: events would be lost, doubled or out of order"),
    ("auto.offset.reset=earliest", "auto.offset.reset can't be changed from error"),
    ("enable.partition.eof=false", "enable.partition.eof can't be changed"),
    ("group.id=opal", "group.id can't be set: every server reads the whole topic"),
    ("ssl.ca.location=/no/such/file", "ssl.ca.location"),
    ("topsecret", "--kafka-config (value not shown): must be key=value"),
])
def test_refused_settings(setting, message):
    more = ["--kafka-config", "security.protocol=ssl"] if setting.startswith("ssl") else []
    for command in ("run", "check-config"):
        status, said = run(command, "--port", free_port(), "--broadcast-uri", "kafka://127.0.0.1:1", "--kafka-config", setting, *more)
        assert status == 2, said
        assert message in said and len(said.strip().splitlines()) == 1, said
        assert "topsecret" not in said


def test_settings_are_secret(work):
    work.mkdir(parents=True, exist_ok=True)
    path = work / "settings"
    path.write_text("sasl.password=topsecret\n")
    status, said = run("print-config", "--broadcast-uri", "kafka://127.0.0.1:1", "--kafka-config-file", path)
    assert status == 0 and '"KAFKA_CONFIG": "***"' in said and "topsecret" not in said
    status, said = run("check-config", "--broadcast-uri", "kafka://127.0.0.1:1", "--kafka-config-file", path, env={"OPAL_KAFKA_CONFIG": "linger.ms=5\nclient.id=x"})
    assert status == 0, said
    status, said = run("check-config", "--broadcast-uri", "kafka://127.0.0.1:1", "--kafka-config-file", work / "nothing")
    assert status == 2 and "must be a file that can be read" in said


# ---------------------------------------------------------------- the topic
async def test_missing_topic(opald, broker, topic):
    waits = opald(broadcast_uri=broker.uri, channel=topic, env={"OPAL_BROADCAST_START_WAIT_SECONDS": "0"}, name="waits")
    command = f"kafka-topics.sh --bootstrap-server {broker.bootstrap} --create --topic {topic} --partitions 1"
    waits.wait_for_log(re.escape(command), 15)
    makes = backbone_up(opald(broadcast_uri=broker.uri, channel=topic, args=["--kafka-create-topic", "true"], name="makes"))
    assert f"topic '{topic}' was missing: made it, with one partition" in makes.log()
    backbone_up(waits)
    waits.wait_for_log("resyncing this worker's clients", 10)  # which would end one that connects before

    async with RawClient.open(waits.port) as client:
        await client.subscribe("t")
        async with RawClient.open(makes.port) as publisher:
            assert await publisher.publish("t", 1) is True
        assert (await client.expect(1))[0].data == 1
    assert {r.partition for r in broker.read(topic, 1)} == {0}


async def test_limit_of_the_topic(opald, broker, topic):
    """What the topic can't carry is refused at the door: 413, RPC false. What it can just carry arrives."""
    limit = 20000
    broker.create_topic(topic, config={"max.message.bytes": limit})
    one, two = (backbone_up(opald(broadcast_uri=broker.uri, channel=topic, name=name)) for name in ("one", "two"))
    one.wait_for_log(r"events of up to \d+ bytes are taken", 5)
    taken = int(gauge(one, "event_limit_bytes"))
    assert taken == limit

    here, there, publisher = [await RawClient.connect(server.port) for server in (one, two, one)]
    await here.subscribe("t", "policy_data")
    await there.subscribe("t", "policy_data")
    await publisher.publish("t", "")
    envelope = len((await here.expect(1))[0].raw) - len('""')
    assert await publisher.publish("t", "x" * (taken - envelope - 2)) is True
    assert await publisher.publish("t", "x" * (taken - envelope - 1)) is False
    # around the edge, byte by byte: whoever is told true is heard on the other server
    told = [size for size in range(limit - 500, limit, 7) if await publisher.publish("t", "y" * size) is True]
    assert told and told[-1] < limit - envelope
    refused = await asyncio.to_thread(one.publish, "policy_data", ["z" * limit])
    assert refused.status == 413 and str(taken) in refused.text, refused.text
    assert (await asyncio.to_thread(one.publish, "policy_data", ["fits"])).status == 200
    await there.expect(3 + len(told))
    assert [len(n.data) for n in there.notifies[2:-1]] == told
    await close_all([here, there, publisher])
    assert counter(one, "events_dropped", reason="too_large") == 0
    assert "Kafka producer: fatal error" not in one.log(), "a batch of several was larger than the topic takes"


async def test_a_user_with_few_rights(opald, broker, topic):
    """Read, Write and Describe on the topic are enough. The limit can't be learned then: what is too large is refused by the broker, counted,
    takes nothing else with it, and the other servers' clients are asked to refetch."""
    broker.create_topic(topic, config={"max.message.bytes": 20000})
    broker.allow(topic, "bob", "Read", "Write", "Describe")
    server = backbone_up(opald(broadcast_uri=uri(broker, "SASL_PLAINTEXT"), channel=topic, env=sasl("SASL_PLAINTEXT", "bob", SCRAM_PASSWORD, "SCRAM-SHA-256")))
    server.wait_for_log(r"INFO .*Kafka doesn't tell the settings of topic '[-t0-9a-f]+' \(.*[Aa]uthorization failed", 5)
    await both_ways(broker, topic, server)

    two = backbone_up(opald(broadcast_uri=broker.uri, channel=topic, name="two"))
    async with RawClient.open(two.port) as there, RawClient.open(server.port) as publisher:
        await there.subscribe("t")
        for data in ("x" * 30000, "behind it"):
            assert await publisher.publish("t", data) is True
        assert await there.wait_closed(20) == 1012
        assert [n.data for n in there.notifies] in (["behind it"], [])
    records = [json.loads(r.value) for r in broker.read(topic, 4)]
    assert [r["data"] for r in records if r["topics"]] == ["in", "out", "behind it"]
    server.wait_until(lambda: counter(server, "events_dropped", reason="too_large") == 1, 5, "a count of one")
    assert "is larger than Kafka takes" in server.log()


# ---------------------------------------------------------------- a queue that overflows
async def test_overflow_is_made_up_for(opald, reference, broker, topic):
    """What found no room while Kafka was frozen: own clients heard it, those of other opald servers are told to refetch, the reference is
    not troubled by the message that says so."""
    broker.create_topic(topic)
    one = backbone_up(opald(broadcast_uri=broker.uri, channel=topic, name="one", env={"OPAL_KAFKA_QUEUE_MAX_MESSAGES": "20"}))
    two = backbone_up(opald(broadcast_uri=broker.uri, channel=topic, name="two"))
    theirs = reference(broadcast_uri=broker.uri, channel=topic)

    here = await connect_many(one.port, 5, "t")
    there = await connect_many(two.port, 5, "t")
    publisher = await RawClient.connect(one.port)
    old = await RawClient.connect(theirs.port)
    await old.subscribe("t")
    await asyncio.to_thread(theirs.wait_for_log, "Broadcaster listener connected", 30)
    await asyncio.sleep(1.5)
    await publisher.publish("t", -1)
    for client in [*here, *there, old]:
        await client.expect(1)
    broker.pause()
    try:
        for i in range(100):
            assert await publisher.publish("t", i) is True
        for client in here:
            await client.expect(101)
    finally:
        broker.resume()
    for client in there:
        assert await client.wait_closed(30) == 1012
        assert [n.data for n in client.notifies] == list(range(-1, len(client.notifies) - 1)), "what had room came first, in order"
    again = await RawClient.connect(two.port)
    await again.subscribe("t")
    await publisher.publish("t", "after")
    await again.expect(1)
    await old.until(lambda c: c.notifies[-1].data == "after", what="the next event at the reference")
    for client in here:
        await client.expect(102)
        assert not client.is_closed and [n.data for n in client.notifies] == [-1, *range(100), "after"]
    assert not old.is_closed
    assert "Failed handling" not in theirs.log() and "Traceback" not in theirs.log()
    await close_all([*here, publisher, again, old])
    lost = counter(one, "events_dropped", reason="send_failed")
    assert lost >= 70
    assert re.search(rf"{lost} events could not be sent to Kafka: other servers are told to have their clients refetch", one.log())
    assert re.search(rf"events of other servers may have been lost \(server [0-9a-f]{{32}}: {lost} events could not be sent to Kafka", two.log())
    assert counter(one, "resync_closes") == 0
    (call,) = [json.loads(r.value) for r in broker.read(topic) if b"opald_resync" in r.value]
    assert call["topics"] == [] and call["data"] is None


# ---------------------------------------------------------------- outages (last: the broker is killed)
@pytest.mark.limit(120)
async def test_three_thousand_events_through_outages(opald, broker, topic):
    """Numbered events of both servers while the broker is killed, started again, and frozen for ten seconds: every client gets each
    once and in order, and none is dropped."""
    broker.create_topic(topic)
    backoff = {"OPAL_BROADCAST_RECONNECT_BACKOFF_MAX_SECONDS": "1"}  # so that they are back before the next trouble comes
    servers = [backbone_up(opald(workers=2, broadcast_uri=broker.uri, channel=topic, name=name, env=backoff)) for name in ("one", "two")]
    counts = (2000, 1000)

    async def publish(server, who, count):
        client = await RawClient.connect(server.port)
        for i in range(count):
            assert await client.publish("t", [who, i]) is True
            await asyncio.sleep(20 / count)
        await client.close()

    async def trouble():
        await asyncio.sleep(1)
        broker.kill()
        await asyncio.sleep(3)
        await asyncio.to_thread(broker.start)
        for server in servers:
            await asyncio.to_thread(server.wait_for_log, "Broadcaster listener connected to channel .* again after", 20)
        await asyncio.sleep(1)
        broker.pause()
        await asyncio.sleep(10)
        broker.resume()

    clients = [*await connect_many(servers[0].port, 10, "t"), *await connect_many(servers[1].port, 10, "t")]
    await asyncio.gather(*(publish(s, who, n) for who, (s, n) in enumerate(zip(servers, counts))), trouble())
    for client in clients:
        await client.expect(sum(counts), 60)
    await asyncio.sleep(0.5)
    for client in clients:
        assert not client.is_closed
        for who, count in enumerate(counts):
            assert [n.data[1] for n in client.notifies if n.data[0] == who] == list(range(count))
        assert len(client.notifies) == sum(counts)
    await close_all(clients)
    for server in servers:
        assert counter(server, "events_dropped", reason="send_failed") == 0
        assert counter(server, "resync_closes") == 0
