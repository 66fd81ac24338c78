"""The Postgres backbone alone (broadcast/), through the driver, against real Postgres servers."""

import json
import re
import subprocess
import threading
import time

import pytest

from harness import backbone_cases as cases
from harness.backbone_driver import A, B, driver  # noqa: F401 (a fixture)
from harness.backbones import Authority, PgBouncer, PostgresServer, proxied
from harness.paths import scaled
from harness.ports import free_port


globals().update(cases.shared_tests(PostgresServer))


def sized(length, letter="x"):
    """The data of an event on topic t whose message has exactly `length` bytes."""
    empty = f'{{"notifier_id": "{A}", "topics": ["t"], "data": ""}}'
    return '"%s"' % (letter * (length - len(empty)))


def test_around_8000_bytes(server, driver, topic):
    """Up to 7,999 bytes every kind of server can read it; above, ours can; order is kept throughout."""
    listener = server.listen(topic)
    one, two = driver(server.uri, topic, A).up(), driver(server.uri, topic, B).up()
    texts = [sized(7998), sized(7999), "1", sized(8000), "2", sized(8001), sized(1 << 20, "y"), sized(100), sized(5 << 20, "z"), "3"]
    one.say(*(f"publish t {text}" for text in texts))
    assert [data for _, data in two.wait_events(len(texts), 30)] == texts
    seen = []
    while len(seen) < len(texts):
        payload = listener.get()
        if b"opald_heartbeat" not in payload:
            seen.append(json.loads(payload))
    assert [len(x["topics"]) for x in seen] == [1, 1, 1, 0, 1, 0, 0, 1, 0, 1], "a row is named by a message without topics"
    assert set(seen[3]["data"]) == {"opald_row"}
    assert cases.gaps(two) == [] and one.wait_counts(own=len(texts))["too_large"] == 0
    assert one.close() == 0 and two.close() == 0


def test_many_large_events(server, driver, topic):
    one, two = driver(server.uri, topic, A).up(), driver(server.uri, topic, B).up()
    texts = ['"%s%d"' % ("x" * (9000 if i % 3 else 10), i) for i in range(600)]
    one.say(*(f"publish t {text}" for text in texts))
    assert [data for _, data in two.wait_events(len(texts), 30)] == texts
    assert one.close() == 0 and two.close() == 0


def test_large_events_while_cut(server, driver, topic):
    """The connection that fetches rows dies in between: fetched on the next one, nothing is skipped."""
    proxy, uri = proxied(server)
    one, two = driver(server.uri, topic, A, settle=0.3).up(), driver(uri, topic, B, settle=0.3).up()
    for round_ in range(6):
        one.say(*('publish n %d' % n if n % 2 else 'publish n %d%s' % (n, " " * 9000) for n in range(round_ * 50, round_ * 50 + 50)))
        time.sleep(0.05)
        proxy.cut()
        time.sleep(0.5)
    one.say("publish n 300")
    cases.settle_numbers(two, 300)
    two.wait_line("gap")
    cases.check_numbers(two, 301)
    assert "is not there" not in two.log()
    assert one.close() == 0 and two.close() == 0
    proxy.close()


def test_old_rows_are_removed(server, driver, topic):
    """Ten times the deadline old: gone at the next cleaning."""
    one = driver(server.uri, topic, A, deadline=0.4).up()
    one.say("publish t " + sized(9000))
    one.wait_counts(sent=1)
    mine = f"SELECT count(*) FROM opald.events WHERE payload LIKE '%{A}%' AND length(payload) = 9000"
    assert server.sql(mine) >= "1"
    one.wait(lambda: server.sql(mine) == "0", 15, "cleaning")
    assert one.close() == 0


def test_row_that_is_gone(server, driver, topic):
    one = driver(server.uri, topic, settle=0.3).up()
    server.publish(topic, b'{"notifier_id":"x","topics":[],"data":{"opald_row":987654321}}')
    server.publish(topic, b'{"notifier_id":"x","topics":["t"],"data":1}')
    assert one.wait_events(1) == [("t", "1")]
    one.wait_line("gap")
    assert "the row 987654321 of a large event is not there" in one.log()
    assert one.close() == 0


def test_table_dropped_while_running(server, driver, topic):
    environment = {"DRIVER_SCHEMA": "dropped"}
    one, two = driver(server.uri, topic, A, environment).up(), driver(server.uri, topic, B, environment).up()
    server.sql("DROP SCHEMA dropped CASCADE")
    one.say("publish t " + sized(9000), "publish t 2")
    assert [len(d) for _, d in two.wait_events(2, 15)] == [len(sized(9000)), 1]
    assert one.close() == 0 and two.close() == 0


def test_table_that_cannot_be_had(server, driver, topic):
    """No permission to create: the limit is NOTIFY's, a larger event is refused, nothing is half delivered."""
    server.sql("CREATE ROLE poor LOGIN PASSWORD 'pw'")
    uri = f"postgres://poor:pw@127.0.0.1:{server.port}/postgres"
    environment = {"DRIVER_SCHEMA": 'my "schema"'}
    one, two = driver(uri, topic, A, environment).up(), driver(uri, topic, B, environment).up()
    assert re.search(r'WARNING.*the table "my ""schema""".events for large events can\'t be had \(.*permission denied.*events above 7999 bytes are refused',
                     one.log())
    one.say("publish t " + sized(8000), "publish t " + sized(7999), "publish t 2")
    one.wait_line("refused EMSGSIZE")
    assert [len(d) for _, d in two.wait_events(2)] == [len(sized(7999)), 1]
    assert one.wait_counts(too_large=1)["sent"] <= 2
    assert one.close() == 0 and two.close() == 0
    # with the permission it works from the next connection on
    server.sql('CREATE SCHEMA "my ""schema"""; GRANT USAGE, CREATE ON SCHEMA "my ""schema""" TO poor')
    one, two = driver(uri, topic, A, environment).up(), driver(uri, topic, B, environment).up()
    one.say("publish t " + sized(8000))
    assert len(two.wait_events(1)[0][1]) == len(sized(8000))
    assert one.close() == 0 and two.close() == 0


def test_channel_names(server, driver):
    for channel in ("EventNotifier", 'with "quotes" and \'these\'', "käse", "select", "x" * 63):
        one, two = driver(server.uri, channel, A).up(), driver(server.uri, channel, B).up()
        other = driver(server.uri, channel.swapcase(), "c" * 32).up()
        one.say("publish t 1", "publish t " + sized(9000))
        assert len(two.wait_events(2)) == 2
        assert other.events() == [], "the name's case matters"
        assert one.close() == 0 and two.close() == 0 and other.close() == 0
    one = driver(server.uri, "x" * 64)
    assert "has 64 bytes: Postgres takes 1 to 63" in one.wait_line("error")


def test_two_connections(server, driver, topic):
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'counted'"
    one = driver(server.uri + "?application_name=counted", topic).up()
    one.say("flood n 2000")
    one.wait_counts(sent=2000)
    assert server.sql(count) == "2"
    assert one.close() == 0


def test_idle_session_timeout(make_server, driver, topic):
    """A quiet session is no failure."""
    server = make_server("idle_session_timeout = 700", name="postgres-idle")
    one, two = driver(server.uri, topic, A).up(), driver(server.uri, topic, B).up()
    time.sleep(2.5)
    one.say("publish t 1")
    assert two.wait_events(1) == [("t", "1")]
    assert "error (attempt" not in one.log() + two.log()
    assert one.close() == 0 and two.close() == 0


def test_terminated_by_the_administrator(server, driver, topic):
    one, two = driver(server.uri, topic, A, settle=0.3).up(), driver(server.uri, topic, B, settle=0.3).up()
    server.drop_clients()
    one.wait_line("gap")
    two.wait_line("gap")
    assert "terminating connection due to administrator command" in one.log()
    one.say("publish t 1")
    assert two.wait_events(1) == [("t", "1")]
    assert one.close() == 0 and two.close() == 0


def test_only_the_sender_is_lost(server, driver, topic):
    """The listener heard everything: no gap, no resync, no settle time."""
    one, two = driver(server.uri, topic, A, settle=30).up(), driver(server.uri, topic, B, settle=30).up()
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_notify%' AND pid <> pg_backend_pid()")
    one.say("publish n 0")
    cases.settle_numbers(two, 0, 5)
    assert cases.gaps(one) == [] and "state GAP" in one.lines
    assert re.search(r"Broadcaster sender error \(attempt 1\): ", one.log())
    assert one.close() == 0 and two.close() == 0


def test_several_hosts(server, driver, topic):
    """A dead port, a name that does not exist, a proxy that accepts and is silent, and at last the real one."""
    silent, _ = proxied(server, lambda direction, data: None)
    hosts = f"127.0.0.1:{free_port()},no-such-host.invalid:1,127.0.0.1:{silent.port},127.0.0.1:{server.port}"
    options = "?connect_timeout=1&target_session_attrs=read-write&keepalives_idle=5&sslmode=disable&statement_timeout=5000"
    one, two = driver(f"postgresql://postgres@{hosts}/postgres{options}", topic, A), driver(server.uri, topic, B).up()
    one.up(20)
    one.say("publish t 1")
    assert two.wait_events(1) == [("t", "1")]
    assert "error (attempt" not in one.log()
    assert one.close() == 0 and two.close() == 0
    silent.close()


def test_failover(make_server, driver, topic):
    """The primary dies, its standby is promoted: the server goes to whichever of its hosts takes writes, with all that it kept, large events included."""
    primary = make_server("wal_level = replica", "max_wal_senders = 4", name="primary")
    standby = make_server(name="standby", standby_of=primary)
    uri = f"postgres://postgres@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres?target_session_attrs=read-write&connect_timeout=2"
    one, two = driver(uri, topic, A, settle=1).up(), driver(uri, topic, B, settle=1).up()
    one.say("publish n 0", "publish n 1" + " " * 9000)
    cases.settle_numbers(two, 1)
    one.wait_counts(sent=2)  # without the acknowledgement they would rightly be sent again
    primary.kill()
    one.wait_line("state GAP")
    one.say("publish n 2" + " " * 9000, "publish n 3")
    one.wait(lambda: re.search(r"error \(attempt 2\): .*session is (?:read-only|not read-write)", one.log()), 10, "word of the standby")
    standby.promote()
    one.wait_line("state UP", count=2)
    two.wait_line("gap", 15)
    cases.settle_numbers(two, 3)
    assert cases.numbers(two) == [0, 1, 2, 3]
    two.say("publish n 4")
    cases.settle_numbers(one, 4)
    assert one.close() == 0 and two.close() == 0


def test_server_in_recovery(server, driver, topic):
    """LISTEN is refused on a standby; so is a sender. (default_transaction_read_only stands in for target_session_attrs.)"""
    server.sql("CREATE DATABASE readonly")
    server.sql("ALTER DATABASE readonly SET default_transaction_read_only = on")
    cases.refused_at_the_door(driver, f"postgres://postgres@127.0.0.1:{server.port}/readonly?target_session_attrs=read-write", topic,
                              r"\(attempt 1\): .*session is read-only")


# ---- a connection pooler in between
@pytest.fixture
def pooler(work, server):
    made = []
    yield lambda mode: made.append(PgBouncer(work, server, mode)) or made[-1]
    for one in made:
        one.stop()


POOLED = "don't pass a connection pooler in transaction mode (pgbouncer): name its session pool or the port of Postgres itself"


@pytest.mark.parametrize("others", [0, 3])
def test_pooler_in_transaction_mode(server, pooler, driver, topic, others):
    """All statements succeed and nothing arrives: found within ten seconds, never called up, and no event is called sent."""
    pool = pooler("transaction")
    for _ in range(others):  # other users of the pool, so that it has several sessions to give
        threading.Thread(target=subprocess.run, args=(["psql", server.uri_by(pool.port), "-c", "SELECT pg_sleep(2)"],),
                         kwargs={"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}, daemon=True).start()
    began = time.monotonic()
    one = driver(server.uri_by(pool.port), topic)
    one.say("ask n 0")
    one.wait(lambda: POOLED in one.log(), 10, "the reason and the way out")
    assert time.monotonic() - began < scaled(10)
    assert re.search(r"\|ERROR +\| .*" + re.escape(POOLED), one.log())
    time.sleep(3)
    assert [line for line in one.lines if line.startswith(("state", "acknowledged"))] == ["state CONNECTING"]
    assert one.counts()["sent"] == 0
    one.close()


def test_pooler_in_session_mode(server, pooler, driver, topic):
    uri = server.uri_by(pooler("session").port)
    one, two = driver(uri, topic, A).up(), driver(uri, topic, B).up()
    one.say("publish n 0", f"publish t {sized(9000)}")
    assert two.wait_events(2) == [("n", "0"), ("t", sized(9000))]
    assert one.close() == 0 and two.close() == 0


def test_server_behind_a_pooler_in_transaction_mode(server, pooler, opald, topic):
    """As in an outage: /readyz 503, and who waits for the acknowledgement is told that there is none."""
    made = opald(broadcast_uri=server.uri_by(pooler("transaction").port), channel=topic,
                 env={"OPAL_BROADCAST_START_WAIT_SECONDS": "0", "OPAL_PUBLISH_WAIT_SECONDS": "1"})
    made.wait_for_log(re.escape(POOLED), 10)
    assert made.request("GET", "/readyz").status == 503
    entry = {"url": "http://x/", "topics": ["t"], "dst_path": "/a"}
    assert made.request("POST", "/data/config", json={"entries": [entry]}).status == 200
    assert made.request("POST", "/data/config?wait=backbone", json={"entries": [entry]}).status in (503, 504)


def test_passwords(server, driver, topic):
    server.sql("CREATE ROLE opal LOGIN PASSWORD 'p@ss/w:rd'; GRANT CREATE ON DATABASE postgres TO opal")
    one = driver(f"postgresql://opal:p%40ss%2Fw%3Ard@localhost:{server.port}/postgres", topic).up()
    assert one.close() == 0
    assert "p@ss" not in one.log() and "p%40ss" not in one.log()
    log = cases.refused_at_the_door(driver, f"postgres://opal:hunter2@localhost:{server.port}/postgres", topic,
                                    r"\(attempt 1\): .*password authentication failed for user \"opal\"", secret="hunter2")
    assert all("\n" not in line for line in log.splitlines())
    cases.refused_at_the_door(driver, f"postgres://postgres@localhost:{server.port}/nonesuch", topic, r'database "nonesuch" does not exist')
    cases.refused_at_the_door(driver, server.uri + "?no_such_setting=1", topic, r'unrecognized configuration parameter "no_such_setting"')


def test_database_that_is_not_utf8(server, driver, topic):
    """Its encoding has no place for most characters: the message is sent in ASCII, which means the same."""
    server.sql("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    uri = server.uri_by(server.port, "latin")
    one, two = driver(uri, topic, A).up(), driver(uri, topic, B).up()
    one.say('publish t {"é": "日本 \U0001f600"}', "publish t 2")
    events = two.wait_events(2)
    assert json.loads(events[0][1]) == {"é": "日本 \U0001f600"} and events[0][1].isascii()
    assert one.close() == 0 and two.close() == 0


# ---- TLS
@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    ca, other = Authority(folder), Authority(folder, "other-ca")
    server = PostgresServer(folder, certificate=ca.issue("localhost"), name="postgres-tls")
    yield ca, other, server
    server.stop()


def test_tls(tls, driver, topic):
    ca, other, server = tls
    uri = f"postgres://postgres@localhost:{server.port}/postgres"
    one = driver(f"{uri}?sslmode=verify-full&sslrootcert={ca.ca}", topic, A).up()
    two = driver(f"{uri}?sslmode=require", topic, B).up()
    one.say("publish t 1", "publish t " + sized(1 << 20), "flood n 3000")
    cases.settle_numbers(two, 2999)
    assert len(two.events()[1][1]) == len(sized(1 << 20)) and cases.numbers(two) == list(range(3000))
    assert one.close() == 0 and two.close() == 0
    cases.refused_at_the_door(driver, f"{uri}?sslmode=verify-full&sslrootcert={other.ca}", topic, r"\(attempt 1\): .*certificate verify failed")
    cases.refused_at_the_door(driver, f"postgres://postgres@127.0.0.1:{server.port}/postgres?sslmode=verify-full&sslrootcert={ca.ca}", topic,
                              r'\(attempt 1\): .*server certificate for "localhost".* does not match host name "127.0.0.1"')
    server_uri = f"postgres://opal:hunter2@localhost:{server.port}/postgres?sslmode=verify-full&sslrootcert={ca.ca}"
    cases.refused_at_the_door(driver, server_uri, topic, r"\(attempt 1\): .*password authentication failed", secret="hunter2")
    cases.refused_at_the_door(driver, f"{uri}?sslmode=disable", topic, r"\(attempt 1\): .*no encryption")
