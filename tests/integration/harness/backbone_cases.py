"""What must hold for every backbone that keeps nothing: shared by test_redis_backbone.py and test_postgres_backbone.py."""

import itertools
import json
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest

from .backbone_driver import A, B
from .backbones import FakeServer, Proxy, proxied
from .dice import seed
from .paths import SANITIZER, scaled
from .process import freeze


def numbers(driver, topic="n"):
    return [int(data) for t, data in driver.events() if t == topic]


def gaps(driver):
    """Places in `lines` where the backend said that events may have been lost."""
    return [i for i, line in enumerate(driver.lines) if line.startswith("gap ")]


def publish_paced(driver, count, seconds, act=None, topic="n", start=0):
    """`count` numbered events over `seconds`; act(elapsed) is called between batches of a hundredth."""
    batches = 100
    began = time.monotonic()
    for i in range(batches):
        first, last = start + i * count // batches, start + (i + 1) * count // batches
        driver.say(*(f"publish {topic} {n}" for n in range(first, last)))
        if act:
            act(time.monotonic() - began)
        time.sleep(max(0, began + (i + 1) * seconds / batches - time.monotonic()))


def check_numbers(driver, sent, topic="n", may_lose=True):
    """Order (of what is new), duplicates and losses of the events 0..sent-1. Each loss must lie before a gap callback."""
    seen, fresh, duplicates = set(), [], 0
    position = {}
    for i, line in enumerate(list(driver.lines)):
        if not line.startswith(f"event {topic} "):
            continue
        n = int(line.split(" ", 3)[3])
        if n in seen:
            duplicates += 1
            continue
        seen.add(n)
        fresh.append(n)
        position[n] = i
    assert fresh == sorted(fresh), "out of order"
    missing = [n for n in range(sent) if n not in seen]
    assert may_lose or not missing, f"{len(missing)} lost, e.g. {missing[:5]}"
    for n in missing:
        before = max((position[m] for m in (n - 1,) if m in position), default=None)
        if before is None:
            earlier = [m for m in fresh if m < n]
            before = position[earlier[-1]] if earlier else -1
        assert any(g > before for g in gaps(driver)), f"{n} was lost and no gap was told afterwards; gaps: {gaps(driver)}"
    print(f"{len(fresh)} of {sent} received, {len(missing)} lost (told by {len(gaps(driver))} gaps), {duplicates} duplicates")
    return missing, duplicates


def settle_numbers(driver, last, seconds=30, topic="n"):
    """Waits for the number that was sent last."""
    driver.wait(lambda: any(x.startswith(f"event {topic} ") and x.endswith(f" {last}") for x in driver.lines[-50:]), seconds, f"number {last}")


def memory_kib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1))


# ---- cases: `server` is a RedisServer or a PostgresServer
def round_trip(server, driver, channel):
    listener = server.listen(channel)
    one, two = driver(server.uri, channel, A).up(), driver(server.uri, channel, B).up()
    data = '{"z": 9007199254740993, "a": 1.0, "big": 1e400, "é": "\\u00e9", "z": 2,   "n": -0}'
    one.say('publish plain 1', f'publish policy_data/é"x {data}', "publish three null", "publish same 5", "publish same 5")
    assert two.wait_events(5) == [("plain", "1"), ('policy_data/é"x', data), ("three", "null"), ("same", "5"), ("same", "5")]
    assert one.wait_counts(sent=5, own=5)["own"] == 5
    assert one.events() == [], "its own messages came back"
    seen = []
    while len(seen) < 5:
        payload = listener.get()
        if b"opald_heartbeat" in payload:
            assert json.loads(payload)["topics"] == [], "others must be able to ignore it"
        else:
            seen.append(payload.decode())
    assert seen[:3] == [f'{{"notifier_id": "{A}", "topics": ["plain"], "data": 1}}',
                        f'{{"notifier_id": "{A}", "topics": ["policy_data/\\u00e9\\"x"], "data": {data}}}',
                        f'{{"notifier_id": "{A}", "topics": ["three"], "data": null}}']
    assert f"Broadcaster listener connected to channel '{channel}'" in one.log()
    assert one.lines[:2] == ["state CONNECTING", "state UP"]
    assert gaps(one) == gaps(two) == []
    assert one.close() == 0 and two.close() == 0


def what_others_write(server, driver, channel):
    one = driver(server.uri, channel).up()
    bad = [b"", b"not json", b"[1]", b"5", b'{"topics":["t"]}', b'{"notifier_id":null,"topics":["t"]}',
           b'{"notifier_id":"x","topics":"t"}', b'{"notifier_id":"x","topics":[["t"]]}']
    control = [b'{"notifier_id":"x","topics":[]}', b'{"notifier_id":"x","topics":[],"data":{"opald_heartbeat":1}}',
               b'{"notifier_id":"x","topics":[],"opald_resync":5}',
               b'{"notifier_id":"x","topics":[],"data":{"opald_row":-1}}', b'{"notifier_id":"x","topics":[],"data":[1]}']
    for payload in bad + control:
        server.publish(channel, payload)
    for payload in (b'{"notifier_id":"ext","topics":["t"]}', b'{"more":1,"notifier_id":5,"topics":[1,"u"],"data":[1.50]}',
                    b'{"notifier_id":"","topics":["v"],"data":"x"}'):
        server.publish(channel, payload)
    assert one.wait_events(3) == [("t", "null"), ("1,u", "[1.50]"), ("v", '"x"')]
    assert one.wait_counts(rejected=len(bad))["rejected"] == len(bad)
    assert "Failed handling incoming broadcast" in one.log()
    assert gaps(one) == []
    assert one.close() == 0


def resync_asked_by_another(server, driver, channel):
    one = driver(server.uri, channel, settle=0.3).up()
    for _ in range(5):
        server.publish(channel, b'{"notifier_id":"x","topics":[],"data":null,"opald_resync":"12 lost"}')
    one.wait_line("gap")
    time.sleep(1)
    server.publish(channel, b'{"notifier_id":"x","topics":[],"data":null,"opald_resync":"13 lost"}')
    time.sleep(1.5)
    assert len(gaps(one)) == 1, "asked for too often: the second must wait"
    assert "GAP" not in " ".join(one.lines), "the backbone itself was there all the time"
    assert one.close() == 0


def flow_control(server, driver, channel):
    """The receiver can't take events for a while: none is lost, none comes twice, order holds; nobody calls it deaf meanwhile."""
    one, two = driver(server.uri, channel, A).up(), driver(server.uri, channel, B, deadline=2).up()
    two.say("pause")
    one.say("flood n 20000")
    one.wait_counts(sent=20000, seconds=30)
    time.sleep(3)
    assert numbers(two) == []
    two.say("resume")
    two.wait(lambda: len(numbers(two)) >= 20000, 30, "20,000 events")
    assert numbers(two) == list(range(20000))
    assert gaps(two) == [] and "state GAP" not in two.lines
    assert one.close() == 0 and two.close() == 0


def killed_and_restarted(server, driver, channel, away=2.0, count=10000, seconds=8):
    one, two = driver(server.uri, channel, A, settle=1.5).up(), driver(server.uri, channel, B, settle=1.5).up()
    done = []

    def act(elapsed):
        if not done and elapsed > seconds * 0.3:
            server.kill()
            done.append(time.monotonic())
        elif len(done) == 1 and time.monotonic() > done[0] + away:
            server.start()
            done.append(0)

    publish_paced(one, count, seconds, act)
    one.say("publish n %d" % count)
    settle_numbers(two, count)
    two.wait_line("gap")
    one.wait_line("gap")
    assert re.search(r"Replaying \d+ buffered broadcast\(s\) after recovery", one.log())
    assert re.search(r"Broadcast to backbone failed \(.+\); buffered for replay \(\d+/10000\)", one.log())
    assert re.search(r"Broadcaster listener error \(attempt 1\): ", two.log())
    missing, duplicates = check_numbers(two, count + 1)
    assert len(missing) + duplicates < 3000, "only what was on its way at the moment of the kill may be lost or come twice"
    assert len(gaps(two)) == 1
    assert [x for x in two.lines if x.startswith("state")] == ["state CONNECTING", "state UP", "state GAP", "state UP"]
    assert one.close() == 0 and two.close() == 0


def frozen(server, driver, channel, away=10.0):
    """Shorter than the deadline: nothing is lost, nobody reconnects."""
    one, two = driver(server.uri, channel, A).up(), driver(server.uri, channel, B).up()
    done = []

    def act(elapsed):
        if not done and elapsed > 1:
            server.pause()
            done.append(elapsed)
        elif len(done) == 1 and elapsed > done[0] + away:
            server.resume()
            done.append(0)

    try:
        publish_paced(one, 10000, away + 3, act)
    finally:
        server.resume()
    settle_numbers(two, 9999)
    assert check_numbers(two, 10000, may_lose=False) == ([], 0)
    assert gaps(one) == gaps(two) == []
    assert one.close() == 0 and two.close() == 0


def frozen_too_long(server, driver, channel):
    """Longer than the deadline: noticed in time, told, and all well afterwards."""
    one, two = driver(server.uri, channel, A, deadline=2, settle=1.5).up(), driver(server.uri, channel, B, deadline=2, settle=1.5).up()
    server.pause()
    began = time.monotonic()
    try:
        two.wait_line("state GAP", 4)
        assert time.monotonic() - began < scaled(2.3), "deaf for longer than the deadline"
        one.say("publish n 0", "publish n 1")
        time.sleep(1)
    finally:
        server.resume()
    two.wait_line("gap", 30)
    settle_numbers(two, 1)
    assert re.search(r"Broadcaster listener error \(attempt 1\): no sign of life for \d", two.log())
    check_numbers(two, 2)
    assert one.close() == 0 and two.close() == 0


def cut_every_second(server, driver, channel, settle, seconds=8):
    """Settling longer than the cuts are apart: everything waits for the end. Settling shorter: sent in between, with messages in flight at each cut."""
    proxy_one, uri_one = proxied(server)
    proxy_two, uri_two = proxied(server)
    one, two = driver(uri_one, channel, A, settle=settle).up(), driver(uri_two, channel, B, settle=settle).up()
    cuts = [0]

    def act(elapsed):
        if elapsed > cuts[0] + 1:
            cuts[0] = elapsed
            proxy_one.cut()
            proxy_two.cut()

    publish_paced(one, 10000, seconds, act)
    settle_numbers(two, 9999)
    two.wait_line("gap")
    check_numbers(two, 10000)
    assert len(gaps(two)) <= (2 if settle > 1 else seconds + 1), "clients were thrown out at each cut instead of once"
    for proxy in (proxy_one, proxy_two):
        assert proxy.accepted < 2 + seconds * 8, "a busy loop"
    assert one.close() == 0 and two.close() == 0
    proxy_one.close()
    proxy_two.close()


def half_open(server, driver, channel):
    """The connections stay open but carry nothing: as after a failover behind a load balancer."""
    proxy, uri = proxied(server)
    one, two = driver(uri, channel, A, deadline=2, settle=0.5).up(), driver(server.uri, channel, B, settle=0.5).up()
    proxy.swallow()
    began = time.monotonic()
    one.say("publish n 0", "publish n 1")
    two.say("publish n 2")
    one.wait_line("state GAP", 5)
    assert time.monotonic() - began < scaled(2.3)
    one.wait_line("gap")
    settle_numbers(two, 1)
    assert numbers(two) == [0, 1], "sent once, after the return"
    assert numbers(one) == [], "this one is lost, and the gap told so"
    two.say("publish n 3")
    settle_numbers(one, 3)
    assert gaps(two) == []
    assert one.close() == 0 and two.close() == 0
    proxy.close()


def replay_buffer_overflows(server, driver, channel):
    proxy, uri = proxied(server)
    one, two = driver(uri, channel, A, replay=5, settle=0.5).up(), driver(server.uri, channel, B, settle=0.5).up()
    proxy.refuse(True)
    proxy.cut()
    one.wait_line("state GAP")
    one.say(*(f"publish n {i}" for i in range(20)))
    assert one.wait_counts(send_failed=15)["send_failed"] == 15
    assert "OVERFLOW of the replay buffer: the oldest is dropped" in one.log()
    assert re.search(r"buffered for replay \(1/5\)", one.log())
    proxy.refuse(False)
    settle_numbers(two, 19)
    assert numbers(two) == list(range(15, 20)), "the newest, in order"
    two.wait_line("gap")  # two's connection held all the time: it was told by one
    assert "asking the other servers to have their clients refetch: 15 events never reached them" in one.log()
    assert "another server asks for a resync: 15 events of this server could not be sent" in two.log()
    assert one.close() == 0 and two.close() == 0
    proxy.close()


def no_replay_buffer(server, driver, channel):
    proxy, uri = proxied(server)
    one, two = driver(uri, channel, A, replay=0, settle=0.3).up(), driver(server.uri, channel, B, settle=0.3).up()
    proxy.refuse(True)
    proxy.cut()
    one.wait_line("state GAP")
    one.say("publish n 0", "publish n 1")
    one.wait_line("refused ENOBUFS", count=2)
    proxy.refuse(False)
    one.wait_line("state UP", count=2)
    two.wait_line("gap")
    one.say("publish n 2")
    settle_numbers(two, 2)
    assert numbers(two) == [2]
    assert one.close() == 0 and two.close() == 0
    proxy.close()


def no_reconnect(server, driver, channel):
    proxy, uri = proxied(server)
    one = driver(uri, channel, A, no_reconnect=1).up()
    accepted = proxy.accepted
    proxy.cut()
    one.wait(lambda: "reconnecting is switched off (OPAL_BROADCAST_RECONNECT_ENABLED)" in one.log(), 5, "the line")
    time.sleep(1)
    assert proxy.accepted == accepted
    assert one.lines[-1] == "state LOST"
    one.close()
    proxy.close()


def attempts_used_up(server, driver, channel):
    """After so many failures in a row it gives up for good, whether it was connected before or not; fewer are forgiven."""
    proxy, uri = proxied(server)
    one = driver(uri, channel, A, max_retries=3, settle=0.1).up()
    for returns in (2, 3):
        proxy.cut()
        one.wait_line("state UP", count=returns)
        time.sleep(0.5)  # a connection counts once something came through
    proxy.refuse(True)
    proxy.cut()
    fresh = driver(uri, channel, B, max_retries=3)
    for each, before in ((one, "GAP"), (fresh, "CONNECTING")):
        each.wait_line("state LOST")
        states = [x for x in each.lines if x.startswith("state")]
        assert states[-2] == f"state {before}", states
        assert "Broadcaster reconnect exhausted after 3 attempts; giving up so the server can restart" in each.log()
        assert "(attempt 3)" in each.log() and "(attempt 4)" not in each.log()
    accepted = proxy.accepted
    proxy.refuse(False)
    time.sleep(1.5)
    assert proxy.accepted == accepted, "it goes on trying"
    one.close()
    fresh.close()
    proxy.close()


def not_there_at_first(server, driver, channel):
    """Not up at the start: what is published meanwhile goes out on arrival. Whether clients were served meanwhile is the server's knowledge: no gap is told."""
    server.kill()
    # the settle time is longer than the longest backoff: nobody misses the replay
    one, two = driver(server.uri, channel, A, settle=1.5), driver(server.uri, channel, B, settle=1.5)
    one.say("publish n 0", "publish n 1")
    time.sleep(2.5)
    for each in (one, two):
        assert each.lines == ["state CONNECTING"]
        attempts = len(re.findall(r"Broadcaster listener error \(attempt \d+\)", each.log()))
        assert 2 <= attempts <= 12, f"{attempts} attempts in 2.5 s with a backoff from 0.1 to 1 s"
    server.start()
    settle_numbers(two, 1)
    assert numbers(two) == [0, 1]
    time.sleep(2)
    assert gaps(one) == gaps(two) == []
    assert one.close() == 0 and two.close() == 0


def this_process_stands_still(server, driver, channel):
    """Stopped, or the machine slept: longer than the deadline, and yet no sign that the backbone is deaf."""
    one, two = driver(server.uri, channel, A).up(), driver(server.uri, channel, B, deadline=2).up()
    freeze(two.process.pid)
    one.say(*(f"publish n {i}" for i in range(100)))
    time.sleep(4)
    two.process.send_signal(signal.SIGCONT)
    settle_numbers(two, 99)
    time.sleep(2.5)
    assert numbers(two) == list(range(100))
    assert "error (attempt" not in two.log() and gaps(two) == []
    assert one.close() == 0 and two.close() == 0


def name_that_does_not_exist(server, driver, channel):
    uri = server.uri.replace("127.0.0.1", "no-such-host.invalid")
    one = driver(uri, channel)
    one.wait(lambda: "cannot resolve 'no-such-host.invalid'" in one.log(), 20, "the line")
    began = time.monotonic()
    one.counts()  # the loop answers while the name service is asked
    assert time.monotonic() - began < 1
    assert one.close() == 0


def refused_at_the_door(driver, uri, channel, wanted, secret=None, seconds=10):
    """Wrong password, wrong CA and the like: a clear line, backoff, nothing secret in the log."""
    one = driver(uri, channel)
    one.wait(lambda: re.search(wanted, one.log()), seconds, f"line {wanted!r}")
    time.sleep(2)
    attempts = len(re.findall(r"Broadcaster listener error \(attempt \d+\)", one.log()))
    assert 1 <= attempts <= 12, f"{attempts} attempts"
    assert "Broadcaster sender error" not in one.log(), "everything is said twice"
    assert not secret or secret not in one.log()
    assert one.lines == ["state CONNECTING"]
    one.close()
    return one.log()


def killed_at_any_moment(server, driver, channel):
    """Killed or frozen while connecting, settling, replaying, sending: whatever the moment, it comes back, keeps its order, and tells of each loss."""
    chance = random.Random(seed())
    one, two = driver(server.uri, channel, A, settle=0.3, deadline=2).up(), driver(server.uri, channel, B, settle=0.3, deadline=2).up()
    sent = 0
    for _ in range(8):
        for one_of_many in range(5):
            one.say(*(f"publish n {n}" for n in range(sent, sent + 40)))
            sent += 40
            time.sleep(chance.random() * 0.15)
        if chance.random() < 0.3:
            server.pause()
            time.sleep(chance.random() * 2.5)
            server.resume()
        else:
            server.kill()
            server.start()
    deadline = time.monotonic() + scaled(40)
    while sent - 1 not in numbers(two)[-50:]:  # what was sent before the last return of both may be lost, and is told
        assert time.monotonic() < deadline, (two.lines[-5:], one.log()[-2000:], two.log()[-2000:])
        one.say(f"publish n {sent}")
        sent += 1
        time.sleep(0.3)
    two.wait_line("gap", 20)
    one.wait_line("gap", 20)
    time.sleep(1.5)  # the last gap's
    check_numbers(two, sent)
    assert one.close() == 0 and two.close() == 0


GARBAGE = bytes(random.Random(4).randrange(256) for _ in range(65536))
NONSENSE = {
    "redis": [GARBAGE, bytes(65536), b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$2147483647\r\nxxxx", b"$9223372036854775807\r\n", b"$-99\r\n",
              b"*2147483647\r\n", b"*9223372036854775807\r\n", b"*-5\r\n", b"*1\r\n" * 100000, b":" + b"9" * 10000 + b"\r\n",
              b"-ERR " + b"x" * (1 << 20) + b"\r\n", b"*3\r\n$7\r\nmessage\r\n:1\r\n*0\r\n", b"*0\r\n$-1\r\n*-1\r\n"],
    "postgres": [GARBAGE, bytes(65536), b"HTTP/1.1 400 Bad Request\r\n\r\n", b"R\x7f\xff\xff\xff", b"R\0\0\0\0", b"E\0\0\0\4",
                 b"E\x7f\xff\xff\xff", b"Z\0\0\0\5I", b"R\0\0\0\x08\0\0\0\0A\x7f\xff\xff\xff", b"R\0\0\0\x08\xff\xff\xff\xff",
                 b"E\0\x10\0\4" + b"S" * (1 << 20), b"A\0\0\0\5x", b"T\x7f\xff\xff\xff\xff\xff", b"G\0\0\0\4" * 1000],
}


def endless(connection):
    while True:
        connection.sendall(b"x" * 65536)


def drip(connection):
    for byte in itertools.repeat(b"+"):
        connection.sendall(byte)
        time.sleep(0.1)


def nonsense_from_the_start(server, driver, channel):
    """Whatever answers at that port is no backbone: an error and backoff for each, bounded memory, and the loop runs."""
    behaviours = [lambda c, text=text: c.sendall(text) for text in NONSENSE[server.scheme]] + [endless, drip, lambda c: None, lambda c: c.close()]
    fakes = [FakeServer(behaviour) for behaviour in behaviours]
    drivers = [driver(server.uri_by(fake.port), channel, deadline=2) for fake in fakes]
    try:
        for number, one in enumerate(drivers):
            one.wait(lambda: "Broadcaster listener error (attempt 1)" in one.log(), 25, f"error with number {number}")
        for number, (one, fake) in enumerate(zip(drivers, fakes)):
            assert one.counts()["sent"] == 0
            attempts = len(re.findall(r"Broadcaster listener error \(attempt", one.log()))
            assert memory_kib(one.process.pid) < 64 * 1024 or SANITIZER, f"number {number}: {memory_kib(one.process.pid)} KiB"
            assert fake.accepted <= 4 * attempts + 4, "a busy loop"
            assert [x for x in one.lines if x.startswith("state")] == ["state CONNECTING"], (number, one.lines, one.log()[-1500:])
            assert all(len(line) < 1200 for line in one.log().splitlines()), "what came is poured into the log"
            one.close()
    finally:
        for fake in fakes:
            fake.close()


def nonsense_in_the_middle(server, driver, channel):
    """A connection that worked turns mad: given up, told as a gap, and well again with the next one."""
    now = [None]
    proxy = Proxy(server.port, lambda direction, data: now[0] if now[0] is not None and direction == "down" else data)
    one = driver(server.uri_by(proxy.port), channel, A, deadline=2, settle=0).up()
    two = driver(server.uri, channel, B).up()
    for number, text in enumerate(NONSENSE[server.scheme]):
        ups = sum(x == "state UP" for x in one.lines)
        now[0] = text
        one.say(f"publish n {number}")
        one.wait(lambda: sum(x == "state UP" for x in one.lines) > ups or one.lines[-1] == "state GAP", 15, f"end of the connection, number {number}")
        now[0] = None
        one.wait(lambda: sum(x == "state UP" for x in one.lines) > ups, 20, f"return from number {number}")
    one.wait_line("gap")  # told when it was the listener; a sender that turned mad alone has missed nothing
    settle_numbers(two, len(NONSENSE[server.scheme]) - 1)
    assert sorted(set(numbers(two))) == list(range(len(NONSENSE[server.scheme]))), "own events are kept over it"
    for again in range(20):  # what is sent before it has noticed that it was made deaf is lost, and told as a gap
        two.say(f"publish n {1000 + again}")
        time.sleep(0.5)
        if 1000 + again in numbers(one):
            break
    assert max(numbers(one)) >= 1000
    assert memory_kib(one.process.pid) < 64 * 1024 or SANITIZER
    two.wait_counts(20, sent=again + 1)  # acknowledged
    one.close()  # whose last event may still wait for its acknowledgement, after the nonsense that its sender got
    assert two.close() == 0, two.log()[-3000:]
    proxy.close()


def close_sends_what_is_queued(server, driver, channel):
    one, two = driver(server.uri, channel, A).up(), driver(server.uri, channel, B).up()
    one.say("flood n 5000", "close")
    one.process.wait(scaled(15))
    one.reader.join(5)
    assert one.lines[-1] == "closed 0"
    settle_numbers(two, 4999)
    assert numbers(two) == list(range(5000))
    server.pause()
    two.say("publish n 1", "publish n 2")
    time.sleep(0.3)
    began = time.monotonic()
    two.say("close")
    two.process.wait(scaled(15))
    server.resume()
    two.reader.join(5)
    assert two.lines[-1] == "closed 2", two.lines[-3:]
    assert 2.5 < time.monotonic() - began < scaled(6), "the grace time is 3 s"


def a_thousand_reconnects(server, driver, channel):
    """Memory stays flat; each return is counted."""
    proxy, uri = proxied(server)
    one = driver(uri, channel, A, settle=0, backoff_min=0.01, backoff_max=0.01).up()
    total = 1000 if not SANITIZER else 200
    early = None
    for i in range(total):
        before = sum(line == "state UP" for line in one.lines)
        proxy.cut()
        one.say(f"publish n {i}")
        one.wait(lambda: sum(line == "state UP" for line in one.lines) > before, 10, "return")
        if i == total // 5:
            early = memory_kib(one.process.pid)
    late = memory_kib(one.process.pid)
    counts = one.wait_counts(sent=total)
    print(f"VmRSS {early} KiB after {total // 5} reconnects, {late} KiB after {total}; {counts}")
    assert counts["reconnect"] >= total * 0.95 and counts["send_failed"] == 0
    assert SANITIZER or late - early < 300, "memory grows"
    assert len(os.listdir(f"/proc/{one.process.pid}/fd")) < 30, "descriptors leak"
    assert one.close() == 0
    proxy.close()


# ---- what both test files run
UNHURT = [round_trip, what_others_write, resync_asked_by_another, flow_control, half_open, replay_buffer_overflows, no_replay_buffer, no_reconnect,
          attempts_used_up, name_that_does_not_exist, this_process_stands_still, nonsense_from_the_start, nonsense_in_the_middle]
HURT = [killed_and_restarted, frozen, frozen_too_long, not_there_at_first, close_sends_what_is_queued, killed_at_any_moment]


def shared_tests(server_class):
    """The fixtures `server` (for all tests of the module), `own_server` (one that the test may hurt) and `make_server` (with settings of the test's own),
    and the tests that hold for every backbone that keeps nothing; for the namespace of a test module."""
    @pytest.fixture(scope="module")
    def server(tmp_path_factory):
        made = server_class(tmp_path_factory.mktemp(server_class.scheme))
        yield made
        made.stop()

    @pytest.fixture
    def own_server(work):
        made = server_class(work, name="own")
        yield made
        made.stop()

    @pytest.fixture
    def make_server(work):
        made = []
        yield lambda *settings, **options: made.append(server_class(work, *settings, **options)) or made[-1]
        for one in made:
            one.stop()

    @pytest.mark.parametrize("case", UNHURT, ids=lambda case: case.__name__)
    def test_case(server, driver, topic, case):
        case(server, driver, topic)

    @pytest.mark.limit(60)
    @pytest.mark.parametrize("case", HURT, ids=lambda case: case.__name__)
    def test_hurt(own_server, driver, topic, case):
        case(own_server, driver, topic)

    @pytest.mark.limit(60)
    @pytest.mark.parametrize("settle", [1.5, 0.2])
    def test_cut_every_second(server, driver, topic, settle):
        cut_every_second(server, driver, topic, settle)

    @pytest.mark.limit(240)
    def test_a_thousand_reconnects(server, driver, topic):
        a_thousand_reconnects(server, driver, topic)

    return {one.__name__: one for one in (server, own_server, make_server, test_case, test_hurt, test_cut_every_second, test_a_thousand_reconnects)}
