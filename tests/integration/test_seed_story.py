"""The main job with the real things: opal-client 0.9.9 with OPA, Apache Kafka, `opal-client publish-data-update`, kcat."""

import asyncio
import json
import re

import pytest

from harness import RawClient, close_all, connect_many, free_port, kcat, opal_client_command

pytestmark = pytest.mark.limit(180)


def serve(opald, kafka, topic, **options):
    """An opald whose default data source is its own /policy-data, as an opal-client expects it."""
    port = options.pop("port", None) or free_port()
    return opald(port=port, broadcast_uri=kafka.uri, channel=topic, env={"OPAL_ALL_DATA_URL": f"http://127.0.0.1:{port}/policy-data"}, **options)


def publish_by_cli(server, url, dst_path, *more):
    printed = opal_client_command("publish-data-update", "--server-url", f"http://127.0.0.1:{server.port}", "--src-url", url, "-t", "policy_data", "--dst-path", dst_path, *more)
    assert "Event Published Successfully" in printed, printed
    return printed


def test_the_documented_steps(opald, opal_client, kafka, topic, source):
    """Publish with the CLI; the client fetches and stores the data in its OPA; the log and the Kafka topic show what OPAL's tutorial
    says they show."""
    kafka.create_topic(topic)
    server = serve(opald, kafka, topic, workers=2)
    client = opal_client(server.port).wait_connected()
    url = source.serve("/23.54.6.78", {"ip": "23.54.6.78", "country": "US"})
    publish_by_cli(server, url, "/users/bob/location")
    client.wait_stored("users/bob/location", {"ip": "23.54.6.78", "country": "US"})

    # the server: the line that the tutorial tells to look for
    line = server.wait_for_log(r"Broadcasting incoming event: \{'topic': 'policy_data', 'notifier_id': '([0-9a-f]{32})'\}", 5)[0]
    # Kafka: key null, no headers, exactly the documented JSON
    (record,) = kafka.read(topic, 1)
    assert record.key is None and not record.headers and record.partition == 0
    assert re.fullmatch(
        r'\{"notifier_id": "[0-9a-f]{32}", "topics": \["policy_data"\], "data": \{"id": null, "entries": \[\{"url": "%s", "config": \{\}, '
        r'"topics": \["policy_data"\], "dst_path": "/users/bob/location", "save_method": "PUT", "data": null\}\], "reason": "", '
        r'"callback": \{"callbacks": \[\]\}\}\}' % re.escape(url), record.value.decode()), record.value
    assert json.loads(record.value)["notifier_id"] == line.group(1)
    # the client: the lines that the tutorial tells to look for
    client.wait_for_log("Received notification of event: policy_data", 5)
    # it comes once: the server's own message from Kafka is not delivered again
    assert len(re.findall("Broadcasting incoming event", server.log())) == 1
    assert source.hits.count("/23.54.6.78") == 1


def test_update_with_inline_data_and_patch(opald, opal_client, kafka, topic):
    server = serve(opald, kafka, topic)
    client = opal_client(server.port).wait_connected()
    assert server.publish("policy_data", {"name": "bob", "n": 9007199254740993}, dst_path="/users/bob").status == 200
    client.wait_stored("users/bob/name", "bob")
    entry = {"url": "", "topics": ["policy_data"], "dst_path": "/users/bob", "save_method": "PATCH", "data": [{"op": "add", "path": "/role", "value": "admin"}]}
    assert server.request("POST", "/data/config", json={"entries": [entry], "reason": "r"}).status == 200
    client.wait_stored("users/bob/role", "admin")


def test_client_reports_and_callbacks(opald, opal_client, kafka, topic, source):
    server = serve(opald, kafka, topic, workers=2)
    client = opal_client(server.port, env={"OPAL_SHOULD_REPORT_ON_DATA_UPDATES": "true"}).wait_connected()
    url = source.serve("/x", {"a": 1})
    entry = {"url": url, "config": {}, "topics": ["policy_data"], "dst_path": "/x", "save_method": "PUT"}
    body = {"id": "update-7", "entries": [entry], "reason": "", "callback": {"callbacks": [source.url("/called")]}}
    assert server.request("POST", "/data/config", json=body).status == 200
    client.wait_stored("x", {"a": 1})
    server.wait_for_log("Received update report: .*update-7", 10)
    server.wait_until(lambda: any(path == "/called" for path, _ in source.posts), 10, "the callback")


def test_client_comes_back_after_the_server_was_away(opald, opal_client, kafka, topic, source):
    """The server restarts: the real client reconnects by itself and gets later updates."""
    server = serve(opald, kafka, topic, workers=2)
    client = opal_client(server.port).wait_connected()
    assert server.stop() == 0
    server = serve(opald, kafka, topic, workers=2, port=server.port)
    client.wait_for_log("Connected to PubSub server", 60, 4)
    publish_by_cli(server, source.serve("/y", {"back": True}), "/y")
    client.wait_stored("y", {"back": True})


async def test_two_servers_on_one_kafka(opald, opal_client, kafka, topic, source):
    """A client on each server; an update given to either reaches both, once; each server logs only what entered there."""
    kafka.create_topic(topic)
    servers = [serve(opald, kafka, topic, workers=2) for _ in range(2)]
    clients = [opal_client(server.port) for server in servers]
    for client in clients:
        client.wait_connected()

    raws = [await RawClient.connect(server.port) for server in servers]
    for raw in raws:
        await raw.subscribe("policy_data")
    for i, server in enumerate(servers):
        url = source.serve(f"/from{i}", {"from": i})
        await asyncio.to_thread(publish_by_cli, server, url, f"/from/server{i}")
        for client in clients:
            await asyncio.to_thread(client.wait_stored, f"from/server{i}", {"from": i})
    for raw in raws:
        await raw.barrier()
        assert [n.data["entries"][0]["dst_path"] for n in raw.notifies] == ["/from/server0", "/from/server1"]
    await close_all(raws)
    records = kafka.read(topic, 2)
    assert len(records) == 2
    ids = [json.loads(record.value)["notifier_id"] for record in records]
    assert ids[0] != ids[1]
    for server in servers:
        assert len(re.findall("Broadcasting incoming event", server.log())) == 1


async def test_event_written_to_kafka_by_kcat(opald, opal_client, kafka, topic, source):
    """'Triggering events directly from Kafka': the documented object, written with kcat, reaches the clients and is not sent again."""
    kafka.create_topic(topic)
    server = serve(opald, kafka, topic, workers=3)
    client = opal_client(server.port).wait_connected()
    url = source.serve("/kcat", {"by": "kcat"})

    raws = await connect_many(server.port, 12, "policy_data")
    message = {"notifier_id": "9a9a97df1da64486a1a56a070f1c3db3", "topics": ["policy_data"],
               "data": {"id": None, "entries": [{"url": url, "config": {}, "topics": ["policy_data"], "dst_path": "/users/kcat", "save_method": "PUT"}],
                        "reason": "User reconnected from new IP", "callback": {"callbacks": []}}}
    await asyncio.to_thread(lambda: kcat(kafka, "-P", "-t", topic, stdin=json.dumps(message).encode() + b"\n"))
    for raw in raws:
        (notify,) = await raw.expect(1)
        assert notify.data == message["data"]
        assert notify.data_text() == json.dumps(message["data"])
    await asyncio.to_thread(client.wait_stored, "users/kcat", {"by": "kcat"})
    await close_all(raws)
    assert len(kafka.read(topic)) == 1
    assert "Broadcasting incoming event" not in server.log()


def test_a_policy_notification_makes_the_client_ask_for_the_bundle(opald, opal_client, kafka, topic):
    """Policy updates of other servers cross the backbone like any event."""
    server = serve(opald, kafka, topic)
    client = opal_client(server.port).wait_connected()
    message = {"notifier_id": "x", "topics": ["policy:."], "data": {"old_policy_hash": "a" * 40, "new_policy_hash": "b" * 40, "changed_directories": ["."]}}
    kafka.produce(topic, json.dumps(message))
    client.wait_for_log("Received policy update: topic=policy:.|Received notification of event: policy:.", 10)


async def test_clients_that_offer_compression_are_served(opald):
    """The Python client offers permessage-deflate; whatever is agreed on, messages of all sizes pass."""
    server = opald()

    client = await RawClient.connect(server.port, compression="deflate")
    await client.subscribe("t")
    for size in (0, 1, 125, 126, 65535, 65536, 500_000):
        assert await client.publish("t", "x" * size, notifier_id="other")
    await client.expect(7)
    assert [len(n.data) for n in client.notifies] == [0, 1, 125, 126, 65535, 65536, 500_000]
    await client.close()
