"""The Redis backbone alone (broadcast/), through the driver, against real Redis servers."""

import re
import time

import pytest

from harness import backbone_cases as cases
from harness.backbone_driver import A, B, driver  # noqa: F401 (a fixture)
from harness.backbones import Authority, FakeServer, RedisServer, proxied
from harness.paths import scaled


globals().update(cases.shared_tests(RedisServer))


def test_what_it_sends(server, driver, topic):
    """Seen by MONITOR: one SUBSCRIBE, one PUBLISH an event, no new connection for it."""
    with server.connection() as connection:
        before = connection.info("clients")["connected_clients"]
        one = driver(server.uri, topic).up()
        one.say("flood n 1000")
        one.wait_counts(sent=1000)
        assert connection.info("clients")["connected_clients"] == before + 2
        assert connection.pubsub_numsub(topic)[0][1] == 1
    assert one.close() == 0


def test_deaf(server, driver, topic):
    """Redis answers everything but delivers nothing: only the heartbeat finds that out."""
    deaf = [False]
    pong = b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"

    def without_messages(direction, data):
        return pong * data.count(pong) if deaf[0] and direction == "down" and b"message" in data else data

    proxy, uri = proxied(server, without_messages)
    one = driver(uri, topic, A, deadline=2, settle=0.3).up()
    deaf[0] = True
    began = time.monotonic()
    one.wait(lambda: "deaf: the backbone took our heartbeat but did not deliver it" in one.log(), 6, "deafness")
    assert time.monotonic() - began < scaled(2.5)
    deaf[0] = False
    one.wait_line("gap")
    assert one.close() == 0
    proxy.close()


def test_user_password_database(make_server, driver, topic):
    server = make_server("user default off", "user opal on >p@ss/w:rd resetchannels &* +@all", name="redis-acl")
    uri = f"redis://opal:p%40ss%2Fw%3Ard@127.0.0.1:{server.port}/3"
    one, two = driver(uri, topic, A).up(), driver(uri, topic, B).up()
    one.say("publish t 1")
    assert two.wait_events(1) == [("t", "1")]
    assert one.close() == 0 and two.close() == 0
    assert "p@ss" not in one.log() and "p%40ss" not in one.log()
    cases.refused_at_the_door(driver, f"redis://opal:hunter2@127.0.0.1:{server.port}", topic,
                              r"Broadcaster listener error \(attempt 1\): AUTH: WRONGPASS", secret="hunter2")
    cases.refused_at_the_door(driver, f"redis://127.0.0.1:{server.port}", topic, r"\(attempt 1\): SUBSCRIBE: NOAUTH")
    three = driver(uri.replace("/3", "/99"), topic).up()  # no such database: channels belong to none
    assert three.close() == 0


def test_user_that_redis_does_not_know(make_server, driver, topic):
    """Hosting services put any name there, and opal-server sends none: the password alone works."""
    server = make_server("requirepass s3cret", name="redis-placeholder")
    one = driver(f"redis://h:s3cret@127.0.0.1:{server.port}", topic).up()
    assert one.log().count("does not accept the user 'h' of the URI with its password, but the password alone") == 1
    one.say("publish n 0")
    one.wait_counts(sent=1)
    assert one.close() == 0
    cases.refused_at_the_door(driver, f"redis://h:hunter2@127.0.0.1:{server.port}", topic, r"\(attempt 1\): AUTH: WRONGPASS", secret="hunter2")


def test_cluster(make_server, driver, topic):
    """One address of a cluster carries the events, whatever database the URI names."""
    server = make_server("cluster-enabled yes", name="redis-cluster")
    with server.connection() as admin:
        admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    one, two = driver(f"{server.uri}/1", topic, A).up(), driver(f"{server.uri}/0", topic, B).up()
    one.say("publish n 0")
    assert two.wait_events(1) == [("n", "0")]
    assert one.close() == 0 and two.close() == 0


def test_answers_that_quote_the_password(driver, topic):
    """A server that does not know AUTH quotes it with its arguments."""
    def behave(connection):
        connection.recv(65536)
        connection.sendall(b"-ERR unknown command 'AUTH', with args beginning with: 'hunter2secret' \r\n")

    fake = FakeServer(behave)
    one = driver(f"redis://:hunter2secret@127.0.0.1:{fake.port}", topic)
    one.wait(lambda: "unknown command 'AUTH', with args beginning with: '*************'" in one.log(), 10, "masked line")
    assert "hunter2" not in one.log()
    one.close()
    fake.close()


def test_password_without_user(make_server, driver, topic):
    server = make_server("requirepass s3cret", name="redis-pass")
    one = driver(f"redis://:s3cret@localhost:{server.port}", topic).up()
    assert one.close() == 0
    cases.refused_at_the_door(driver, f"redis://:hunter2@localhost:{server.port}", topic, r"AUTH: WRONGPASS", secret="hunter2")


def test_publishing_not_permitted(make_server, driver, topic):
    """Subscribing works, publishing does not: nothing is dropped, and it goes on when the permission comes."""
    server = make_server(name="redis-perm")
    with server.connection() as admin:
        admin.execute_command("ACL", "SETUSER", "half", "on", ">pw", "&*", "+subscribe", "+ping")
        one = driver(f"redis://half:pw@127.0.0.1:{server.port}", topic, A)
        two = driver(server.uri, topic, B).up()
        one.say("publish n 0", "publish n 1")
        one.wait(lambda: re.search(r"Broadcaster sender error \(attempt 2\): NOPERM", one.log()), 10, "NOPERM")
        admin.execute_command("ACL", "SETUSER", "half", "+publish")
    cases.settle_numbers(two, 1)
    assert cases.numbers(two) == [0, 1]
    assert one.close() == 0 and two.close() == 0


def test_longer_than_redis_takes(make_server, driver, topic):
    """A lower proto-max-bulk-len: only the event that is too long is given up, what is behind it goes on."""
    server = make_server("proto-max-bulk-len 1mb", name="redis-bulk")
    one, two = driver(server.uri, topic, A, settle=0.3).up(), driver(server.uri, topic, B, settle=0.3).up()
    one.say("publish n 0", 'publish big "%s"' % ("x" * (2 << 20)), "publish n 1")
    cases.settle_numbers(two, 1, 15)
    assert cases.numbers(two) == [0, 1]
    assert one.wait_counts(too_large=1)["too_large"] == 1
    two.wait_line("gap")
    assert one.close() == 0 and two.close() == 0


def test_large_events(server, driver, topic):
    one, two = driver(server.uri, topic, A).up(), driver(server.uri, topic, B).up()
    texts = ['"%s"' % (letter * size) for letter, size in (("a", 10), ("b", 1 << 20), ("c", 10), ("d", 5 << 20), ("e", 1))]
    one.say(*(f"publish t {text}" for text in texts))
    assert [data for _, data in two.wait_events(5, 20)] == texts
    assert one.close() == 0 and two.close() == 0


def test_killed_by_redis(server, driver, topic):
    """CLIENT KILL: the listener comes back at once."""
    one, two = driver(server.uri, topic, A, settle=0.3).up(), driver(server.uri, topic, B, settle=0.3).up()
    server.drop_clients()
    one.wait_line("gap")
    two.wait_line("gap")
    one.say("publish t 1")
    assert two.wait_events(1) == [("t", "1")]
    assert one.close() == 0 and two.close() == 0


# ---- TLS
@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    ca, other = Authority(folder), Authority(folder, "other-ca")
    server = RedisServer(folder, certificate=ca.issue("localhost", "127.0.0.1"), name="redis-tls")
    elsewhere = RedisServer(folder, certificate=ca.issue("elsewhere.example"), name="redis-tls-elsewhere")
    yield ca, other, server, elsewhere
    server.stop()
    elsewhere.stop()


def test_tls(tls, driver, topic):
    ca, _, server, _ = tls
    one = driver(f"rediss://localhost:{server.port}/0?ssl_ca_certs={ca.ca}", topic, A).up()
    two = driver(f"rediss://127.0.0.1:{server.port}?ssl_ca_certs={ca.ca}&ssl_cert_reqs=required", topic, B).up()
    texts = ['"%s"' % (letter * size) for letter, size in (("a", 10), ("b", 1 << 20), ("c", 10))]
    one.say(*(f"publish t {text}" for text in texts), "flood n 5000")
    cases.settle_numbers(two, 4999)
    assert [data for t, data in two.events() if t == "t"] == texts
    assert cases.numbers(two) == list(range(5000))
    assert one.close() == 0 and two.close() == 0


def test_tls_flow_control(tls, driver, topic):
    ca, _, server, _ = tls
    one = driver(f"rediss://localhost:{server.port}?ssl_ca_certs={ca.ca}", topic, A).up()
    two = driver(f"rediss://localhost:{server.port}?ssl_ca_certs={ca.ca}", topic, B).up()
    two.say("pause")
    one.say("flood n 20000")
    one.wait_counts(sent=20000)
    two.say("resume")
    two.wait(lambda: len(cases.numbers(two)) >= 20000, 20, "20,000 events")
    assert cases.numbers(two) == list(range(20000))
    one.say("flood m 3000", "close")
    one.process.wait(scaled(15))
    cases.settle_numbers(two, 2999, topic="m")
    assert two.close() == 0


def test_tls_refusals(tls, driver, topic):
    ca, other, server, elsewhere = tls
    failed = r"\(attempt 1\): TLS handshake with localhost:\d+: certificate verify failed: "
    cases.refused_at_the_door(driver, f"rediss://localhost:{server.port}?ssl_ca_certs={other.ca}", topic, failed)
    cases.refused_at_the_door(driver, f"rediss://localhost:{server.port}", topic, failed)
    cases.refused_at_the_door(driver, f"rediss://localhost:{elsewhere.port}?ssl_ca_certs={ca.ca}", topic, failed + "hostname mismatch")
    cases.refused_at_the_door(driver, f"redis://localhost:{server.port}", topic, r"\(attempt 1\): ")
    cases.refused_at_the_door(driver, f"rediss://opal:hunter2@localhost:{server.port}?ssl_ca_certs={ca.ca}", topic,
                              r"\(attempt 1\): AUTH: WRONGPASS", secret="hunter2")
    one = driver(f"rediss://localhost:{elsewhere.port}?ssl_ca_certs={ca.ca}&ssl_check_hostname=false", topic).up()
    assert one.close() == 0
    one = driver(f"rediss://localhost:{server.port}?ssl_cert_reqs=none", topic).up()
    assert "is not verified" in one.log()
    assert one.close() == 0
    one = driver(f"rediss://localhost:{server.port}?ssl_ca_certs=/nonexistent.pem", topic)
    assert "cannot load the CA certificates /nonexistent.pem" in one.wait_line("error")


def test_plain_server_behind_rediss(server, driver, topic):
    cases.refused_at_the_door(driver, f"rediss://localhost:{server.port}", topic, r"\(attempt 1\): TLS handshake with localhost:\d+: no answer in time", seconds=15)
